"""Look-ups on a real Redis: answered, denied one by one, and never waited for longer than the
budget.
"""

import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.rig.redis import RedisServer
from tests.steering.conftest import PATIENCE_S, Events
from tests.steering.peers import Peer, TlsProxy, Trickler
from workers.ranking.lookup import NO_RESULT, LookupQuery, LookupResult, SetKey
from workers.ranking.surface import DropSet, SetOwner
from workers.steering.documents import KINDS
from workers.steering.keys import Keys
from workers.steering.lookups import Lookups

LONG_S = 60.0  # longer than any pause of this machine
SHORT_S = 0.2
SEEN, BLOCKED, OTHERS = SetKey("seen", "u"), SetKey("blocked", "home"), SetKey("seen", "v")
ROW = struct.pack("<2f", 1.0, 2.0)
ASKED = LookupQuery({SEEN: ["a", "b"], BLOCKED: ["a", "b"]}, {"pair": ["b", "c"]})
KNOWN = LookupResult({SEEN: frozenset("a"), BLOCKED: frozenset()}, {"pair": {"b": ROW}})

KEYS = Keys()

Open = Callable[..., Lookups]


@pytest.fixture
def look_up(stopped_server: RedisServer, events: Events) -> Iterator[Open]:
    with ExitStack() as entered:

        def enter(
            budget_s: float = LONG_S, url: str = stopped_server.url, prefix: str = ""
        ) -> Lookups:
            return entered.enter_context(Lookups(url, prefix, budget_s, events))

        yield enter


def fill(server: RedisServer, prefix: str = "") -> None:
    server.client.sadd(f"{prefix}seen:u", "a", "z")
    server.client.set(f"{prefix}features:pair:b", ROW)


def look_up_until_answered(lookups: Lookups, query: LookupQuery = ASKED) -> LookupResult:
    """Look up again until there is a result, as micro-batches do."""
    patience = time.monotonic() + 4 * PATIENCE_S
    pause = threading.Event()
    while (result := lookups(query)) == NO_RESULT:
        assert time.monotonic() < patience, "no answer"
        pause.wait(0.02)
    return result


def test_everything_is_answered_in_one_round_trip(
    server: RedisServer, look_up: Open, events: Events
) -> None:
    fill(server)
    lookups = look_up()
    assert lookups(ASKED) == KNOWN
    before = calls(server)
    assert lookups(ASKED) == KNOWN
    after = calls(server)
    assert {
        name: after[name] - before.get(name, 0)
        for name in after
        if after[name] != before.get(name, 0)
    } == {
        "smismember": 2,
        "mget": 1,
        "info": 1,
    }
    assert events.all("lookups_lost") == []


def calls(server: RedisServer) -> dict[str, int]:
    """How often each command was given so far."""
    stats: Any = server.client.info("commandstats")
    return {
        name.removeprefix("cmdstat_"): int(of_command["calls"])
        for name, of_command in stats.items()
    }


def test_every_key_begins_with_the_prefix(server: RedisServer, look_up: Open) -> None:
    fill(server, "prod:")
    assert look_up(prefix="prod:")(ASKED) == KNOWN


def test_ids_are_utf_8_and_may_hold_colons(server: RedisServer, look_up: Open) -> None:
    server.client.sadd("seen:a:é", "日本:1")
    server.client.set("features:pair:日本:1", ROW)
    one = SetKey("seen", "a:é")
    answers = look_up()(LookupQuery({one: ["日本:1"]}, {"pair": ["日本:1"]}))
    assert answers == LookupResult({one: frozenset(["日本:1"])}, {"pair": {"日本:1": ROW}})


def test_many_thousand_items_come_back_each_with_its_own_answer(
    server: RedisServer, look_up: Open
) -> None:
    items = [f"i{n}" for n in range(8192)]
    rows = {item: struct.pack("<2f", n, -n) for n, item in enumerate(items) if n % 3}
    server.client.mset({f"features:pair:{item}": row for item, row in rows.items()})
    server.client.sadd("seen:u", *items[::7])
    answers = look_up()(LookupQuery({SEEN: items}, {"pair": items}))
    assert answers == LookupResult({SEEN: frozenset(items[::7])}, {"pair": rows})


def test_a_key_of_another_type_is_denied_alone_and_logged_once_until_it_is_mended(
    server: RedisServer, look_up: Open, events: Events
) -> None:
    fill(server)
    server.client.set("blocked:home", "no set")
    lookups = look_up()
    for _ in range(3):
        assert lookups(ASKED) == LookupResult({SEEN: frozenset("a")}, KNOWN.features)
    (event,) = events.all("lookup_denied")
    assert (event["lookup"], event["key"]) == ("blocked", "blocked:home")
    assert "wrong kind of value" in event["error"]
    server.client.delete("blocked:home")
    assert lookups(ASKED) == lookups(ASKED) == KNOWN
    assert len(events.all("lookup_allowed", lookup="blocked")) == 1


