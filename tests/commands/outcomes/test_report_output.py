"""The report as people and programs read it, from reports that are built here."""

import json
from typing import Any

import pytest

from tests.commands.outcomes.reports import (
    FEEDS,
    HALVES,
    NOON,
    USERS,
    WORSE,
    reported,
    with_rails,
)
from tests.outcomes.building import HOUR, PHASE, arm_hour, sums, users
from workers.commands.outcomes.report_output import (
    Reported,
    ReportRows,
    report_document,
    report_lines,
)
from workers.outcomes.reconciliation import Difference, FeedTotals, Reconciliation
from workers.outcomes.records import HOUR_MS
from workers.outcomes.report import Steered
from workers.outcomes.sums import ClusterSums, Sums
from workers.ranking.experiment import Experiment

LATER = "ba9876543210"


def text(shown: Reported, by: ReportRows = ReportRows.ARM, columns: int = 100) -> str:
    lines = report_lines(shown, by)
    assert [line for line in lines if len(line) > columns] == []
    assert [line for line in lines if not line.isprintable()] == []
    return "\n".join(lines)


def one_line(shown: Reported, by: ReportRows = ReportRows.ARM) -> str:
    """The text without its line breaks."""
    return " ".join(text(shown, by).split())


def document(shown: Reported) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(report_document(shown), allow_nan=False))
    return read


def test_the_sentence_comes_first_and_then_what_it_rests_on() -> None:
    assert text(reported()).splitlines() == [
        "canary: +20.0 % (95 %: +13.5 to +26.8), better",
        "",
        "home, experiment home-3f2a, compared with control, tuned for lifts of 10 %",
        "arm      share   feeds  users     seen   takes  take-rate     95 % interval",
        "control   50 %  25,600  1,010  256,000  12,800     5.00 %  4.92 % to 5.09 %",
        "canary    50 %  25,600    990  256,000  15,360     6.00 %  5.91 % to 6.09 %",
        "",
        "arm        lift       95 % interval      p",
        "canary  +20.0 %  +13.5 % to +26.8 %  3e-22",
        "",
        "The interval of a take-rate is Wilson's. That of a lift takes into account that readers differ and",
        "come back, and holds however often one looks; p is the least so far.",
        "",
        "Checks",
        "  assignment    right: every feed is of the arm that the published hash gives its user",
        "  sample ratio  right, p 1.000. New users: control 1,010 (1,000 expected), canary 990 (1,000",
        "                expected)",
        "  users         the same numbers as over feeds, in 2 pairs of hour and arm",
        "",
        "Only feeds whose outcome window is over are counted: partition 0 up to 2025-11-24 17:00:00.000Z.",
    ]


def test_feeds_of_other_arms_than_the_hash_gives_are_said_in_capitals() -> None:
    wrong = USERS | {arm_hour("canary"): users(990, misassigned=1_234)}
    shown = reported(over_users=wrong)
    sentence, warning = text(shown).splitlines()[:2]
    assert sentence.endswith(", VERDICT WITHHELD: ARMS DO NOT MATCH THE PUBLISHED HASH")
    assert warning.startswith("THE ARMS OF 1,234 FEEDS ARE NOT THOSE OF THE PUBLISHED HASH")
    assert "WRONG: 1,234 feeds are of another arm" in text(shown)
    assert "better" not in text(shown)

    printed = document(shown)
    assert printed["checks"]["misassigned"] == 1_234
    assert printed["arms"][1]["verdict"] == "arms do not match"


def test_a_sample_ratio_that_is_off_is_said_in_capitals() -> None:
    shown = reported(over_users=USERS | {arm_hour("canary"): users(1_500)})
    sentence, warning = text(shown).splitlines()[:2]
    assert sentence.endswith(", VERDICT WITHHELD: THE SAMPLE RATIO IS OFF")
    assert warning.startswith("THE ARMS DO NOT GET NEW USERS IN THE SHARES THAT WERE SET")
    assert "OFF, p " in text(shown)
    assert "canary 1,500 (1,255 expected)" in one_line(shown)
    assert "better" not in text(shown)

    ratio = document(shown)["checks"]["sample_ratio"]
    assert ratio["is_off"] is True
    assert ratio["new_users"] == {"control": 1_010, "canary": 1_500}
    assert ratio["expected"] == {"control": 1_255, "canary": 1_255}


def test_without_a_users_stage_no_user_is_counted_and_nothing_is_checked() -> None:
    reason = "topic 'user-outcomes' is not there"
    shown = reported(over_users=None, reconciliation=None, not_reconciled=reason)
    assert "no verdict: users are not counted" in text(shown).splitlines()[0]
    assert text(shown).count("not checked, because users are not counted") == 2
    assert f"not compared with feeds yet: {reason}" in text(shown)
    assert "canary    50 %  25,600      -  256,000" in text(shown)

    printed = document(shown)
    assert [arm["users"] for arm in printed["arms"]] == [None, None]
    assert printed["checks"] == {
        "misassigned": None,
        "unchecked": None,
        "unknown_phases": [],
        "sample_ratio": None,
        "users": {"compared": None, "differences": [], "not_compared": reason},
    }


