"""Redis behind TLS with a password, all of it from the URL; a certificate that is not trusted is no
Redis.
"""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.rig.redis import RedisServer
from tests.steering.conftest import Events
from tests.steering.peers import TlsProxy
from workers.ranking.mix import Mix
from workers.ranking.weights import Weights
from workers.steering import Follower

Steer = Callable[..., Follower]
NEVER = 3600.0
DEFAULT = Weights.of({"quality": 0.5, "engagement": 0.5})
GOOD = Weights.of({"quality": 0.7, "engagement": 0.3})
PASSWORD = "p@ss/wörd"
QUOTED = "p%40ss%2Fw%C3%B6rd"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def proxy(server: RedisServer, authority: trustme.CA) -> Iterator[TlsProxy]:
    """TLS, with a certificate for localhost and 127.0.0.1, before a Redis with a user `w`."""
    server.client.acl_setuser(
        "w", enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], categories=["+@all"]
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with TlsProxy(server.port, context) as proxy:
        yield proxy


def trusting(authority: trustme.CA, folder: Path) -> Path:
    """A file that makes a client trust the authority."""
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def url(proxy: TlsProxy, trusted: Path, host: str = "127.0.0.1") -> str:
    return f"rediss://w:{QUOTED}@{host}:{proxy.port}/0?ssl_ca_certs={trusted}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_weights_are_pushed_through_tls(
    server: RedisServer,
    proxy: TlsProxy,
    authority: trustme.CA,
    steer: Steer,
    events: Events,
    tmp_path: Path,
    host: str,
) -> None:
    steering = steer(redis_url=url(proxy, trusting(authority, tmp_path), host), poll_seconds=NEVER)
    address = str(events.wait("redis_connected")["address"])
    assert address.startswith(f"rediss:***@{host}:{proxy.port}/0")
    for count in range(1, 5):
        server.set("home", quality=count / 10)
        events.wait("weights_applied", count, surface="home")
    assert steering.mix("home").weights.values["quality"] == 0.4


def test_a_wrong_password_behind_tls_is_reported_without_it(
    proxy: TlsProxy, authority: trustme.CA, steer: Steer, events: Events, tmp_path: Path
) -> None:
    steer(redis_url=url(proxy, trusting(authority, tmp_path)).replace(QUOTED, "s3cret"))
    reason = events.wait("redis_lost")["reason"]
    assert "password" in reason
    assert "s3cret" not in reason


def test_behind_a_certificate_that_is_not_trusted_the_last_good_set_goes_on(
    server: RedisServer,
    proxy: TlsProxy,
    authority: trustme.CA,
    steer: Steer,
    events: Events,
    tmp_path: Path,
) -> None:
    server.set("home", quality=0.7, engagement=0.3)
    trusted, before = trusting(authority, tmp_path), Events()
    first = steer(redis_url=url(proxy, trusted), on_event=before)
    before.wait("weights_applied", surface="home")
    first.stop()
    server.set("home", quality=0.1, engagement=0.9)
    steering = steer(redis_url=url(proxy, trusting(trustme.CA(), tmp_path)))
    reason = events.wait("redis_lost")["reason"]
    assert "certificate verify failed" in reason
    assert PASSWORD not in reason
    assert QUOTED not in reason
    assert all(proxy.refusals.acquire(timeout=15.0) for _ in range(3))
    assert steering.snapshot() == {"home": Mix(GOOD), "other": Mix(DEFAULT)}
    assert events.all("redis_connected") == []


def test_a_certificate_of_another_name_is_not_trusted(
    server: RedisServer, authority: trustme.CA, steer: Steer, events: Events, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("redis.example.org").configure_cert(context)
    server.set("home", quality=0.7, engagement=0.3)
    with TlsProxy(server.port, context) as elsewhere:
        steering = steer(redis_url=url(elsewhere, trusting(authority, tmp_path)))
        assert "certificate verify failed" in events.wait("redis_lost")["reason"]
        assert steering.mix("home") == Mix(DEFAULT)


def test_a_file_of_authorities_that_is_missing_is_reported_without_the_password(
    proxy: TlsProxy, steer: Steer, events: Events, tmp_path: Path
) -> None:
    steering = steer(redis_url=url(proxy, tmp_path / "nowhere.pem"))
    reason = events.wait("redis_lost")["reason"]
    assert "No such file" in reason
    assert QUOTED not in reason
    assert steering.mix("home") == Mix(DEFAULT)


def test_a_redis_without_tls_is_not_used_without_it(
    server: RedisServer, authority: trustme.CA, steer: Steer, events: Events, tmp_path: Path
) -> None:
    trusted = trusting(authority, tmp_path)
    steering = steer(
        redis_url=f"rediss://w:{QUOTED}@127.0.0.1:{server.port}/0?ssl_ca_certs={trusted}"
    )
    assert events.wait("redis_lost")["reason"]
    assert steering.mix("home") == Mix(DEFAULT)
    assert events.all("redis_connected") == []
