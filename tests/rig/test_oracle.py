"""The oracle takes the feeds that workers publish, and no other ones."""

import json
import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.commands.running import json_lines, trimtab, write_lines
from tests.rig.environment import CROWD, SHELF, SURFACES, write_files
from tests.rig.oracle import Oracle
from tests.rig.traffic import make_request

Feed = dict[str, Any]
KNOWN: dict[str, list[Any]] = {
    "seen:ur": ["r-i0", "r-i3"],
    "blocked:shelf": ["r-i4"],
    "features:wide:r-i1": [0.5] * 32,
}


class Case:
    """One request on a surface, and its feed as `trimtab rank` computes it."""

    def __init__(self, folder: Path, surface: str) -> None:
        write_files(folder, SURFACES + CROWD + SHELF)
        self.events = make_request("r", 20, random.Random(5), batch=4, surface=surface)
        known: dict[str, list[Any]] = {}
        if surface == "shelf":
            for number in (1, 2):
                del self.events[0]["candidates"][number]["features"]
            known = KNOWN

        lookups = []
        for key, values in known.items():
            kind = "features" if key.startswith("features:") else "members"
            lookups.append({"key": key, kind: values})
        ended = trimtab(
            "rank",
            write_lines(folder / "events.jsonl", self.events),
            "--lookups",
            write_lines(folder / "lookups.jsonl", lookups),
            TRIMTAB_SURFACES=str(folder / "surfaces.toml"),
            TRIMTAB_MODELS=str(folder / "models"),
        )
        assert ended.code == 0, ended.err
        (self.feed,) = json_lines(ended.out)
        self._known = known
        self._oracle = Oracle(folder / "models")

    def check(self, feed: Feed) -> None:
        self._oracle.check(feed, self.events, self._known, completion="full")


def swap_items(feed: Feed) -> None:
    feed["items"][0], feed["items"][1] = feed["items"][1], feed["items"][0]


def lose_the_last_item(feed: Feed) -> None:
    feed["items"].pop()


def repeat_an_item(feed: Feed) -> None:
    feed["items"][1] = deepcopy(feed["items"][0])


def change_a_score(feed: Feed) -> None:
    feed["items"][0]["scores"]["quality"] += 1e-5


def change_a_final_score(feed: Feed) -> None:
    feed["items"][0]["final_score"] *= 1 + 1e-15


def change_a_weight(feed: Feed) -> None:
    feed["weights"]["values"]["quality"] += 0.01


def change_the_user(feed: Feed) -> None:
    feed["user_id"] = "another"


def forget_what_was_removed(feed: Feed) -> None:
    feed["removed"].pop()


def give_another_reason(feed: Feed) -> None:
    feed["removed"][0]["reason"] = "late"


def hide_default_features(feed: Feed) -> None:
    feed["defaulted"] = []


EVERYWHERE = (
    swap_items,
    lose_the_last_item,
    repeat_an_item,
    change_a_score,
    change_a_final_score,
    change_a_weight,
    change_the_user,
)
WITH_REMOVALS = (forget_what_was_removed, give_another_reason)
CHANGES = {
    "home": EVERYWHERE,
    "search": EVERYWHERE,
    "crowd": (*EVERYWHERE, give_another_reason),
    "shelf": (*EVERYWHERE, *WITH_REMOVALS, hide_default_features),
}


@pytest.mark.parametrize("surface", CHANGES)
def test_a_feed_that_workers_publish_is_taken_and_no_changed_one_is(
    tmp_path: Path, surface: str
) -> None:
    case = Case(tmp_path, surface)
    case.check(case.feed)
    for change in CHANGES[surface]:
        assert refuses(case, change), change.__name__


def refuses(case: Case, change: Callable[[Feed], None]) -> bool:
    feed = json.loads(json.dumps(case.feed))
    change(feed)
    assert feed != case.feed
    try:
        case.check(feed)
    except (AssertionError, KeyError):
        return True
    return False
