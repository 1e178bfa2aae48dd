"""The demo: what it counts as lost, doubled and torn, what it leaves alone, and the whole of it on
a real stack.
"""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from workers.commands.demo.audit import audit, tear
from workers.commands.demo.claims import Arms, Foresight, Swap, arms_of, foresight, strayed
from workers.commands.demo.outcome import Outcome
from workers.commands.demo.shell import command_lines, export_lines
from workers.commands.demo.show import Narrator, clip, moves, side_by_side
from workers.commands.demo.stage import Stage
from workers.local import StackError
from workers.ranking.feed import Feed, FeedItem
from workers.ranking.request import Completion
from workers.ranking.weights import Weights

EVEN = Weights.of({"quality": 0.5, "engagement": 0.5})
TURNED = Weights.of({"quality": 0.1, "engagement": 0.9})
ONLY = {"control": (EVEN, TURNED)}
SCORES = {"a": (0.875, 0.25), "b": (0.25, 0.75), "c": (0.125, 0.125)}
OTHER = {"a": 0.5, "b": 0.625, "c": 0.0}
"""What another version of the model of quality gives."""
MODELS = {
    "quality": {1: {item_id: quality for item_id, (quality, _) in SCORES.items()}, 2: OTHER},
    "engagement": {1: {item_id: engagement for item_id, (_, engagement) in SCORES.items()}},
}


def ranked(request_id: str, weights: Weights = EVEN, version: int = 1) -> Feed:
    """The posts a, b and c ranked as a worker does, by a version of the model of quality."""
    quality, engagement = weights.values.values()
    scores = {
        item_id: (MODELS["quality"][version][item_id], e) for item_id, (_, e) in SCORES.items()
    }
    items = [
        FeedItem(item_id, quality * q + engagement * e, (q, e))
        for item_id, (q, e) in scores.items()
    ]
    items.sort(key=lambda item: -item.final_score)
    models = {"quality": version, "engagement": 1}
    return Feed(
        request_id, "home", "u", 1, 2, Completion.FULL, 0, "control", weights, models, items
    )


def sent(*request_ids: str) -> dict[str, frozenset[str]]:
    return {request_id: frozenset(SCORES) for request_id in request_ids}


def test_one_whole_feed_a_request_is_clean() -> None:
    found = audit(sent("r1", "r2"), [ranked("r1"), ranked("r2", TURNED)], ONLY, MODELS)
    assert (found.requests, found.feeds, found.clean) == (2, 2, True)
    assert found.under == {("control", EVEN.version): 1, ("control", TURNED.version): 1}


def test_a_request_without_a_feed_is_lost() -> None:
    found = audit(sent("r1", "r2"), [ranked("r2")], ONLY, MODELS)
    assert (found.lost, found.doubled, found.torn, found.clean) == (["r1"], [], [], False)


def test_a_request_with_two_feeds_is_doubled() -> None:
    found = audit(sent("r1"), [ranked("r1"), ranked("r1")], ONLY, MODELS)
    assert (found.lost, found.doubled, found.torn, found.clean) == ([], ["r1"], [], False)


def test_a_feed_of_a_request_that_was_never_sent_is_torn() -> None:
    found = audit(sent("r1"), [ranked("r1"), ranked("stranger")], ONLY, MODELS)
    assert [request_id for request_id, _ in found.torn] == ["stranger"]


def test_a_feed_with_halves_of_two_sets_of_weights_is_torn() -> None:
    half = Weights.of({"quality": 0.1, "engagement": 0.5})
    assert "no set that was in force" in (tear(ranked("r", half), SCORES, ONLY, MODELS) or "")


def test_a_feed_whose_version_is_not_that_of_its_weights_is_torn() -> None:
    feed = ranked("r", Weights(EVEN.values, TURNED.version))
    assert tear(feed, SCORES, ONLY, MODELS) is not None


def test_a_feed_ranked_under_other_weights_than_it_says_is_torn() -> None:
    feed = replace(ranked("r", TURNED), weights=EVEN)
    assert "not the weighted sum" in (tear(feed, SCORES, ONLY, MODELS) or "")


def test_a_feed_out_of_order_is_torn() -> None:
    feed = ranked("r")
    assert "order" in (tear(replace(feed, items=feed.items[::-1]), SCORES, ONLY, MODELS) or "")


