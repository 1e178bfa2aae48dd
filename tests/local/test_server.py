"""Whether a port is free is asked of the kernel; a free one is chosen outside the range of outgoing
connections.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.local.server import LOOPBACK, accepts, free_port, is_free


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this test listens on."""
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_listened_to_is_not_free_and_accepts(taken: int) -> None:
    assert not is_free(taken)
    assert accepts(taken)


def test_a_port_that_is_listened_to_on_every_address_is_not_free() -> None:
    with socket.create_server(("", 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_a_free_port_is_free_and_does_not_accept() -> None:
    port = free_port()
    assert is_free(port)
    assert not accepts(port)


def test_a_free_port_is_outside_the_range_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert free_port() < lowest


def test_a_free_port_is_none_of_those_just_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.local.server.random.sample", lambda *_: [20_001, 20_002])
    monkeypatch.setattr("workers.local.server.is_free", lambda _: True)
    assert free_port(besides=(20_001,)) == 20_002
