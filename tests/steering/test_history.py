"""The history: each change once, whoever made it and however many workers see it."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.rig.process import until
from tests.rig.redis import RedisServer
from tests.steering.conftest import Events, read_once_more
from workers.ranking.weights import Weights
from workers.steering import Follower
from workers.steering.connection import ErrorReply, RedisLink
from workers.steering.content import encode_fields
from workers.steering.history import (
    MAX_ENTRIES,
    HistoryEntry,
    NewContent,
    ReadContent,
    read_entries,
    record_command,
    revision_after,
    write_command,
)

Steer = Callable[..., Follower]
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "schemas" / "weights-history.schema.json").read_text()
)
NEVER = 3600.0
GOOD = Weights.of({"quality": 0.7, "engagement": 0.3})
SET = {"quality": "0.7", "engagement": "0.3"}


@pytest.fixture
def link(server: RedisServer) -> Iterator[RedisLink]:
    with RedisLink(server.url) as link:
        yield link


@pytest.fixture
def workers_events(server: RedisServer, steer: Steer) -> list[Events]:
    """The log events of four workers that follow one Redis by push."""
    all_events = [Events() for _ in range(4)]
    for number, events in enumerate(all_events):
        steer(worker_id=f"w-{number}", on_event=events, poll_seconds=NEVER)
    return all_events


def recorded(server: RedisServer, *events: Events) -> None:
    """Return when what these have seen is recorded: who records a change to `other` has recorded
    all before it.
    """
    read_once_more(server, *events)
    until(lambda: _newest_of_other(server) == server.client.hgetall("weights:other"))


def _newest_of_other(server: RedisServer) -> object:
    newest: Any = server.client.xrevrange("history:other", count=1)
    return json.loads(newest[0][1]["after"]) if newest else None


def entries(link: RedisLink, surface: str = "home") -> list[HistoryEntry]:
    """All entries, the oldest first; each of them by its schema."""
    (reply,) = link.execute(("XRANGE", f"history:{surface}", "-", "+"))
    assert isinstance(reply, list)
    for _, flat in reply:
        texts = [text.decode() for text in flat]
        fields = dict(zip(texts[::2], texts[1::2], strict=True))
        Draft202012Validator(SCHEMA).validate(fields)
        assert json.loads(fields["documents"]).get(fields["document"], "{}") == fields["after"]
    found = read_entries(reply)
    assert len(found) == len(reply)
    return found


def without_time(entry: HistoryEntry) -> dict[str, Any]:
    """An entry without its time and without what it says of other documents."""
    return {name: value for name, value in vars(entry).items() if name not in ("at", "recorded")}


def by_hand(
    revision: int, before: Mapping[str, str], after: Mapping[str, str], **fields: object
) -> dict[str, Any]:
    """A change made by hand, as the history records it."""
    entry = {
        "document": "weights",
        "actor": "unknown",
        "reason": "",
        "version": None,
        "refused": None,
    }
    return {"revision": revision, "before": before, "after": after} | entry | fields


def test_changes_by_hand_are_recorded_once_with_what_was_before_and_after(
    server: RedisServer, workers_events: list[Events], link: RedisLink
) -> None:
    server.set("home", **SET)
    recorded(server, *workers_events)
    server.client.hdel("weights:home", "engagement")
    recorded(server, *workers_events)
    server.client.delete("weights:home")
    recorded(server, *workers_events)
    rest, without = {"quality": "0.7"}, Weights.of({"quality": 0.7, "engagement": 0.5})
    assert [without_time(entry) for entry in entries(link)] == [
        by_hand(1, {}, SET, version=GOOD.version),
        by_hand(2, SET, rest, version=without.version),
        by_hand(3, rest, {}),
    ]


def test_an_experiment_and_its_arms_are_in_the_history_too(
    server: RedisServer, workers_events: list[Events], link: RedisLink
) -> None:
    server.set("home:canary", **SET)
    recorded(server, *workers_events)
    assert entries(link) == []  # nothing names it yet
    server.experiment("home", salt="s", canary="5")
    recorded(server, *workers_events)
    server.client.delete("experiment:home")
    recorded(server, *workers_events)
    experiment = {"salt": "s", "canary": "5"}
    *both, last = [without_time(entry) | {"revision": 0} for entry in entries(link)]
    assert len(both) == 2
    assert by_hand(0, {}, experiment, document="experiment") in both
    assert by_hand(0, {}, SET, document="weights:canary", version=GOOD.version) in both
    assert last == by_hand(0, experiment, {}, document="experiment")


def test_what_workers_refuse_is_recorded_with_their_reason(
    server: RedisServer, workers_events: list[Events], link: RedisLink
) -> None:
    server.client.hset("weights:home", "quality", "much")
    recorded(server, *workers_events)
    server.experiment("home", canary="5")
    recorded(server, *workers_events)
    no_number = "quality: got 'much', expected a finite number such as 0.7"
    no_salt = "salt: not given, expected a text that parts this experiment from others"
    assert [without_time(entry) for entry in entries(link)] == [
        by_hand(1, {}, {"quality": "much"}, refused=no_number),
        by_hand(2, {}, {"canary": "5"}, document="experiment", refused=no_salt),
    ]


def test_content_outside_utf_8_is_recorded_as_escapes(
    server: RedisServer, workers_events: list[Events], link: RedisLink
) -> None:
    server.client.hset("weights:home", mapping={b"\xfe": b"\xff\x00 \xc3\xa9"})
    recorded(server, *workers_events)
    (entry,) = entries(link)
    assert entry.after == {r"\xfe": "\\xff\x00 é"}
    assert "expected UTF-8" in (entry.refused or "")


def test_very_long_content_is_recorded_by_its_digest(
    server: RedisServer, workers_events: list[Events], link: RedisLink
) -> None:
    server.client.hset("weights:home", "x" * 100_000, "1")
    recorded(server, *workers_events)
    server.client.hset("weights:home", "x" * 100_000, "2")
    recorded(server, *workers_events)
    first, second = entries(link)
    assert first.after[""].startswith("100008 characters, SHA-256 ")
    assert second.before == first.after != second.after


def test_a_change_while_no_worker_runs_is_recorded_when_the_next_one_starts(
    server: RedisServer, steer: Steer, events: Events, link: RedisLink
) -> None:
    server.set("home", **SET)
    steering = steer()
    recorded(server, events)
    steering.stop()
    server.client.delete("weights:home")
    steer()
    recorded(server, events)
    assert without_time(entries(link)[-1]) == by_hand(2, SET, {})
    recorded(server, events)
    assert len(entries(link)) == 2


def test_a_redis_that_comes_back_empty_has_no_history(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    server.set("home", **SET)
    steer()
    recorded(server, events)
    assert server.client.exists("history:home")
    server.kill()
    events.wait("redis_lost")
    server.start()
    events.wait("redis_connected", 2)
    recorded(server, events)
    assert server.client.exists("history:home") == 0


def test_a_history_that_is_not_a_stream_is_logged_once_and_hurts_nothing(
    server: RedisServer, steer: Steer, events: Events, link: RedisLink
) -> None:
    server.client.set("history:home", "x")
    steering = steer()
    server.set("home", **SET)
    for _ in range(3):
        recorded(server, events)
    assert steering.mix("home").weights == GOOD
    assert "WRONGTYPE" in events.wait("history_denied")["reason"]
    assert len(events.all("history_denied")) == 1
    assert server.client.xread(
        {"history:other": "0"}, block=15_000
    )  # once no change follows at once
    server.client.delete("history:home")
    recorded(server, events)
    assert [entry.after for entry in entries(link)] == [SET]


def test_an_entry_that_is_not_ours_is_logged_and_nothing_is_counted_again(
    server: RedisServer, steer: Steer, events: Events, link: RedisLink
) -> None:
    server.set("home", **SET)
    steer()
    recorded(server, events)
    mine = str(server.client.xadd("history:home", {"note": "hello"}))
    server.client.delete("weights:home")
    assert f"{mine} in history:home is not an entry" in events.wait("history_denied")["reason"]
    assert server.client.xlen("history:home") == 2
    server.client.xdel("history:home", mine)
    recorded(server, events)
    assert without_time(entries(link)[-1]) == by_hand(2, SET, {})


def test_the_script_is_loaded_once_and_again_if_redis_has_forgotten_it(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    def calls() -> int:
        """Of SCRIPT, whatever follows: 6.2 counts them together."""
        stats: Any = server.client.info("commandstats")
        return sum(
            found["calls"]
            for command, found in stats.items()
            if command.startswith("cmdstat_script")
        )

    steer()
    for _ in range(2):
        recorded(server, events)
    assert calls() == 1
    server.client.script_flush()
    for _ in range(2):
        recorded(server, events)
    assert calls() == 3
    assert events.all("history_denied") == []


def test_a_user_who_may_not_run_scripts_still_gets_weights(
    server: RedisServer, steer: Steer, events: Events
) -> None:
    server.client.acl_setuser(
        "w", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all", "-@scripting"]
    )
    steering = steer(redis_url=f"redis://w:pw@127.0.0.1:{server.port}/0")
    server.set("home", **SET)
    for _ in range(3):
        read_once_more(server, events)
    assert steering.mix("home").weights == GOOD
    assert "'evalsha'" in events.wait("history_denied")["reason"]
    assert len(events.all("history_denied")) == 1
    assert server.client.exists("history:home", "history:other") == 0


WEIGHTS = ReadContent("weights:home", "weights", {})
EXPERIMENT = ReadContent("experiment:home", "experiment", {})


def ask(link: RedisLink, *commands: Any) -> list[int | None]:
    """The revisions after the commands, in one round trip."""
    replies = link.execute(*commands)
    assert [reply for reply in replies if isinstance(reply, ErrorReply)] == []
    return [revision_after(reply) for reply in replies]


def holding(texts: Mapping[str, str], read: ReadContent = WEIGHTS) -> ReadContent:
    return ReadContent(read.key, read.name, encode_fields(texts))


def put(
    texts: Mapping[str, str], read: ReadContent, revision: int, version: str | None = None
) -> Any:
    return write_command(
        "history:home",
        [(read, NewContent(texts, version))],
        revision,
        "ada",
        'why: \xe9 \\ "quoted"',
    )


def test_a_tool_writes_content_and_entry_together(server: RedisServer, link: RedisLink) -> None:
    assert ask(link, put(SET, WEIGHTS, 0, GOOD.version)) == [1]
    assert server.client.hgetall("weights:home") == SET
    (entry,) = entries(link)
    own = {"actor": "ada", "reason": 'why: \xe9 \\ "quoted"', "version": GOOD.version}
    assert without_time(entry) == by_hand(1, {}, SET) | own
    assert abs(entry.at - int(server.client.time()[0]) * 1000) < 60_000


def test_new_content_replaces_the_old_whole(server: RedisServer, link: RedisLink) -> None:
    many = {f"objective-{n}": "0.5" for n in range(10_000)}
    assert ask(link, put(SET, WEIGHTS, 0), put(many, holding(SET), 1)) == [1, 2]
    assert server.client.hgetall("weights:home") == many
    assert ask(link, put({"quality": "0.1"}, holding(many), 2)) == [3]
    assert server.client.hgetall("weights:home") == {"quality": "0.1"}


def test_content_that_a_tool_wrote_is_not_a_change_by_hand(
    server: RedisServer, workers_events: list[Events], link: RedisLink
) -> None:
    assert ask(link, put(SET, WEIGHTS, 0, GOOD.version)) == [1]
    recorded(server, *workers_events)
    assert ask(link, put({"quality": "0.1"}, holding(SET), 1)) == [2]
    recorded(server, *workers_events)
    assert [entry.actor for entry in entries(link)] == ["ada", "ada"]


CHANGED: dict[str, tuple[Mapping[str, str], int]] = {
    "another value": (SET | {"quality": "0.8"}, 1),
    "a field more": (SET | {"novelty": "0"}, 1),
    "a field less": ({"quality": "0.7"}, 1),
    "gone": ({}, 1),
    "the revision has gone on": (SET, 0),
    "the history began again": (SET, 2),
}


@pytest.mark.parametrize(("read", "revision"), CHANGED.values(), ids=CHANGED)
def test_nothing_is_written_if_something_has_changed_since_it_was_read(
    server: RedisServer, link: RedisLink, read: Mapping[str, str], revision: int
) -> None:
    assert ask(link, put(SET, WEIGHTS, 0)) == [1]
    assert ask(link, put({"quality": "0.1"}, holding(read), revision)) == [None]
    assert server.client.hgetall("weights:home") == SET
    assert len(entries(link)) == 1


def test_a_key_that_is_not_a_hash_is_never_overwritten(
    server: RedisServer, link: RedisLink
) -> None:
    server.client.set("weights:home", "mine")
    assert ask(link, put(SET, WEIGHTS, 0), record_command("history:home", WEIGHTS)) == [None, None]
    assert server.client.get("weights:home") == "mine"


def test_several_documents_are_written_in_one_step_or_not_at_all(
    server: RedisServer, link: RedisLink
) -> None:
    experiment = {"salt": "s", "canary": "5"}
    arm = ReadContent("weights:home:canary", "weights:canary", {})
    changes = [(arm, NewContent(SET, GOOD.version)), (EXPERIMENT, NewContent(experiment))]
    stale = [*changes, (holding(SET), NewContent({"quality": "0.1"}))]
    assert ask(link, write_command("history:home", stale, 0, "ada", "")) == [None]
    assert server.client.keys() == []
    assert ask(link, write_command("history:home", changes, 0, "ada", "")) == [2]
    assert [(entry.revision, entry.document, entry.after) for entry in entries(link)] == [
        (1, "weights:canary", SET),
        (2, "experiment", experiment),
    ]
    assert server.client.hgetall("weights:home:canary") == SET
    assert server.client.hgetall("experiment:home") == experiment


def test_a_change_by_hand_is_recorded_before_the_one_that_follows_it(
    server: RedisServer, link: RedisLink
) -> None:
    server.client.hset("weights:home", mapping={"quality": "0.2"})
    after = {"quality": "0.1"}
    assert ask(link, put(after, holding({"quality": "0.2"}), 0)) == [2]
    first, second = entries(link)
    assert without_time(first) == by_hand(1, {}, {"quality": "0.2"})
    assert (second.actor, second.before, second.after) == ("ada", {"quality": "0.2"}, after)


def test_a_document_that_is_only_read_must_be_unchanged_too(
    server: RedisServer, link: RedisLink
) -> None:
    server.experiment("home", salt="s")
    beside = holding({"salt": "s"}, EXPERIMENT)
    twice = [record_command("history:home", beside)] * 2
    assert ask(link, *twice) == [1, 1]
    assert ask(link, record_command("history:home", EXPERIMENT)) == [None]
    assert len(entries(link)) == 1


def test_the_history_is_bounded_while_revisions_go_on_counting(
    server: RedisServer, link: RedisLink
) -> None:
    read = WEIGHTS
    for n in range(MAX_ENTRIES + 5):
        texts = {"quality": str(n)}
        assert ask(link, put(texts, read, n)) == [n + 1]
        read = holding(texts)
    kept = entries(link)
    assert [entry.revision for entry in kept] == list(range(6, MAX_ENTRIES + 6))
    assert kept[0].before == {"quality": "4"}


def test_new_content_without_a_field_cannot_be_constructed() -> None:
    with pytest.raises(ValueError, match="texts: got no field, expected at least one"):
        NewContent({})


def test_entries_that_are_not_ours_are_passed_over(server: RedisServer, link: RedisLink) -> None:
    server.client.xadd("history:home", {"note": "hello"})
    server.client.xadd("history:home", {b"\xff": b"\xfe"})
    (good,) = SCHEMA["examples"]
    for spoilt in (
        {"revision": "x"},
        {"before": "[]"},
        {"after": '{"quality": 0.7}'},
        {"before": "no JSON"},
        {},
    ):
        server.client.xadd("history:home", good | spoilt)
    (reply,) = link.execute(("XREVRANGE", "history:home", "+", "-"))
    assert [entry.revision for entry in read_entries(reply)] == [2]
    assert read_entries(ErrorReply("NOPERM")) == []
