"""What steering says, as structured log events: each state once, not each second.

weights_applied, weights_refused (surface, version, and arm where it is an arm's set),
experiment_applied, experiment_refused, weights_fallback (at start: what a surface stands on that
Redis has nothing for), redis_connected, redis_lost, redis_read_only (the server takes no writes
from anybody: the address is connected to again, until one does), pushes_denied (the poll goes on
alone), status_denied, history_denied (changes by hand are not recorded), last_good_ignored,
last_good_unwritable, steering_failed (a bug: a thread has ended).

Look-ups say lookups_lost and lookups_back, lookup_denied and lookup_allowed (one of them by
itself).
"""

from typing import Protocol


class OnEvent(Protocol):
    """Takes one log event by name with its fields, as structlog's `log.info` does; called from
    several threads.
    """

    def __call__(self, event: str, /, **fields: object) -> None: ...


class Events:
    """Passes events on, and keeps a trouble that lasts from being said again and again."""

    def __init__(self, on_event: OnEvent) -> None:
        self.say = on_event
        self._reasons: dict[str, str | None] = {}

    def trouble(self, event: str, reason: str | None) -> None:
        """Say `event` where its reason is another than the last; None: the trouble is over."""
        if reason is not None and reason != self._reasons.get(event):
            self.say(event, reason=reason)
        self._reasons[event] = reason
