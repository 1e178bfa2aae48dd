"""The rules by which events are judged, as one short digest. A commit stores the digest, so that a
replay notices if the rules have changed since.
"""

import hashlib
import json

from workers.ranking.surface import Surface, Surfaces

JUDGED_BY = 1
"""Raise this if a new version of the code accepts what the version before refused, or the other way
round.
"""


def rules_digest(surfaces: Surfaces, *settings: str) -> str:
    """12 hex digits over everything, in `surfaces` and in the given settings, that decides what
    becomes of an event.

    That is whether the event is accepted, and when its request closes. What only decides how a
    request is ranked is left out: it changes often, and a replay under other weights loses nothing.
    """
    judged: list[object] = [JUDGED_BY, *settings]
    for name in sorted(surfaces):
        judged.append(_rules_of(surfaces[name]))
    text = json.dumps(judged, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _rules_of(surface: Surface) -> list[object]:
    return [
        surface.name,
        surface.feature_set.names,
        surface.deadline_ms,
        surface.horizon_ms,
        surface.max_candidates,
        surface.lookup_features,
    ]
