"""Linger: when a turn of the loop may begin, so that requests that close one after the other share
a transaction.

Rules:
- Two transactions begin at least `seconds` apart, as long as nothing more is waiting. So a request
  waits for others for `seconds` at most, and not at all after a quiet spell.
- The whole turn waits, and not only its transaction. Every turn still publishes all that is
  closed: nothing is held from one turn to the next. What comes meanwhile waits in the client, and
  is decoded and ranked together.
- A pause is cut into parts of 50 ms. After each the idle clock runs on, and a drain begins.

| the loop                                      | pause                                   |
|-----------------------------------------------|-----------------------------------------|
| drains                                        | none                                    |
| restores a partition                          | none: a restore needs many turns        |
| left records unread, because a turn was full  | none: a backlog needs no waiting        |
| has not published for `seconds`               | none                                    |
| otherwise                                     | until `seconds` after the last          |
|                                               |   transaction with records began        |
"""

from dataclasses import dataclass

_LONGEST_PART = 0.05


@dataclass(frozen=True)
class Linger:
    """How long the loop waits between two transactions. Reads no clock. `seconds` 0: not at all."""

    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= 1:
            raise ValueError(f"seconds: got {self.seconds}, expected 0 to 1")

    def pause(
        self,
        now: float,
        published_at: float,
        *,
        is_restoring: bool = False,
        is_behind: bool = False,
        is_stopping: bool = False,
    ) -> float:
        """The next part of the pause, in seconds, by the table at the head. 0: the turn begins.

        `published_at`: when the last transaction with records began. Both in monotonic seconds.
        """
        if is_stopping or is_restoring or is_behind:
            return 0.0
        left = published_at + self.seconds - now
        return min(max(left, 0.0), _LONGEST_PART)


NO_LINGER = Linger()