def test_users_that_differ_from_feeds_are_warned_about_and_named() -> None:
    differences = []
    for hour in range(HOUR, HOUR + 5):
        place = arm_hour("canary", hour)
        totals = FeedTotals(12, 60, 3)
        differences.append(Difference(place, FeedTotals(11, 55, 3), totals, totals))
    shown = reported(reconciliation=Reconciliation(10, tuple(differences)))
    assert text(shown).splitlines()[1].startswith("users and feeds do not come to the same numbers")
    assert "OTHER NUMBERS than over feeds in 5 of 10 pairs of hour and arm: canary at" in one_line(
        shown
    )
    assert "feeds 11, seen 55, takes 3 over users, feeds 12, seen 60, takes 3 over feeds" in (
        one_line(shown)
    )
    assert one_line(shown).count("over users") == 3
    assert "; and so on" in one_line(shown)

    found = document(shown)["checks"]["users"]
    assert found["compared"] == 10
    assert len(found["differences"]) == 5
    assert found["differences"][1] == {
        "hour": (HOUR + 1) * HOUR_MS,
        "arm": "canary",
        "phase": PHASE,
        "over_users": {"feeds": 11, "seen": 55, "takes": 3},
        "over_feeds": {"feeds": 12, "seen": 60, "takes": 3},
    }


def test_hours_of_which_nothing_is_left_are_not_called_equal() -> None:
    shown = reported(reconciliation=Reconciliation(0, ()))
    assert "not compared with feeds: records of these hours were deleted" in text(shown)


def test_a_phase_without_its_document_is_named_and_has_no_verdict() -> None:
    feeds = FEEDS | {
        arm_hour("control", HOUR, LATER): sums(seen=1_000, take_rate=0.05),
        arm_hour("canary", HOUR, LATER): sums(seen=1_000, take_rate=0.06),
    }
    shown = reported(feeds)
    assert text(shown).splitlines()[1] == f"no experiment is known for these phases: {LATER}"
    assert "no verdict: the experiment of some feeds is not known" in text(shown)
    assert (
        f"phase {LATER}: 2025-11-24 16:00Z to 2025-11-24 17:00Z, its experiment is not known"
        in (text(shown, ReportRows.PHASE))
    )
    printed = document(shown)
    assert printed["checks"]["unknown_phases"] == [LATER]
    assert {phase["phase"]: phase["shares"] for phase in printed["phases"]} == {
        PHASE: {"control": 50.0, "canary": 50.0},
        LATER: None,
    }


def test_by_phase_each_phase_has_its_shares_its_counts_and_its_lifts() -> None:
    few = Experiment("home-3f2a", {"canary": 500})
    feeds = FEEDS | {
        arm_hour("control", HOUR + 1, LATER): sums(seen=1_000, take_rate=0.05, spread=0.2),
        arm_hour("canary", HOUR + 1, LATER): sums(seen=100, take_rate=0.04, spread=0.2),
    }
    steered = Steered(is_read=True, current=few, experiments={PHASE: HALVES, LATER: few})
    lines = text(reported(feeds, steered=steered), ReportRows.PHASE).splitlines()
    title = f"phase {LATER}: 2025-11-24 17:00Z to 2025-11-24 18:00Z, control 95 %, canary 5 %"
    begin = lines.index(title)
    assert [line.split()[0] for line in lines[begin + 1 : begin + 6]] == [
        *("arm", "control", "canary", "arm", "canary")
    ]
    assert " -20.0 %  " in lines[begin + 5]
    assert any(line.startswith(f"phase {PHASE}: ") for line in lines[:begin])


def test_several_arms_have_a_sentence_and_a_row_each() -> None:
    thirds = Experiment("home-3f2a", {"canary": 3_000, "bold": 3_000, "late": 1_000})
    feeds = FEEDS | {arm_hour("bold"): sums(seen=1_000, take_rate=0.04, spread=0.2)}
    steered = Steered(is_read=True, current=thirds, experiments={PHASE: thirds})
    shown = reported(feeds, over_users=None, steered=steered)
    sentences = text(shown).splitlines()[:3]
    assert [sentence.split(":")[0] for sentence in sentences] == ["bold", "canary", "late"]
    assert "late: lift not known, fewer than 100 takes" in sentences
    assert [arm["arm"] for arm in document(shown)["arms"]] == ["control", "bold", "canary", "late"]
    assert document(shown)["arms"][3]["comparison"] is None
    assert "late      10 %       0      -        0       0          -                 -" in text(
        shown
    )


