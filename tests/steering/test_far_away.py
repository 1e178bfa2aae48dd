"""Redis far away: a round trip takes 280 ms, by a forwarder that passes on each way 140 ms late."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.builders import surface
from tests.commands.running import trimtab, write_surfaces
from tests.rig.process import until
from tests.rig.redis import RedisServer
from tests.steering.conftest import SURFACES, Events
from tests.steering.peers import Forwarder, TlsProxy
from workers.ranking.lookup import NO_RESULT, LookupQuery, LookupResult, SetKey
from workers.ranking.weights import Weights
from workers.settings import SETTINGS
from workers.steering import Follower
from workers.steering.connection import TIMEOUT_S
from workers.steering.editor import SteeringEditor
from workers.steering.lookups import Lookups

Steer = Callable[..., Follower]
WAY_S = 0.14
GOOD = Weights.of({"quality": 0.7, "engagement": 0.3})
SEEN = SetKey("seen", "u")
ASKED, KNOWN = LookupQuery({SEEN: ["a", "b"]}, {}), LookupResult({SEEN: frozenset("a")}, {})


@pytest.fixture
def far(server: RedisServer) -> Iterator[Forwarder]:
    with Forwarder(server.port, WAY_S) as forwarder:
        yield forwarder


def test_the_settings_default_is_that_of_the_connection() -> None:
    assert SETTINGS["redis_timeout_ms"].default == TIMEOUT_S * 1000


def test_a_worker_has_the_weights_before_start_returns_and_sees_changes_and_deletes_its_status(
    server: RedisServer, far: Forwarder, steer: Steer, events: Events
) -> None:
    server.set("home:canary", quality=0.1)
    server.experiment("home", salt="s", canary="5")
    server.set("home", quality=0.7, engagement=0.3)
    # Four round trips, with that of the name: more than the second for which a Redis that is near
    # is waited for.
    steering = steer(redis_url=f"{far.url}?client_name=w", timeout_s=10.0)
    assert steering.mix("home").weights == GOOD
    assert steering.mix("home").experiment is not None
    assert events.all("weights_fallback", surface="home") == []
    server.set("home", quality=0.2)
    events.wait("weights_applied", 2, surface="home")
    steering.stop()
    assert server.client.exists("workers:status:w-1") == 0
    assert (far.count(), events.all("redis_lost")) == (1, [])


def test_the_setting_bounds_the_wait_and_the_reason_names_it(
    far: Forwarder, steer: Steer, events: Events
) -> None:
    steer(redis_url=far.url, timeout_s=0.2)
    reason = events.wait("redis_lost")["reason"]
    assert reason.startswith("Timeout reading from ")
    assert reason.endswith("(redis_timeout_ms: 0.2 s to connect, 0.2 s to answer)")


def test_the_timeouts_of_the_url_win_over_the_setting(
    server: RedisServer, far: Forwarder, steer: Steer, events: Events
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    quick, patient = Events(), f"{far.url}?socket_timeout=10&socket_connect_timeout=11"
    assert steer(redis_url=patient, timeout_s=0.1).mix("home").weights == GOOD
    assert events.all("redis_lost") == []
    steer(redis_url=f"{far.url}?socket_timeout=0.1", timeout_s=60.0, on_event=quick)
    assert quick.all("redis_lost")


def test_a_handshake_of_tls_may_take_several_round_trips(
    server: RedisServer, steer: Steer, events: Events, tmp_path: Path
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # two round trips
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with TlsProxy(server.port, context) as proxy, Forwarder(proxy.port, 2 * WAY_S) as far:
        url = f"rediss://127.0.0.1:{far.port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}"
        steering = steer(redis_url=url, timeout_s=1.0)
        events.wait("weights_applied", surface="home")
        assert steering.mix("home").weights == GOOD


def test_a_thousand_surfaces_are_read_and_reported(
    server: RedisServer, far: Forwarder, events: Events
) -> None:
    many = {f"s{n}": surface(f"s{n}") for n in range(1000)}
    for name in many:
        server.set(name, quality=0.7, engagement=0.3)
    home = Path(server.socket).parent / "home"
    with Follower(far.url, "", many, "w-1", home, events, timeout_s=10.0) as steering:
        assert {mix.weights.version for mix in steering.snapshot().values()} == {GOOD.version}
        # A status of half a megabyte and a thousand changes by hand: with the next writes.
        until(lambda: all(server.client.exists(f"history:{name}") for name in ("s0", "s999")))
        server.set("s7", quality=0.2, engagement=0.3)
        events.wait("weights_applied", 2, surface="s7")
    assert events.all("redis_lost") == []


def test_look_ups_keep_their_own_budget_and_are_answered_if_it_is_long_enough(
    server: RedisServer, far: Forwarder, events: Events
) -> None:
    server.client.sadd("seen:u", "a")
    with ExitStack() as entered:
        patient = entered.enter_context(Lookups(far.url, "", 60.0, events))
        assert patient(ASKED) == KNOWN
        hasty = entered.enter_context(Lookups(far.url, "", 0.02, events))
        assert hasty(ASKED) == NO_RESULT
        assert events.wait("lookups_lost")["error"] == "no answer within 20 ms"
        assert patient(ASKED) == KNOWN


def test_following_a_history_waits_no_longer_than_redis_may_take(server: RedisServer) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    with SteeringEditor(server.url, "", timeout_s=0.05) as editor:
        entries = editor.follow_history(SURFACES["home"], 0)
        with Follower(
            server.url, "", SURFACES, "w-1", Path(server.socket).parent / "home", Events()
        ):
            assert next(entries).actor == "unknown"


# The commands

HOW = {
    "by default": ({}, ""),
    "by the variable": ({"TRIMTAB_REDIS_TIMEOUT_MS": "2000"}, ""),
    "by the URL": (
        {"TRIMTAB_REDIS_TIMEOUT_MS": "100"},
        "?socket_timeout=2&socket_connect_timeout=3",
    ),
}


@pytest.mark.parametrize(("more", "options"), HOW.values(), ids=HOW)
def test_the_tools_reach_it(
    server: RedisServer, far: Forwarder, tmp_path: Path, more: dict[str, str], options: str
) -> None:
    settings = {
        "TRIMTAB_REDIS": far.url + options,
        "TRIMTAB_SURFACES": str(write_surfaces(tmp_path)),
    }
    ended = trimtab("weights", "set", "home", "quality=0.7", "--reason", "x", **(settings | more))
    assert (ended.code, ended.err) == (0, "")
    assert server.client.hget("weights:home", "quality") == "0.7"


def test_the_tools_do_not_reach_it_in_less_time(far: Forwarder, tmp_path: Path) -> None:
    settings = {"TRIMTAB_REDIS": far.url, "TRIMTAB_SURFACES": str(write_surfaces(tmp_path))}
    for words in (
        ("weights", "show"),
        ("status",),
        ("models", "status"),
        ("experiment", "show", "home"),
    ):
        ended = trimtab(*words, "--redis-timeout-ms", "100", **settings)
        assert ended.code == 1
        assert "(redis_timeout_ms: 0.1 s to connect, 0.1 s to answer)" in ended.err


WRONG = {
    "0": "0 is not in the range x>=1",
    "-5": "-5 is not in the range x>=1",
    "nan": "'nan' is not a valid integer",
    "soon": "'soon' is not a valid integer",
    "1.5": "'1.5' is not a valid integer",
    "99999999999": "redis_timeout_ms: got 1e+11, expected above 0, 3600000 at most",
}


@pytest.mark.parametrize(("value", "message"), WRONG.items(), ids=WRONG)
def test_a_timeout_that_cannot_be_one_ends_the_command_with_2(value: str, message: str) -> None:
    ended = trimtab("status", TRIMTAB_REDIS="redis://127.0.0.1:1", TRIMTAB_REDIS_TIMEOUT_MS=value)
    assert ended.code == 2
    assert message in " ".join(ended.err.split())
