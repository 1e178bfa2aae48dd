"""Previews and margins as people and as programs read them."""

import numpy as np

from tests.builders import request
from tests.ranking.building import feed_of, mix
from workers.commands.text import WIDTH
from workers.commands.weights.margin import margin_document, margin_lines
from workers.commands.weights.preview import preview_document, preview_lines
from workers.ranking.margin import margins_of
from workers.ranking.preview import preview
from workers.ranking.rank import rank
from workers.ranking.weights import Weights

BEFORE = mix(0.5, 0.5)
AFTER = mix(0.25, 1)
FEED = feed_of({"a": (0.5, 0.75), "b": (0.75, 0.25), "c": (0.25, 0.25)}, BEFORE)
TURNED = feed_of({"a": (0.75, 0.25), "b": (0.25, 0.5)}, BEFORE)
FOREIGN = FEED._replace(weights=Weights.of({"quality": 1, "freshness": 1}))
BOUNDS = {"quality": (0.0, 0.9)}

PREVIEW = """\
home, arm control: 3 feeds
1 of them incomplete: exact only among the items on their records
1 more skipped: they have other objectives
before  21e9d462843f  quality 0.5, engagement 0.5
after   50d23140f797  quality 0.25, engagement 1

FEEDS THAT CHANGE                FEEDS  SHARE
anywhere                             1  33.3%
in the first place                   1  33.3%
in which items are the first 10      0   0.0%
in the order of the first 10         1  33.3%

Kendall tau (1: the same order, -1: reversed)  0.3333
overlap@10                                     1.0000
churn (1 - overlap@10)                         0.0000

MEAN SCORE IN THE FIRST 10  BEFORE   AFTER   CHANGE
quality                     0.5000  0.5000  +0.0000
engagement                  0.4062  0.4062  +0.0000

ITEMS THAT MOVE MOST, IN POSITIONS, UP IS +  FEEDS   MEAN  LARGEST
a                                                3  -0.33       -1
b                                                3  +0.33       +1"""

MARGIN = """\
home, arm control: 2 feeds
1 more skipped: they have other objectives
weights 21e9d462843f  quality 0.5, engagement 0.5

How far one weight alone must move until another item is first, or among the first 10:
OBJECTIVE   UNTIL        WAY   WEIGHT  SMALLEST  MEDIAN  FEEDS  WITHIN BOUNDS
quality     first place  up       0.5      +0.5    +0.5      1              0
quality     first place  down     0.5     -0.25  -0.875      2              1
quality     first 10     up       0.5     never       -      0              0
quality     first 10     down     0.5     never       -      0              0
engagement  first place  up       0.5      +0.5    +0.5      1              1
engagement  first place  down     0.5     -0.25   -0.25      1              1
engagement  first 10     up       0.5     never       -      0              0
engagement  first 10     down     0.5     never       -      0              0

r: 3 items
OBJECTIVE   UNTIL        WAY    MOVE  WEIGHT  RISES  IN PLACE OF
quality     first place  up     +0.5      1*      b            a
quality     first place  down   -1.5     -1*      c            a
quality     first 10     up    never       -      -            -
quality     first 10     down  never       -      -            -
engagement  first place  up    never       -      -            -
engagement  first place  down  -0.25   0.25       b            a
engagement  first 10     up    never       -      -            -
engagement  first 10     down  never       -      -            -
* outside weight_bounds"""


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_a_preview_for_people() -> None:
    found = preview([FEED, TURNED, FEED._replace(truncated=2), FOREIGN], BEFORE, AFTER)
    assert preview_lines(found, "home", "control") == lines(PREVIEW)


def test_a_preview_of_nothing_has_dashes_where_there_is_no_number() -> None:
    shown = preview_lines(preview([], BEFORE, AFTER), "home", "b")
    assert shown[0] == "home, arm b: 0 feeds"
    assert "anywhere                             0      -" in shown
    assert "quality                          -      -       -" in shown
    assert shown[-1] == "No item moves."


def test_margins_for_people() -> None:
    found = margins_of([FEED, TURNED, FOREIGN], BEFORE, BOUNDS)
    assert margin_lines(found, "home", "control") == lines(MARGIN)