def test_an_arm_that_a_rail_has_stopped_is_shown_with_its_rails() -> None:
    shown = reported(WORSE, steered=with_rails())
    lines = text(shown).splitlines()
    assert lines[0].endswith(", worse")
    assert "canary     0 %  25,600" in text(shown)
    begin = lines.index("Guard rails")
    assert lines[begin + 1] == "  canary"
    assert lines[begin + 2].startswith("    take_rate >= -2%: broken, ")
    assert "    hide <= 0.05: not yet, no data" in lines

    found = document(shown)["arms"][1]["rails"]
    assert [(rail["rail"], rail["standing"]) for rail in found] == [
        ("take_rate >= -2%", "broken"),
        ("hide <= 0.05", "not yet"),
    ]
    assert found[0]["high"] < -0.02
    assert found[1]["reason"] == "no data"


def test_what_is_not_read_of_steering_is_said() -> None:
    missing = "surface 'home' is not in surfaces.toml"
    shown = reported(steered=Steered(is_read=False), steering_missing=missing)
    assert f"  steering      not read: {missing}" in text(shown).splitlines()
    assert "control      -  25,600" in text(shown)
    printed = document(shown)
    assert (printed["steering_missing"], printed["salt"]) == (missing, None)


def test_another_arm_than_control_may_be_the_one_to_compare_with() -> None:
    shown = reported(against="canary")
    assert text(shown).splitlines()[0] == "control: -16.7 % (95 %: -21.2 to -11.9), worse"
    assert [arm["arm"] for arm in document(shown)["arms"]] == ["canary", "control"]
    assert document(shown)["arms"][0]["verdict"] is None


def test_an_arm_alone_has_nothing_to_be_compared_with() -> None:
    alone = {arm_hour("control"): FEEDS[arm_hour("control")]}
    shown = reported(alone, steered=Steered(is_read=True))
    assert "control is the only arm with feeds: there is nothing to compare." in text(shown)
    assert "lift  " not in text(shown)
    assert [arm["comparison"] for arm in document(shown)["arms"]] == [None]


def test_names_with_odd_characters_control_no_terminal_and_long_ones_are_cut() -> None:
    odd = "\x1b[2Jrot\n"
    long = "arm-" + "x" * 60
    feeds = FEEDS | {arm_hour(odd): FEEDS[arm_hour("canary")]}
    feeds |= {arm_hour(long): FEEDS[arm_hour("canary")]}
    shown = reported(feeds, over_users=None, steered=Steered(is_read=False))
    assert r"\x1b[2Jrot\n: +20.0 %" in text(shown)
    assert f"{long}: +20.0 %" in text(shown)
    assert "arm-xxxxxxxxxxxxxxxxx..." in text(shown)
    assert {arm["arm"] for arm in document(shown)["arms"]} == {"control", "canary", odd, long}


@pytest.mark.parametrize(("control", "canary"), [(1, 10**8), (10**8, 1)])
def test_lifts_beyond_all_measure_are_said_to_be_so_and_are_no_nan(
    control: int, canary: int
) -> None:
    def clusters(takes: int) -> Sums:
        by_number = {}
        for number in range(200):
            by_number[number] = ClusterSums(
                feeds=10**8, items=10**9, seen=10**9, takes=takes + number
            )
        return Sums(clusters=by_number)

    feeds = {arm_hour("control"): clusters(control), arm_hour("canary"): clusters(canary)}
    shown = reported(feeds)
    lines = text(shown, columns=120)
    assert "200,000,000,000" in lines
    assert "nan" not in lines
    assert ("over +100,000 %" in lines) == (canary > control)
    assert document(shown)["arms"][1]["comparison"]["p"] >= 0


def test_tiny_rates_keep_their_digits() -> None:
    tiny = Sums(clusters={n: ClusterSums(feeds=1, items=10**6, seen=10**6) for n in range(100)})
    tiny.clusters[0].takes = 21
    shown = reported({arm_hour("control"): tiny, arm_hour("canary"): tiny}, over_users=None)
    assert "2.1e-05 %" in text(shown)


def test_partitions_that_are_behind_or_have_no_sums_are_named() -> None:
    shown = reported(closed_until={0: NOON, 1: NOON - 1_500, 2: None, 3: None})
    assert one_line(shown).endswith(
        "partition 1 up to 2025-11-24 16:59:58.500Z, the others up to 2025-11-24 17:00:00.000Z at"
        " most. Nothing yet in partition 2, 3."
    )
    assert document(shown)["partitions"][2] == {"partition": 2, "closed_until": None}
    assert text(reported(closed_until={0: None})).endswith("No partition has closed feeds yet.")


def test_since_is_in_the_title() -> None:
    shown = reported(since=NOON - 1)
    assert "tuned for lifts of 10 %, feeds from 2025-11-24 16:00Z on" in one_line(shown)
    assert document(shown)["since"] == NOON - 1
