"""`trimtab outcomes counts`: the sums of all partitions, as tables and as JSON."""

import json
from typing import Any

from tests.commands.outcomes.building import FEED, HOUR, KEY, NOON, JoinTopics
from workers.codec.formats import Format
from workers.outcomes.records import HOUR_MS
from workers.settings import SETTINGS

PART_OF_PAGE = FEED._replace(item_ids=("t3_z",), marks=b"\x01", first_position=70)


def printed(topics: JoinTopics, *words: object) -> dict[str, Any]:
    ended = topics.run("counts", *words, "--json")
    assert ended.code == 0, ended.err
    document: dict[str, Any] = json.loads(ended.out)
    return document


def test_the_latest_record_of_each_key_counts_and_partitions_are_added_up(
    topics: JoinTopics,
) -> None:
    topics.write_sums(FEED)
    topics.write_sums(FEED, FEED, closed_until=NOON + 1)
    topics.write_sums(FEED, partition=1, closed_until=NOON + 2)
    topics.write_sums(FEED, key=KEY._replace(surface="search"))

    document = printed(topics, "home")
    (row,) = document["rows"]
    interval = row.pop("interval")
    assert row == {
        "label": "control",
        "feeds": 3,
        "items": 9,
        "seen": 6,
        "takes": 3,
        "take_rate": 0.5,
        "others": {"hide": 3},
    }
    assert 0 < interval["low"] < 0.5 < interval["high"] < 1
    assert document["partitions"] == [
        {"partition": 0, "closed_until": NOON + 1},
        {"partition": 1, "closed_until": NOON + 2},
    ]


def test_a_topic_may_hold_both_formats_and_the_latest_record_of_a_key_counts(
    topics: JoinTopics,
) -> None:
    topics.write_sums(FEED)
    topics.write_sums(FEED, FEED, form=Format.PROTOBUF, closed_until=NOON + 1)
    topics.write_sums(FEED, FEED, FEED, key=KEY._replace(hour=HOUR + 1), form=Format.PROTOBUF)
    topics.write_sums(FEED, FEED, FEED, FEED, key=KEY._replace(hour=HOUR + 1))
    topics.write_sums(FEED, partition=1, form=Format.PROTOBUF, closed_until=NOON + 2)

    document = printed(topics, "home")
    (row,) = document["rows"]
    assert (row["feeds"], row["items"], row["seen"], row["takes"]) == (7, 21, 14, 7)
    assert row["others"] == {"hide": 7}
    assert [each["closed_until"] for each in document["partitions"]] == [NOON + 1, NOON + 2]


def test_the_table_says_what_is_counted_and_how_far(topics: JoinTopics) -> None:
    topics.write_sums(FEED, closed_until=NOON + 217)
    topics.write_sums(FEED, FEED, key=KEY._replace(arm="canary"))
    ended = topics.run("counts", "home")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        "home by arm",
        "arm      feeds  items  seen  takes  take-rate       95 % interval  hide",
        "canary       2      6     4      2    50.00 %  15.00 % to 85.00 %     2",
        "control      1      3     2      1    50.00 %   9.45 % to 90.55 %     1",
        "",
        "Sums hold closed feeds only, so they are one outcome window behind. All feeds that were published",
        "before these times are in:",
        "  partition 0  2025-11-23 12:00:00.217Z",
        "  partition 1  nothing yet",
    ]


def test_rows_may_be_by_weights_model_and_hour(topics: JoinTopics) -> None:
    topics.write_sums(FEED)
    topics.write_sums(FEED, key=KEY._replace(hour=HOUR + 1, weights="000000000000"))

    def labels(by: str) -> list[object]:
        return [row["label"] for row in printed(topics, "home", "--by", by)["rows"]]

    assert labels("weights") == ["000000000000", "9f86d081884c"]
    assert labels("model") == ["engagement:12", "quality:3"]
    assert labels("hour") == [NOON, NOON + HOUR_MS]
    assert "\n2025-11-23 13:00Z  " in topics.run("counts", "home", "--by", "hour").out


def test_counts_by_position_are_labelled_as_a_picture_of_attention(topics: JoinTopics) -> None:
    topics.write_sums(FEED, PART_OF_PAGE)
    rows = printed(topics, "home", "--by", "position")["rows"]
    assert [(row["label"], row["seen"], row["takes"]) for row in rows] == [
        (0, 1, 1),
        (2, 1, 0),
        (50, 1, 0),
    ]
    assert all("feeds" not in row and "others" not in row for row in rows)

    lines = topics.run("counts", "home", "--by", "position").out.splitlines()
    assert lines[1].split() == ["position", "seen", "takes", "take-rate", "95", "%", "interval"]
    assert lines[4].split()[:3] == ["50+", "1", "0"]
    assert "picture of attention" in lines[6]
    assert "Never compare arms through positions." in " ".join(lines)


def test_a_table_without_rows_says_why(topics: JoinTopics) -> None:
    unseen = FEED._replace(marks=b"")
    topics.write_sums(unseen, key=KEY._replace(models=()))
    for by, why in (("model", "No feed was scored by a model."), ("position", "No item was seen.")):
        assert printed(topics, "home", "--by", by)["rows"] == []
        assert why in topics.run("counts", "home", "--by", by).out.splitlines()
    (row,) = printed(topics, "home")["rows"]
    assert (row["seen"], row["take_rate"], row["interval"]) == (0, None, None)
    assert topics.run("counts", "home").out.splitlines()[2].split()[:6] == [
        *("control", "1", "3", "0", "0", "-"),
    ]


def test_since_counts_from_the_hour_on_that_the_time_is_in(topics: JoinTopics) -> None:
    topics.write_sums(FEED)
    topics.write_sums(FEED, FEED, key=KEY._replace(hour=HOUR + 2))

    def feeds(since: str) -> int:
        document = printed(topics, "home", "--since", since)
        return sum(row["feeds"] for row in document["rows"])

    assert feeds("2025-11-23T12:59Z") == 3
    assert feeds("2025-11-23T13:00Z") == 2
    ended = topics.run("counts", "home", "--since", "2025-11-23T14:30Z")
    assert ended.out.startswith("home by arm, feeds from 2025-11-23 14:00:00.000Z on\n")

    ended = topics.run("counts", "home", "--since", "1d")
    assert ended.code == 1
    assert "no feed of 'home' is counted since then" in ended.err
    assert topics.run("counts", "home", "--since", "yesterday").code == 2


def test_a_surface_without_sums_is_refused_with_those_that_have_some(topics: JoinTopics) -> None:
    ended = topics.run("counts", "home")
    assert (ended.code, ended.out) == (1, "")
    assert "no feed is counted yet" in ended.err

    topics.write_sums(FEED)
    ended = topics.run("counts", "hone")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Error: surface: got 'hone', expected one that is counted in ")
    assert ended.err.endswith(": home\n")


def test_a_record_that_is_no_sums_record_ends_the_command(topics: JoinTopics) -> None:
    topics.write_sums(FEED)
    topics.write(topics.sums, b"key", b"{}", partition=1)
    ended = topics.run("counts", "home")
    assert (ended.code, ended.out) == (1, "")
    assert f"{topics.sums}/1@0: " in ended.err


def test_a_topic_that_is_missing_is_named(topics: JoinTopics) -> None:
    flag = SETTINGS["topic_feed_outcomes"].flag
    ended = topics.run("counts", "home", flag, "no-such-topic")
    assert ended.code == 1
    assert "topic 'no-such-topic' is not there" in ended.err