def test_adjustments_belong_to_the_sum_that_a_final_score_must_be() -> None:
    first, *rest = ranked("r").items
    final = first.final_score
    adjusted = first._replace(final_score=final - 0.25, adjustments={"diversity": -0.25})
    feed = replace(ranked("r"), items=sorted([adjusted, *rest], key=lambda item: -item.final_score))
    assert tear(feed, SCORES, ONLY, MODELS) is None
    unsaid = replace(feed, items=[item._replace(adjustments={}) for item in feed.items])
    assert "adjusted as it says" in (tear(unsaid, SCORES, ONLY, MODELS) or "")


def test_equal_final_scores_stand_in_order_of_item_id() -> None:
    items = [FeedItem(item_id, 0.5, (0.5, 0.5)) for item_id in ("a", "b")]
    feed, alike = replace(ranked("r"), items=items), {1: {"a": 0.5, "b": 0.5}}
    models = {"quality": alike, "engagement": alike}
    assert tear(feed, SCORES, ONLY, models) is None
    assert "order" in (tear(replace(feed, items=items[::-1]), SCORES, ONLY, models) or "")


def test_a_feed_with_a_post_twice_is_torn() -> None:
    feed = ranked("r")
    assert tear(replace(feed, items=[feed.items[0], *feed.items]), SCORES, ONLY, MODELS) is not None


def test_a_feed_closed_by_its_deadline_is_partial_and_not_torn() -> None:
    feed = ranked("r1")
    found = audit(
        sent("r1"),
        [replace(feed, items=feed.items[:2], completion=Completion.DEADLINE)],
        ONLY,
        MODELS,
    )
    assert (found.partial, found.clean) == (["r1"], True)


def test_a_feed_under_the_weights_of_another_arm_is_torn() -> None:
    written = {"control": (EVEN,), "canary": (TURNED,)}
    canary = replace(ranked("r", TURNED), arm="canary")
    assert tear(canary, SCORES, written, MODELS) is None
    assert "for the arm control" in (
        tear(replace(canary, arm="control"), SCORES, written, MODELS) or ""
    )
    assert "for the arm canary" in (
        tear(replace(canary, weights=EVEN), SCORES, written, MODELS) or ""
    )
    assert "for the arm stranger" in (
        tear(replace(canary, arm="stranger"), SCORES, written, MODELS) or ""
    )


def test_feeds_are_counted_by_the_version_of_each_model() -> None:
    found = audit(sent("r1", "r2"), [ranked("r1"), ranked("r2", version=2)], ONLY, MODELS)
    assert found.clean
    assert found.by == {("quality", 1): 1, ("quality", 2): 1, ("engagement", 1): 2}


def test_a_feed_that_names_another_version_than_the_one_that_scored_it_is_torn() -> None:
    feed = replace(ranked("r"), models={"quality": 2, "engagement": 1})
    assert "not all of its scores of quality are those of quality/2" in (
        tear(feed, SCORES, ONLY, MODELS) or ""
    )


def test_a_feed_scored_by_two_versions_of_one_model_is_torn_whichever_it_names() -> None:
    old, new = (
        {item.item_id: item for item in ranked("r", version=version).items} for version in (1, 2)
    )
    items = sorted([old["a"], new["b"], old["c"]], key=lambda item: -item.final_score)
    for version in (1, 2):
        mixed = replace(ranked("r", version=version), items=items)
        assert "not all of its scores of quality" in (tear(mixed, SCORES, ONLY, MODELS) or "")


def test_a_feed_by_a_version_that_was_never_in_force_or_without_one_for_each_weight_is_torn() -> (
    None
):
    refused = replace(ranked("r"), models={"quality": 3, "engagement": 1})
    assert "quality/3" in (tear(refused, SCORES, ONLY, MODELS) or "")
    less = replace(ranked("r"), models={"quality": 1})
    assert "its models are of quality, its weights of quality, engagement" in (
        tear(less, SCORES, ONLY, MODELS) or ""
    )


def test_a_feed_ranked_under_the_previewed_weights_is_as_previewed() -> None:
    assert foresight([(ranked("r"), ranked("r-again", TURNED))], TURNED) == Foresight(1, 1)


def test_a_feed_under_other_weights_or_of_other_scores_is_not_as_previewed() -> None:
    turned = ranked("r-again", TURNED)
    item = turned.items[0]
    other = [item._replace(final_score=math.nextafter(item.final_score, 1)), *turned.items[1:]]
    pairs = [(ranked("r"), ranked("r-again")), (ranked("r"), replace(turned, items=other))]
    found = foresight(pairs, TURNED)
    assert (found, found.holds) == (Foresight(2, 0), False)


