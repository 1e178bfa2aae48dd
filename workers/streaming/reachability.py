"""Whether the broker can be reached, and what it denies. Each is logged once when it begins and
once when it is over: the client repeats an error for as long as it goes on trying.
"""

import time
from collections.abc import Sequence

from confluent_kafka import KafkaError

from workers.log import log
from workers.streaming.clients import Cluster
from workers.streaming.rights import (
    Resource,
    Right,
    RightMissing,
    RightsRequest,
    denied_resource,
    denied_rights,
    grant_commands,
)

_LOOK_SECONDS = 2.0

_UNREACHABLE = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE})


class Denials:
    """The rights that are known to be missing while a worker runs: `missing`.

    While something is missing, the broker is asked every two seconds what it allows (`look`).
    Further denials of the same kind are not looked into.
    """

    def __init__(self, cluster: Cluster, needed: Sequence[Right]) -> None:
        self._cluster = cluster
        self._needed = needed
        self.missing: list[Right] = []
        self._request: RightsRequest | None = None
        self._requested_at = 0.0

    def note(self, error: KafkaError) -> bool:
        """Take an error. Return whether a right that is known to be missing explains it.

        A denial of a kind that is not known yet is looked into.
        """
        resource = denied_resource(error)
        if resource is None:
            return False

        if not self._missing_on(resource):
            self._request = None  # its answer may tell what was allowed before
            self._add(denied_rights(self._cluster, error, self._needed), error.str())
        return bool(self._missing_on(resource))

    def explain(self, error: KafkaError) -> str:
        """The error's text. If it is a denial, with the rights that are missing."""
        resource = denied_resource(error)
        if resource is None or not self.note(error):
            return error.str()
        names = ", ".join(str(right) for right in self._missing_on(resource))
        return f"{error.str()} (missing: {names})"

    def refuse(self, error: KafkaError) -> None:
        """Raises RightMissing if an error is a denial: for what is denied before there is anything
        to lose.
        """
        missing = denied_rights(self._cluster, error, self._needed)
        if missing:
            raise RightMissing(self._cluster, missing)

    def granted(self, resource: Resource) -> None:
        """Note that something succeeded that takes the rights on this resource."""
        self._remove(self._missing_on(resource))

    def look(self, now: float) -> None:
        """Take the broker's answer, or ask again; `now` in monotonic seconds. Never waits."""
        if self._request is not None:
            if not self._request.is_done():
                return

            answer = self._request.answer()
            self._request = None
            self._remove([right for right in answer.granted if right in self.missing])
            self._add([right for right in answer.missing if right not in self.missing], error="")
        elif self.missing and now - self._requested_at >= _LOOK_SECONDS:
            self._requested_at = now
            self._request = RightsRequest(self._cluster.admin(), self._needed)

    def _missing_on(self, resource: Resource) -> list[Right]:
        return [right for right in self.missing if right.resource is resource]

    def _add(self, rights: Sequence[Right], error: str) -> None:
        if not rights:
            return
        self.missing += rights
        log.error(
            "right_missing",
            right=", ".join(str(right) for right in rights),
            grant=grant_commands(self._cluster, rights),
            error=error,
            doing="trying again until it is there",
        )

    def _remove(self, rights: Sequence[Right]) -> None:
        if not rights:
            return
        self.missing = [right for right in self.missing if right not in rights]
        log.info("right_back", right=", ".join(str(right) for right in rights))


class BrokerReachability:
    """Is given every error of a client, and notes every sign of life of the broker.

    `lost_at`: when the broker was last found not to answer, in monotonic seconds.
    """

    def __init__(self, denials: Denials | None = None) -> None:
        self.lost_at = float("-inf")
        self._is_lost = False
        self._denials = denials

    @property
    def is_sound(self) -> bool:
        """Whether the broker answers and denies nothing, as far as is known."""
        return not self._is_lost and (self._denials is None or not self._denials.missing)

    def error(self, error: KafkaError) -> None:
        """Take an error of a client: the broker is lost, a right is missing, or something else."""
        if error.code() in _UNREACHABLE:
            self.lost(error.str())
        elif not self.denied(error):
            log.warning("kafka_error", error=error.str())

    def denied(self, error: KafkaError) -> bool:
        """Whether an error of any client says that a right is missing. Then that is logged."""
        return self._denials is not None and self._denials.note(error)

    def explain(self, error: KafkaError) -> str:
        """An error's text. If it says that a right is missing, that is logged, and named."""
        return error.str() if self._denials is None else self._denials.explain(error)

    def refuse(self, error: KafkaError) -> None:
        """Raises RightMissing if an error says that a right is missing."""
        if self._denials is not None:
            self._denials.refuse(error)

    def granted(self, resource: Resource) -> None:
        """Note that something succeeded that takes the rights on this resource."""
        if self._denials is not None:
            self._denials.granted(resource)

    def look(self, now: float) -> None:
        """Look whether missing rights are back; `now` in monotonic seconds. Never waits."""
        if self._denials is not None:
            self._denials.look(now)

    def lost(self, error: str) -> None:
        """Note that the broker does not answer."""
        self.lost_at = time.monotonic()
        if not self._is_lost:
            self._is_lost = True
            log.warning("kafka_lost", error=error, doing="waiting for it; nothing is given up")

    def heard(self) -> None:
        """Note that something came from the broker."""
        if self._is_lost:
            self._is_lost = False
            log.info("kafka_back")
