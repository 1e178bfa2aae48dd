"""`trimtab outcomes tail`: the outcomes of each closed feed."""

import json

from tests.commands.outcomes.building import FEED, JoinTopics
from workers.codec.formats import Format
from workers.codec.outcomes import encode_request_outcomes


def test_closed_feeds_are_shown_with_the_items_that_had_an_outcome(topics: JoinTopics) -> None:
    topics.write(topics.requests, b"u-42", encode_request_outcomes(FEED, Format.JSON))
    ended = topics.run("tail", "--from-beginning", "--count", 1, "--timeout", 30)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        "r-1  home  control  full  3 items, 2 seen, 1 taken, 1 hide  weights 9f86d081884c"
        "  published 2025-11-23 12:00:00.217Z",
        "pos  outcomes          item",
        "  0  seen, take, hide  t3_a",
        "  2  seen              t3_c",
        "",
    ]


def test_json_has_the_record_as_it_was_published(topics: JoinTopics) -> None:
    value = encode_request_outcomes(FEED._replace(names=(), marks=b""), Format.JSON)
    topics.write(topics.requests, b"u-42", value)
    ended = topics.run("tail", "--from-beginning", "--count", 1, "--timeout", 30, "--json")
    assert json.loads(ended.out) == json.loads(value)


def test_both_formats_of_a_topic_are_shown_alike(topics: JoinTopics) -> None:
    for form in Format:
        value = encode_request_outcomes(FEED, form)
        topics.write(topics.requests, b"u-42", value, form=form)
    ended = topics.run("tail", "--from-beginning", "--count", 2, "--timeout", 30, "--json")
    first, second = ended.out.splitlines()
    assert json.loads(first) == json.loads(second)


def test_what_is_no_outcome_is_reported_and_does_not_count(topics: JoinTopics) -> None:
    topics.write(topics.requests, b"u-42", b"[]")
    topics.write(topics.requests, b"u-42", encode_request_outcomes(FEED, Format.JSON))
    ended = topics.run("tail", "--from-beginning", "--count", 2, "--timeout", 4)
    assert ended.code == 1
    assert f"{topics.requests}/0@0: " in ended.err
    assert ended.err.endswith("1 of 2 closed feeds within 4 s of silence\n")
    assert ended.out.startswith("r-1  ")