def test_a_feed_that_came_in_part_is_not_compared_with_its_preview() -> None:
    part = replace(ranked("r"), completion=Completion.DEADLINE)
    assert foresight([(part, ranked("r", TURNED)), (ranked("r"), part)], TURNED) == Foresight(0, 0)


def test_users_who_come_again_are_counted_and_those_in_two_arms_too() -> None:
    def feed(user: str, arm: str) -> Feed:
        return replace(ranked("r"), user_id=user, arm=arm)

    once, same = feed("once", "canary"), [feed("same", "control")] * 3
    found = arms_of([once, *same, feed("both", "canary"), feed("both", "control")])
    assert found == Arms({"canary": 2, "control": 4}, returning=2, parted=1)
    assert f"{found.percent('control'):.1f} % of {found.total}" == "66.7 % of 6"


SWAP = Swap(ranked_ms=500, refused="hash", pinned=100, strayed=0)


def test_a_claim_that_does_not_hold_is_not_good() -> None:
    clean, arms = audit(sent("r1"), [ranked("r1")], ONLY, MODELS), Arms({"control": 2}, 1, 0)
    held = Foresight(2, 2)

    def good(foresight: Foresight = held, arms: Arms = arms, swap: Swap = SWAP) -> bool:
        return Outcome(clean, None, None, None, foresight, arms, swap, None).good

    assert good()
    assert not good(foresight=Foresight(2, 1))
    assert not good(arms=replace(arms, parted=1))
    for changes in ({"refused": "folder"}, {"strayed": 1}, {"pinned": 0}):
        assert not good(swap=replace(SWAP, **changes))


def test_feeds_by_another_version_than_the_pinned_one_have_strayed() -> None:
    feeds = [ranked("r1"), ranked("r2", version=2), ranked("r3")]
    assert strayed(feeds, "quality", 1) == 1
    assert strayed(feeds, "engagement", 1) == 0


def test_of_empty_lines_in_a_row_one_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = Narrator(beside=False)
    narrator.say("a", "")
    narrator.say("", "b")
    narrator.say()
    narrator.head("c")
    assert capsys.readouterr().out == "a\n\nb\n\nc\n\n"


def test_an_export_that_is_too_wide_is_one_a_variable() -> None:
    assert export_lines(["A=1", "B=2"]) == ["  $ export A=1 B=2"]
    assert export_lines([f"A={'a' * 60}", f"B={'b' * 60}"]) == [
        f"  $ export A={'a' * 60}",
        f"  $ export B={'b' * 60}",
    ]


def test_moves_count_positions_and_up_is_positive() -> None:
    before, after = ranked("r"), ranked("r", TURNED)
    assert [item.item_id for item in after.items] == ["b", "a", "c"]
    assert moves(before, after) == {"b": 1, "a": -1, "c": 0}


def test_everything_fits_into_a_hundred_columns() -> None:
    titles = dict.fromkeys(SCORES, "a title of\nmany words " * 20)
    lines = side_by_side(ranked("r"), ranked("r", TURNED), titles)
    assert max(map(len, lines)) == 100
    command = [
        "/a/long/way/" * 4 + "redis-cli",
        "-u",
        "redis://127.0.0.1:6379/0",
        "HSET",
        "weights:home",
        "quality",
        "1",
    ]
    broken = command_lines(command)
    assert max(map(len, broken)) <= 100
    assert shlex.split("".join(broken).removeprefix("  $ ").replace("\\", "")) == command


def test_a_title_shows_nothing_that_a_terminal_would_act_on() -> None:
    assert clip("a\x1b[31m\nb", 8) == "a [31m b"


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine").touch()
    stage = Stage(tmp_path, tmp_path, lambda _: None)
    with pytest.raises(StackError, match="no demo made this folder"):
        stage.clear()
    with pytest.raises(StackError, match="no demo made this folder"):
        stage.end()
    assert (tmp_path / "demo" / "mine").exists()


COUNTS = re.compile(
    r"([\d,]+) requests sent, ([\d,]+) feeds read under read_committed: (\d+) lost, (\d+) doubled, (\d+) torn"
)


