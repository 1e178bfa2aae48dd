"""Look-ups as commands for Redis, and its replies as answers: one SMISMEMBER a set, one MGET a
feature set.
"""

from collections.abc import Sequence
from typing import NamedTuple

from workers.ranking.drop_set import FEATURES
from workers.ranking.lookup import LookupQuery, LookupResult, SetOf
from workers.steering.connection import Command
from workers.steering.keys import Keys


class Question(NamedTuple):
    """One command, about a set or (a string) about a feature set; its reply is in the order of
    `items`.
    """

    about: SetOf | str
    items: Sequence[str]
    command: Command

    @property
    def name(self) -> str:
        """What feeds call this look-up."""
        return FEATURES if isinstance(self.about, str) else self.about.name


def written(questions: LookupQuery, keys: Keys) -> list[Question]:
    """The commands that ask all of it."""
    asked = [_about_set(one, items, keys) for one, items in questions.sets.items()]
    return asked + [
        _about_features(name, items, keys) for name, items in questions.features.items()
    ]


def _about_set(one: SetOf, items: Sequence[str], keys: Keys) -> Question:
    return Question(one, items, ("SMISMEMBER", keys.drop_set(one.name, one.owner), *items))


def _about_features(name: str, items: Sequence[str], keys: Keys) -> Question:
    return Question(name, items, ("MGET", *[keys.features(name, item_id) for item_id in items]))


def read(asked: Sequence[Question], replies: Sequence[object]) -> LookupResult:
    """What the replies say; a question that Redis has denied has no answer."""
    held: dict[SetOf, frozenset[str]] = {}
    found: dict[str, dict[str, bytes]] = {}
    for (about, items, _), reply in zip(asked, replies, strict=True):
        if not isinstance(reply, list):
            continue
        pairs = zip(items, reply, strict=True)
        if isinstance(about, SetOf):
            held[about] = frozenset(item_id for item_id, there in pairs if there)
        else:
            found[about] = {item_id: value for item_id, value in pairs if isinstance(value, bytes)}
    return LookupResult(held, found)
