"""`trimtab outcomes` without a further word: the join and the users stage together."""

from typing import NoReturn

from workers.commands.process import run_commands_until_signal
from workers.commands.users_parts import require_faust

_STAGES = (["outcomes", "join"], ["outcomes", "users"])


def run_together(processes: int) -> NoReturn:
    """Start N processes of each stage. One that fails is started again.

    Raises ConfigurationError if the users stage cannot be run at all.
    """
    require_faust()
    run_commands_until_signal([stage for stage in _STAGES for _ in range(processes)])
