"""What a Redis URL may be, what of it is shown, and that no password ever is, nor a piece of it."""

import traceback
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.commands.running import trimtab, write_models, write_surfaces
from workers.steering.connection import RedisLink, RedisLost
from workers.steering.redis_url import Timeouts

SHOWN = {
    "redis://localhost:6379/0": "redis://localhost:6379/0",
    "redis://localhost": "redis://localhost",
    "redis://[::1]:6379": "redis://[::1]:6379",
    "redis://user:pa@ss:word@host:1/2?password=x&db=3": "redis:***@host:1/2?password=***&db=3",
    "redis://user:a:b@c@host:6379/0": "redis:***@host:6379/0",
    "redis://:100%25@host": "redis:***@host",
    "redis://host?pass%77ord=x&ssl_password=y&client_name=z": (
        "redis://host?pass%77ord=***&ssl_password=***&client_name=***"
    ),
    "redis://host:6379?password=p@ss:w&db=1": "redis://host:6379?password=***&db=1",
    "redis://host?client_name=z&password=x": "redis://host?client_name=z&password=***",
    "unix:///run/redis.sock?db=1": "unix:///run/redis.sock?db=1",
    "unix://user:pw@/run/redis.sock": "unix:***@/run/redis.sock",
    "redis://localhost:6379/0\n": "redis://localhost:6379/0",
}


@pytest.mark.parametrize(("url", "shown"), SHOWN.items(), ids=SHOWN.values())
def test_a_url_is_shown_without_user_and_password(url: str, shown: str) -> None:
    if "ssl_password" in url:
        url = url.replace("redis://", "rediss://")
        shown = shown.replace("redis://", "rediss://")
    assert RedisLink(url).address == shown


REFUSED = {
    "redis://:s3cret/wo#rd@host": "# that is not escaped",
    "redis://:s3#cret@host:6379/0": "# that is not escaped",
    "redis://user:12#s3cret@host": "# that is not escaped",
    "redis://:s3cret@ss/wo#rd@host": "# that is not escaped",
    "redis://:s3cret/word@host": "/ that is not escaped",
    "redis://:12/s3cret@host": "/ that is not escaped",
    "redis://:p@s3cret/0@host": "/ that is not escaped",
    "redis://user:12?s3cret@host": "? or an & that is not escaped",
    "redis://:p@ss?s3cret@host": "? or an & that is not escaped",
    "redis://user:?client_name=s3cret@host": "an @ among its options",
    "redis://:12?password=s3cret@host": "an @ among its options",
    "redis://:p@s3cret?client_name=x@host": "an @ among its options",
    "redis://host?password=x&s3cret": "? or an & that is not escaped",
    "redis://host?password=x&s3cret&": "? or an & that is not escaped",
    "redis://host?password=x&s3cret=y": "an option that is not valid",
    "redis://host?password=x&s3cret=": "an option without a value",
    "redis://host?password=x&db=1&db=s3cret": "an option twice",
    "redis://host?password=x#s3cret": "# that is not escaped",
    "redis://user:s3cret": "a port or an option that is not valid",
    "redis://user:p[s3cret@host": "a port or an option that is not valid",
    "redis://user:s3cret@host:port": "a port or an option that is not valid",
    "redis://user:s3cret@host?db=x": "a port or an option that is not valid",
    "rediss://:s3cret/12@host": "/ that is not escaped",
    "rediss://:s3#cret@host": "# that is not escaped",
    "unix://:p/s3cret@/run/redis.sock": "/ that is not escaped",
    "unix://:p@/s3cret@/run/redis.sock": "an @ in its path",
    "unix://:p@s3cret/x@/run/redis.sock": "/ that is not escaped",
    "unix://:p@/x?password=s3cret@/run/redis.sock": "an @ among its options",
    "unix:///run/redis.sock?password=x&s3cret": "? or an & that is not escaped",
    "redis://:s3\ncret@host": "a control character",
    "redis://:s3cret\udce9@host": "bytes that are not UTF-8",
    "s3cret@host:6379": "not begin with a scheme of Redis",
    "redis:s3cret@host": "not begin with a scheme of Redis",
    "http://user:s3cret@host": "not begin with a scheme of Redis",
    "": "not begin with a scheme of Redis",
}


@pytest.mark.parametrize(("url", "why"), REFUSED.items(), ids=map(repr, REFUSED))
def test_a_url_that_could_be_read_in_another_way_is_refused_and_shown_by_its_scheme_alone(
    url: str, why: str
) -> None:
    with pytest.raises(ValueError, match="redis: got '") as refused:
        RedisLink(url)
    shown = "".join(traceback.format_exception(refused.value))
    assert why in shown
    assert "expected redis://[user:password@]host" in shown
    assert "%40 for @" in shown
    for piece in ("s3", "cret", "udce9", "user", "host:"):
        assert piece not in str(refused.value).replace("user:password@", "")


