"""Whether the broker can be reached, and what it denies: each logged once when it begins and once
when it is over.
"""

import time

from confluent_kafka import KafkaError

from workers.log import log
from workers.streaming.rights import Denials, Resource

_GONE = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE})


class BrokerReachability:
    """Told of every error of a client, and of everything that was heard from the broker."""

    def __init__(self, denials: Denials | None = None) -> None:
        self._lost = False
        self._denials = denials
        self.lost_at = float("-inf")
        """When the broker did not answer last, in monotonic seconds."""

    @property
    def is_sound(self) -> bool:
        """Whether the broker answers and denies nothing, as far as is known."""
        return not self._lost and (self._denials is None or not self._denials.missing)

    def error(self, error: KafkaError) -> None:
        """Take an error of a client: librdkafka repeats it while it goes on trying."""
        if error.code() in _GONE:
            self.lost(error.str())
        elif not self.denied(error):
            log.warning("kafka_error", error=error.str())

    def denied(self, error: KafkaError) -> bool:
        """Whether an error of any client says that a right is missing; then it is logged."""
        return self._denials is not None and self._denials.note(error)

    def explain(self, error: KafkaError) -> str:
        """An error's text. If it says that a right is missing, that is logged, and named."""
        return error.str() if self._denials is None else self._denials.explain(error)

    def refuse(self, error: KafkaError) -> None:
        """Raises RightMissing if an error says that a right is missing."""
        if self._denials is not None:
            self._denials.refuse(error)

    def granted(self, resource: Resource) -> None:
        """Something went through that takes the rights on this resource."""
        if self._denials is not None:
            self._denials.granted(resource)

    def look(self, now: float) -> None:
        """Look whether missing rights are back; `now` in monotonic seconds. Never waits."""
        if self._denials is not None:
            self._denials.look(now)

    def lost(self, error: str) -> None:
        """The broker does not answer."""
        self.lost_at = time.monotonic()
        if not self._lost:
            self._lost = True
            log.warning("kafka_lost", error=error, doing="waiting for it; nothing is given up")

    def heard(self) -> None:
        """Something came from the broker."""
        if self._lost:
            self._lost = False
            log.info("kafka_back")
