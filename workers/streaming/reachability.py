"""Whether the broker can be reached, said once when it is lost and once when it is back."""

from confluent_kafka import KafkaError

from workers.log import log

_GONE = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE})


class BrokerReachability:
    """Told of every error of a client, and of everything that was heard from the broker."""

    def __init__(self) -> None:
        self._lost = False

    def error(self, error: KafkaError) -> None:
        """Take an error of a client: librdkafka repeats it while it goes on trying."""
        if error.code() in _GONE:
            self.lost(error.str())
        else:
            log.warning("kafka_error", error=error.str())

    def lost(self, error: str) -> None:
        """The broker does not answer."""
        if not self._lost:
            self._lost = True
            log.warning("kafka_lost", error=error, doing="waiting for it; nothing is given up")

    def heard(self) -> None:
        """Something came from the broker."""
        if self._lost:
            self._lost = False
            log.info("kafka_back")