@pytest.mark.parametrize("command", [("status",), ("weights", "show"), ("worker",)])
def test_a_command_ends_with_2_and_says_what_to_escape(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    settings = {
        "TRIMTAB_SURFACES": str(write_surfaces(tmp_path)),
        "TRIMTAB_MODELS": str(write_models(tmp_path)),
    }
    settings |= {"TRIMTAB_KAFKA": "127.0.0.1:1", "TRIMTAB_HOME": str(tmp_path)}
    ended = trimtab(*command, TRIMTAB_REDIS="redis://:pa@s3/wo#cret@host", **settings)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(
        "Error: redis: got 'redis://***', which has a # that is not escaped; expected redis://"
    )
    assert "s3" not in ended.err
    assert "cret" not in ended.err


@pytest.mark.parametrize("option", ["socket_timeout", "socket_connect_timeout"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0", "{}=0, which is not above 0 and at most 3600 seconds"),
        ("-1", "{}=-1, which"),
        ("nan", "{}=nan, which"),
        ("1e400", "{}=inf, which"),
        ("3601", "{}=3601, which"),
        ("soon", "a {} that is not a number of seconds"),
    ],
)
def test_a_timeout_in_the_url_that_cannot_be_one_is_named(
    option: str, value: str, message: str
) -> None:
    with pytest.raises(ValueError, match=f"with {message.format(option)}"):
        RedisLink(f"redis://:s3cret@host?{option}={value}")


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf"), 3601.0])
def test_a_timeout_that_cannot_be_one_is_named(timeout_s: float) -> None:
    with pytest.raises(
        ValueError, match=r"redis_timeout_ms: got .*, expected above 0, 3600000 at most"
    ):
        RedisLink("redis://host", timeout_s)


def test_the_urls_own_timeouts_win_and_that_for_answers_is_for_connecting_too() -> None:
    assert RedisLink("redis://host", 0.5).timeouts == Timeouts(0.5, 0.5)
    assert RedisLink(
        "redis://host?socket_timeout=2&socket_connect_timeout=3", 0.5
    ).timeouts == Timeouts(3.0, 2.0)
    assert RedisLink("redis://host?socket_timeout=2", 0.5).timeouts == Timeouts(2.0, 2.0)
    assert RedisLink("unix:///run/redis.sock?socket_connect_timeout=3", 0.5).timeouts == Timeouts(
        3.0, 0.5
    )


# A password of any letters, in each place that takes one, as somebody writes it who has never
# escaped anything.

PLACES = (
    "redis://:{}@127.0.0.1:1/0",
    "redis://user:{}@127.0.0.1:1",
    "redis://127.0.0.1:1/0?password={}",
    "redis://127.0.0.1:1/0?db=0&password={}",
    "rediss://:{}@127.0.0.1:1/0",
    "rediss://127.0.0.1:1/0?ssl_password={}",
    "unix://:{}@/nowhere/redis.sock",
    "unix:///nowhere/redis.sock?password={}",
)
WORD = st.text("QZ", min_size=3, max_size=5)
PASSWORDS = st.lists(
    st.one_of(WORD, st.sampled_from("@:/?#&%=[]+ !;\\ü\n")), min_size=1, max_size=7
).map("".join)


@pytest.mark.parametrize("place", PLACES)
@settings(deadline=None)  # it connects, and waits on a busy machine
@given(password=PASSWORDS)
@example(password="pa@QQQ/wo#QQQ").via("the issue")
@example(password="12?QQQ").via("a port, and the rest an option")
@example(password="a:QQQ@QQQ").via("the issue")
@example(password="x&QQQ").via("the issue")
def test_no_error_and_no_address_shows_a_piece_of_a_password_whatever_it_holds(
    place: str, password: str
) -> None:
    shown = _everything_shown_of(place.format(password))
    assert "QQ" not in shown
    assert "ZZ" not in shown
    assert "QZQ" not in shown
    assert "ZQZ" not in shown


def _everything_shown_of(url: str) -> str:
    """The address, and the errors of a connection that cannot be made."""
    try:
        link = RedisLink(url, 0.05)
    except ValueError as refused:
        return "".join(traceback.format_exception(refused))
    shown = link.address
    try:
        with link:
            pass
    except RedisLost as lost:
        shown += "".join(traceback.format_exception(lost))
    return shown
