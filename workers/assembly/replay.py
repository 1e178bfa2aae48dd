"""What became of the events that were read before a restore, so that a replay refuses none of them
a second time.

- Below `until` every event was read before, or may have been.
- If all of them were judged by the rules of today, an event that is refused now was refused then:
  its dead letter is out. This is the usual case, and nothing has to be known of single events.
- If the rules were others, or nobody knows, only the two output topics tell. An event of which a
  dead letter is out is not judged again. Nor is an event of a published request: it would only be
  late. Whatever else is refused now was accepted before, or not read at all, and becomes a dead
  letter.
- Once such a replay has come to `until`, the events below were judged by several rules: an event
  may be settled by its dead letter that the rules of today accept. So every later replay that
  begins below `until` reads the letters again.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple


class PastLetter(NamedTuple):
    """What a dead letter tells of its event. Offsets alone do not identify one: a topic may have
    been made again.

    `key` is None if the event had none, or if the letter was too large to keep it (`has_key` is
    then False).
    """

    is_partial: bool
    message: str
    has_key: bool
    key: bytes | None
    value_bytes: int

    def is_of(self, key: bytes | None, value: bytes | None) -> bool:
        """Whether it is the letter of an event with this key and value."""
        return (not self.has_key or key == self.key) and self.value_bytes == length_of(value)


def length_of(value: bytes | None) -> int:
    """The bytes of a value; -1 for a null."""
    return -1 if value is None else len(value)


class Replay:
    """Of one partition. `letters` by input offset; None if all below `until` was judged by the
    rules of today.

    An event has several letters if different rules refused different candidates of it.

    Only below `settled_until` an event may be settled: most replays need not look.
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
        """Whether events from `offset` on were, or may have been, judged by other rules than those
        of today.
        """
        return self._letters is not None and offset < self.until

    def is_settled(self, offset: int, key: bytes | None, value: bytes | None) -> bool:
        """Whether the event is not to be judged again: refused before, or its request is published."""
        if self._letters is None or offset >= self.settled_until:
            return False
        letters = self._letters.get(offset, ())
        if any(not letter.is_partial and letter.is_of(key, value) for letter in letters):
            return True
        return key is not None and key.decode("utf-8", "replace") in self._published

    def is_out(
        self, offset: int, key: bytes | None, value: bytes | None, *, is_partial: bool, message: str
    ) -> bool:
        """Whether the dead letter of an event that is refused now is out already.

        `is_partial` if the event is taken without some of its candidates, which the message names.
        """
        if offset >= self.until:
            return False
        if self._letters is None:
            return True
        for letter in self._letters.get(offset, ()):
            # A message that was too long is cut, and ends with dots.
            is_same = letter.is_partial == is_partial and message.startswith(
                letter.message.removesuffix("...")
            )
            if is_same and letter.is_of(key, value):
                return True
        return False
