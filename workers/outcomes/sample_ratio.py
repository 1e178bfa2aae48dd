"""The sample-ratio check: do the arms get new users in the shares that were set?

If they do not, something loses or moves users of some arms only, such as an arm whose feeds fail.
Then no other number of the experiment can be trusted.

The check is the sequential multinomial test of Lindon and Malek (2022), Anytime-valid inference for
multinomial count data. It may be looked at as often as one likes.

Rules:
1. Only a user's first feed under the salt counts: only then is the arm drawn independently.
2. Each phase has its own shares and its own Bayes factor. The factors of the phases are multiplied,
   which keeps the guarantee, because each phase is about other users.
3. An arm without a share must not get users. If it does, the check fails at once.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ALARM = 0.001
"""The check fails with at most this probability, at all looks together, if nothing is wrong."""
CONCENTRATION = 10_000
"""How closely the prior of the alternative holds to the shares: for a share of 50 % its standard
deviation is half a percentage point. Larger deviations are found too, with fewer users.
"""


@dataclass(frozen=True)
class PhaseUsers:
    """New users by arm in one phase, and the share of each arm, in any unit.

    Arms without a share may be left out of `shares`, arms without users out of `users`.
    """

    users: Mapping[str, int]
    shares: Mapping[str, int]


def log_bayes_factor(phase: PhaseUsers) -> float:
    """How much better other shares explain the users of one phase than those that were set.

    With p_k the share and n_k the users of arm k, N = sum(n_k), c = 10,000, alpha_k = c p_k:

        lgamma(c) - lgamma(c + N) + sum(lgamma(alpha_k + n_k) - lgamma(alpha_k)) - sum(n_k ln p_k)

    0 without users. Infinite if an arm without a share has users.
    """
    whole = sum(phase.shares.values())
    count = sum(phase.users.values())

    result = math.lgamma(CONCENTRATION) - math.lgamma(CONCENTRATION + count)
    for arm, users in phase.users.items():
        share = phase.shares.get(arm, 0)
        if users == 0:
            continue
        if share == 0:
            return math.inf
        alpha = CONCENTRATION * share / whole
        result += math.lgamma(alpha + users) - math.lgamma(alpha)
        result -= users * math.log(share / whole)
    return result


def sample_ratio_p(phases: Iterable[PhaseUsers]) -> float:
    """The p of all phases together at one look: min(1, 1 / product of the Bayes factors).

    The check has failed if it was below ALARM at any look.
    """
    total = sum(log_bayes_factor(phase) for phase in phases)
    return 1.0 if total <= 0 else math.exp(-total)