class Demo:
    """`trimtab demo` in a process of its own, in a home of its own; a user's own settings must not
    reach it.
    """

    def __init__(self, home: Path, cache: Path) -> None:
        self.home = home
        self._cache = cache
        self._process: subprocess.Popen[str] | None = None
        self.said = ""

    def start(self, *words: str) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "workers.cli",
                "demo",
                f"--home={self.home}",
                f"--cache={self._cache}",
                *words,
            ],
            env=os.environ
            | {"TRIMTAB_KAFKA": "nowhere:1", "TRIMTAB_MODELS": "nowhere", "TRIMTAB_GROUP": "other"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def process(self) -> "subprocess.Popen[str]":
        assert self._process is not None
        return self._process

    def read_to(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return
        pytest.fail(self.said)

    def end(self) -> int:
        said, _ = self.process.communicate(timeout=300)
        self.said += said
        return self.process.returncode

    def run(self, *words: str) -> int:
        self.start(*words)
        return self.end()

    def counts(self) -> list[int]:
        """Requests sent, feeds read, lost, doubled, torn."""
        found = COUNTS.search(self.said)
        assert found is not None, self.said
        return [int(number.replace(",", "")) for number in found.groups()]

    def started(self, name: str) -> int:
        """The pid of a process that it has started."""
        mark = json.loads((self.home / "demo" / "demo.json").read_text())["processes"][name]
        return int(mark["pid"])

    def left(self) -> list[str]:
        """Files, and processes that work in its home or are told of it."""
        about = [
            f"{p.info['pid']} {p.info['cwd']} {' '.join(p.info['cmdline'] or ())}"
            for p in psutil.process_iter(["pid", "cwd", "cmdline"])
        ]
        return [line for line in about if str(self.home) in line] + [
            str(path) for path in self.home.glob("demo/*")
        ]


@pytest.fixture
def demo(tmp_path: Path, cache: Path) -> Iterator[Demo]:
    running = Demo(tmp_path / "home", cache)
    yield running
    if running.process.poll() is None:
        running.process.terminate()
        running.process.communicate()
    assert running.run("--stop") == 0


def test_the_demo_loses_doubles_and_tears_nothing_and_leaves_nothing_running(demo: Demo) -> None:
    assert demo.run("--requests=60") == 0, demo.said
    requests, feeds, *wrong = demo.counts()
    assert requests >= 60
    assert (feeds, wrong) == (requests, [0, 0, 0])
    assert "HSET weights:home quality 0.1 engagement 0.9" in demo.said
    assert re.search(
        r"([1-9]\d*) of the previewed requests, sent again: \1 of \1 feeds are as previewed",
        demo.said,
    )
    assert re.search(r'unknown\n.+\n +2 .+ "calmer mornings"', demo.said)
    assert re.search(
        r"\d+ feeds since its first: [1-9].* in canary .*\n.* 0 in more than one arm", demo.said
    )
    assert "home: no experiment runs" in demo.said
    assert "quality/3  refused: hash: model.onnx: sha256" in demo.said
    assert "home: quality 2, engagement 1  (" in demo.said
    assert re.search(
        r"\n  [1-9]\d* feeds since then: 0 by another version than quality/1", demo.said
    )
    by = {
        model: int(count.replace(",", ""))
        for count, model in re.findall(r"([\d,]+) feeds by (\S+)", demo.said)
    }
    assert by.keys() == {"engagement/1", "quality/1", "quality/2"}
    assert by["engagement/1"] == by["quality/1"] + by["quality/2"] == feeds
    assert demo.left() == []


def test_what_is_kept_goes_on_until_it_is_stopped(demo: Demo) -> None:
    assert demo.run("--requests=10", "--keep") == 0, demo.said
    assert f"demo --stop --home {demo.home}" in demo.said
    assert all(psutil.pid_exists(demo.started(name)) for name in ("worker", "stream"))
    assert demo.run("--requests=10") == 1
    assert "kept running" in demo.said
    assert demo.run("--stop") == 0
    assert demo.left() == []


def test_a_worker_that_dies_is_noticed_and_what_it_left_undone_counts_as_lost(demo: Demo) -> None:
    demo.start("--requests=6000")
    demo.read_to("In mid-stream")
    worker = demo.started("worker")
    os.kill(worker, signal.SIGKILL)
    assert demo.end() == 1
    _, _, lost, doubled, torn = demo.counts()
    assert lost > 0
    assert (doubled, torn) == (0, 0)
    assert f"The worker (pid {worker}) has ended" in demo.said
    assert demo.left() == []


def test_a_demo_that_is_interrupted_leaves_nothing_running(demo: Demo) -> None:
    demo.start()
    demo.read_to("  stack  ")
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 1
    assert demo.left() == []
