"""How much a worker may hold open, over all of its partitions."""

from dataclasses import dataclass


@dataclass
class Budget:
    """Open requests and the bytes they hold. Past either bound the oldest request closes
    (`evicted`).

    A closed request waits for its models for `max_wait_seconds`, and counts meanwhile as an open
    one.
    """

    max_requests: int = 100_000
    max_bytes: int = 1024 * 1024 * 1024
    max_wait_seconds: float = 30.0
    requests: int = 0
    bytes_held: int = 0

    @property
    def exceeded(self) -> bool:
        """Whether a request must close before more is taken."""
        return self.requests > self.max_requests or (
            self.bytes_held > self.max_bytes and self.requests > 1
        )
