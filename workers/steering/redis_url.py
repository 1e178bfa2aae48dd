"""A Redis URL: whether it can be read in one way only, what of it may be shown, and its timeouts.
Pure.

A password that is not escaped moves the parts of a URL. From `redis://user:12?34@host` the client
takes the host `user` and the port 12, and names both if it cannot connect. So:
- A URL that may have been meant in another way is refused before the client sees it.
- Of a refused URL, only the scheme is shown.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote_plus

EXPECTED: Final = (
    "redis://[user:password@]host[:port][/db][?option=value], rediss://... or unix:///path, "
    "with what is special in a password escaped: "
    "%40 for @, %3A for :, %2F for /, %3F for ?, %23 for #, %26 for &, %25 for %"
)
MAX_SECONDS: Final = 3600.0
"""The longest timeout."""

_HIDDEN = "***"
_SECRET_OPTIONS = frozenset({"username", "password", "ssl_password"})
_SCHEME = re.compile(r"(redis|rediss|unix)://")
_OTHER_SCHEME = re.compile(r"https?://|tcp://")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
_DATABASE = re.compile(r"(/\d*)?", re.ASCII)


class UrlRefused(ValueError):
    """The URL is wrong, or could be read in several ways. The message shows nothing of it but the
    scheme.
    """

    def __init__(self, url: str, reason: str) -> None:
        scheme = _SCHEME.match(url) or _OTHER_SCHEME.match(url)
        got = (scheme[0] if scheme else "") + _HIDDEN
        super().__init__(f"redis: got {got!r}, {reason}; expected {EXPECTED}")


class Timeouts(NamedTuple):
    """How long a connection may take to open, and how long Redis may take to answer, in seconds."""

    connect_s: float
    answer_s: float


class _UrlParts(NamedTuple):
    """The parts as they are written: `user` with the password and the @, `host` with the port,
    `path` with its first slash, `query` without the ?.
    """

    user: str
    host: str
    path: str
    query: str


def check_url(url: str) -> None:
    """Raises UrlRefused for a URL that a client could split in another way than it was meant."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise UrlRefused(url, "which does not begin with a scheme of Redis")
    if _CONTROL_CHARACTER.search(url) or not _is_utf_8(url):
        raise UrlRefused(url, "which has a control character, or bytes that are not UTF-8")
    if "#" in url:
        raise UrlRefused(url, "which has a # that is not escaped")

    user, host, path, query = _split(url)
    is_socket = scheme[1] == "unix"
    if is_socket and host:
        raise UrlRefused(url, "which has a / that is not escaped, or a host")
    if not is_socket and not _DATABASE.fullmatch(path):
        raise UrlRefused(
            url, "which has a / that is not escaped, or a path that is not the number of a database"
        )
    if user and "@" in path:
        raise UrlRefused(url, "which has an @ in its path")

    has_host = is_socket or (host and not host.startswith(":"))
    names = set[str]()
    for option in query.split("&") if query else ():
        name, equals, value = option.partition("=")
        # The client passes over an option without a value, which may be meant as the end of a
        # password.
        may_be_empty = equals and name in _SECRET_OPTIONS
        if not name or not (value or may_be_empty):
            raise UrlRefused(
                url, "which has a ? or an & that is not escaped, or an option without a value"
            )
        if "@" in option and (user or not has_host or name not in _SECRET_OPTIONS):
            raise UrlRefused(url, "which has an @ among its options")
        if name in names:
            raise UrlRefused(url, "which has an option twice, or an & that is not escaped")
        names.add(name)


def printable_url(url: str) -> str:
    """A URL that `check_url` accepts, without user and password."""
    scheme = url.partition("://")[0]
    user, host, path, query = _split(url)
    address = f"{scheme}:{_HIDDEN}@" if user else f"{scheme}://"
    address += host + path
    if not query:
        return address

    # If an & is not escaped, what follows a password may be its end. Of that, only the database is
    # shown.
    options = list[str]()
    hides = False
    for option in query.split("&"):
        name = option.partition("=")[0]
        hides = hides or unquote_plus(name) in _SECRET_OPTIONS
        options.append(f"{name}={_HIDDEN}" if hides and name != "db" else option)
    return address + "?" + "&".join(options)


def timeouts_of(url: str, default_s: float) -> Timeouts:
    """The timeouts that the URL gives, else the default. `socket_timeout` alone is for connecting
    too. Raises UrlRefused.
    """
    options = parse_qs(_split(url).query)
    answer_s = _seconds(url, options, "socket_timeout")
    connect_s = _seconds(url, options, "socket_connect_timeout")
    return Timeouts(
        connect_s=connect_s or answer_s or default_s,
        answer_s=answer_s or default_s,
    )


def _seconds(url: str, options: dict[str, list[str]], name: str) -> float | None:
    if name not in options:
        return None

    try:
        seconds = float(options[name][0])
    except ValueError:
        # What is not a number may be anything: also a password that is not escaped.
        raise UrlRefused(url, f"with a {name} that is not a number of seconds") from None

    if not 0 < seconds <= MAX_SECONDS:
        raise UrlRefused(
            url,
            f"with {name}={seconds:g}, which is not above 0 and at most {MAX_SECONDS:g} seconds",
        )
    return seconds


def _split(url: str) -> _UrlParts:
    before, _, query = url.partition("://")[2].partition("?")
    netloc, slash, path = before.partition("/")
    user, at, host = netloc.rpartition("@")
    return _UrlParts(user + at, host, slash + path, query)


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