def test_as_many_feeds_are_shown_one_by_one_as_asked_for() -> None:
    found = margins_of([FEED, TURNED._replace(truncated=1)], BEFORE)
    assert "r: 3 items" not in margin_lines(found, "home", "control", shown=0)
    assert "r: 2 items, incomplete: exact only among them" in margin_lines(
        found, "home", "control", shown=2
    )


def test_margins_of_feeds_with_rules_on_sources_have_a_note_that_they_ignore_these() -> None:
    found = margins_of([FEED._replace(max_per_source=2), FEED], BEFORE)
    shown = margin_lines(found, "home", "control", shown=2)
    assert "1 of them with rules on sources: the first 10 by weighted sums alone" in shown
    assert "r: 3 items, rules on sources: the first 10 by weighted sums alone" in shown

    document = margin_document(found, "home", "control")
    assert (document["ruled"], document["incomplete"]) == (1, 0)


def test_nothing_is_wider_than_the_terminal_and_nothing_steers_it() -> None:
    sets = [
        Weights.of({f"{'objective' * 5}{n}": -1.23456e-300 * (n + turn) for n in range(12)})
        for turn in (1, 9)
    ]
    names = [f"\x1b[31m{'item' * 30}{n}" for n in range(12)]
    scores = np.array([[3e38 * (n - k) / 12 for k in range(12)] for n in range(12)], np.float32)
    feeds = [rank(request(names, request_id="\x07" + "r" * 200), scores, sets[0], {}, 0)]
    turned = Weights.of({objective: -weight for objective, weight in sets[1].values.items()})
    nowhere = dict.fromkeys(turned.values, (0.0, 0.0))
    shown = preview_lines(preview(feeds, sets[0], turned), "s" * 90, "arm")
    shown += margin_lines(margins_of(feeds, sets[0], nowhere), "s" * 90, "arm")
    assert max(map(len, shown)) <= WIDTH
    assert any("itemitem" in line for line in shown)
    assert "".join(shown).isprintable()


def test_a_preview_for_programs_has_every_number_in_full() -> None:
    found = preview([FEED, TURNED], BEFORE, AFTER)
    document = preview_document(found, "home", "control")
    assert document["before"] == {
        "version": BEFORE.version,
        "values": {"quality": 0.5, "engagement": 0.5},
    }
    assert document["changed"] == {
        "any": 1,
        "first_place": 1,
        "first_10_items": 0,
        "first_10_order": 1,
    }
    assert (document["kendall_tau"], document["overlap_at_10"], document["churn"]) == (0, 1, 0)
    assert document["objectives"] == {
        "quality": {"before": 0.5, "after": 0.5},
        "engagement": {"before": 0.4, "after": 0.4},
    }
    assert document["movers"] == [
        {"item_id": "a", "feeds": 2, "mean_move": -0.5, "largest_move": -1},
        {"item_id": "b", "feeds": 2, "mean_move": 0.5, "largest_move": 1},
    ]


def test_margins_for_programs_name_the_weight_that_a_move_leads_to() -> None:
    document = margin_document(margins_of([FEED], BEFORE, BOUNDS), "home", "control")
    crossing = {"move": 0.5, "weight": 1.0, "rising": "b", "falling": "a", "within_bounds": False}
    spread = {"feeds": 1, "within_bounds": 0, "smallest": 0.5, "median": 0.5}
    assert document["requests"] == [
        {
            "request_id": "r",
            "items": 3,
            "whole": True,
            "exact": True,
            "objectives": {
                "quality": {
                    "first_place": {
                        "up": crossing,
                        "down": crossing | {"move": -1.5, "weight": -1.0, "rising": "c"},
                    },
                    "first_10": {"up": None, "down": None},
                },
                "engagement": {
                    "first_place": {
                        "up": None,
                        "down": crossing | {"move": -0.25, "weight": 0.25, "within_bounds": True},
                    },
                    "first_10": {"up": None, "down": None},
                },
            },
        }
    ]
    assert document["summary"] == {
        "quality": {
            "first_place": {"up": spread, "down": spread | {"smallest": -1.5, "median": -1.5}},
            "first_10": {"up": None, "down": None},
        },
        "engagement": {
            "first_place": {
                "up": None,
                "down": spread | {"smallest": -0.25, "median": -0.25, "within_bounds": 1},
            },
            "first_10": {"up": None, "down": None},
        },
    }
