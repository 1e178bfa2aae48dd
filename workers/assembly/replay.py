"""What became of the events that were read before a restore, so that a replay refuses none of them
a second time.

- Every event below `until` was read before, or may have been.
- If all of them were judged by the rules of today, an event that is refused now was refused before
  too: its dead letter is out. This is the usual case, and nothing has to be known of single events.
- If the rules were others, or unknown, only the two output topics tell:
  - If a dead letter of an event is out, the event is not judged again.
  - An event of a published request is not judged again either: it would only be late.
  - Every other event that is refused now was accepted before, or was not read at all. It becomes a
    dead letter.
- After such a replay has reached `until`, the events below it were judged by several rules. One may
  be settled by its dead letter although the rules of today accept it. So every later replay that
  begins below `until` reads the dead letters again.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple


class PastLetter(NamedTuple):
    """What a dead letter says about its event.

    An offset alone does not identify an event: a topic may have been deleted and created again. So
    the key and the length of the value are compared too.

    `key` is None if the event had no key. It is also None if the letter was too large to keep it.
    `has_key` is False only in the second case.
    """

    is_partial: bool
    message: str
    has_key: bool
    key: bytes | None
    value_bytes: int

    def is_of(self, key: bytes | None, value: bytes | None) -> bool:
        """Whether it is the letter of an event with this key and value."""
        if self.has_key and key != self.key:
            return False
        return self.value_bytes == length_of(value)


def length_of(value: bytes | None) -> int:
    """The length of a value in bytes. -1 for a null."""
    return -1 if value is None else len(value)


class Replay:
    """The replay of one partition.

    - `letters` are dead letters by input offset. None if all events below `until` were judged by
      the rules of today. An event has several letters if different rules refused different
      candidates of it.
    - `published` are the ids of published requests.
    - Only events below `settled_until` can be settled: most replays have none.
    """

    def __init__(
        self,
        until: int,
        letters: Mapping[int, Sequence[PastLetter]] | None = None,
        published: Collection[str] = (),
    ) -> None:
        self.until = until
        self._letters = letters
        self._published = frozenset(published) if letters is not None else frozenset()
        self.settled_until = until if letters or self._published else 0

    def is_mixed_from(self, offset: int) -> bool:
        """Whether events from `offset` on were judged by other rules than those of today, or may
        have been.
        """
        return self._letters is not None and offset < self.until

    def is_settled(self, offset: int, key: bytes | None, value: bytes | None) -> bool:
        """Whether an event is not judged again.

        That is so if it was refused as a whole, or if its request is published.
        """
        if self._letters is None or offset >= self.settled_until:
            return False

        for letter in self._letters.get(offset, ()):
            if not letter.is_partial and letter.is_of(key, value):
                return True
        return key is not None and key.decode("utf-8", "replace") in self._published

    def is_out(
        self, offset: int, key: bytes | None, value: bytes | None, *, is_partial: bool, message: str
    ) -> bool:
        """Whether the dead letter of an event that is refused now is out already.

        `is_partial`: the event is accepted without some of its candidates, which the message names.
        """
        if offset >= self.until:
            return False
        if self._letters is None:
            return True

        for letter in self._letters.get(offset, ()):
            # A message that was too long was cut, and ends with dots.
            beginning = letter.message.removesuffix("...")
            is_same_refusal = letter.is_partial == is_partial and message.startswith(beginning)
            if is_same_refusal and letter.is_of(key, value):
                return True
        return False