def test_one_users_broken_set_is_not_logged_again_for_each_batch_between(
    server: RedisServer, look_up: Open, events: Events
) -> None:
    fill(server)
    server.client.set("seen:v", "no set")
    lookups = look_up()
    for _ in range(3):
        assert lookups(LookupQuery({SEEN: ["a"], OTHERS: ["a"]}, {})) == LookupResult(
            {SEEN: frozenset("a")}, {}
        )
        assert lookups(LookupQuery({SEEN: ["a"]}, {})) == LookupResult({SEEN: frozenset("a")}, {})
    assert len(events.all("lookup_denied")) == 1


def test_features_under_a_key_of_another_type_are_missing(
    server: RedisServer, look_up: Open
) -> None:
    server.client.sadd("features:pair:b", "x")
    assert look_up()(LookupQuery({}, {"pair": ["b"]})) == LookupResult({}, {"pair": {}})


def test_while_redis_is_frozen_nobody_waits_and_its_late_reply_is_nobodys_answer(
    server: RedisServer, look_up: Open, events: Events
) -> None:
    fill(server)
    server.client.sadd("seen:v", "b")
    lookups = look_up(SHORT_S)
    assert look_up_until_answered(lookups) == KNOWN
    server.freeze()
    for _ in range(20):
        assert lookups(ASKED) == NO_RESULT
    server.thaw()
    # The same items of another user: the reply to the question before would be taken for this
    # one's.
    assert look_up_until_answered(lookups, LookupQuery({OTHERS: ["a", "b"]}, {})) == LookupResult(
        {OTHERS: frozenset("b")}, {}
    )
    for _ in range(20):
        assert lookups(LookupQuery({OTHERS: ["a", "b"]}, {})).members in (
            {},
            {OTHERS: frozenset("b")},
        )
    events.wait("lookups_back")


def test_a_failure_is_logged_once_and_so_is_its_end(
    server: RedisServer, look_up: Open, events: Events
) -> None:
    lookups = look_up()
    lookups(ASKED)
    server.kill()
    for _ in range(50):
        assert lookups(ASKED) == NO_RESULT
    assert len(events.all("lookups_lost")) == 1
    server.start()
    fill(server)
    assert look_up_until_answered(lookups) == KNOWN
    assert (len(events.all("lookups_lost")), len(events.all("lookups_back"))) == (1, 1)


def test_after_a_failure_nothing_is_asked_for_a_while(look_up: Open) -> None:
    with Peer(b":x\r\n") as peer:
        lookups = look_up(url=f"redis://127.0.0.1:{peer.port}")
        assert all(lookups(ASKED) == NO_RESULT for _ in range(1000))
        # So many would take the pauses a quarter of a minute.
        assert 1 <= sum(peer.calls.acquire(blocking=False) for _ in range(1000)) <= 20


def test_one_budget_bounds_all_reads_together(look_up: Open, events: Events) -> None:
    with Trickler() as peer:
        lookups = look_up(SHORT_S, f"redis://127.0.0.1:{peer.port}")
        assert lookups(ASKED) == NO_RESULT
        assert lookups(ASKED) == NO_RESULT
    assert events.wait("lookups_lost")["error"] == "no answer within 200 ms"


def test_a_connection_that_was_closed_while_idle_costs_no_look_up(
    server: RedisServer, look_up: Open
) -> None:
    fill(server)
    lookups = look_up()
    assert lookups(ASKED) == KNOWN
    server.client.execute_command("CLIENT KILL TYPE normal SKIPME yes")  # type: ignore[no-untyped-call]
    assert lookups(ASKED) == KNOWN


@pytest.mark.parametrize(
    "answer", [b":x\r\n", b"-NOAUTH Authentication required.\r\n", b"%1\r\n*0\r\n:3\r\n"]
)
def test_a_peer_that_is_not_a_redis_is_lost(look_up: Open, events: Events, answer: bytes) -> None:
    with Peer(answer) as peer:
        assert look_up(url=f"redis://127.0.0.1:{peer.port}")(ASKED) == NO_RESULT
    events.wait("lookups_lost")


def test_the_url_gives_tls_and_password(server: RedisServer, look_up: Open, tmp_path: Path) -> None:
    fill(server)
    server.client.acl_setuser(
        "w", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"]
    )
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with TlsProxy(server.port, context) as proxy:
        url = f"rediss://w:pw@127.0.0.1:{proxy.port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}"
        assert look_up_until_answered(look_up(url=url)) == KNOWN


def test_the_log_shows_no_password(look_up: Open, events: Events) -> None:
    assert look_up(url="redis://user:secret@127.0.0.1:1/0")(ASKED) == NO_RESULT
    assert "secret" not in str(events.wait("lookups_lost"))


@pytest.mark.parametrize(
    "key",
    [
        *(KEYS.document("home", kind) for kind in KINDS),
        *(KEYS.history("home"), KEYS.status("w"), KEYS.live, KEYS.features("pair", "a")),
    ],
)
def test_no_drop_set_takes_a_key_that_is_ours(key: str) -> None:
    with pytest.raises(ValueError, match="expected another name than"):
        DropSet(key.partition(":")[0], SetOwner.USER)


def test_a_url_that_cannot_be_right_is_refused(events: Events) -> None:
    with pytest.raises(ValueError, match="expected redis://"):
        Lookups("http://localhost", "", SHORT_S, events)
