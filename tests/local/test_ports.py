"""Ports are asked of the kernel, and chosen where no outgoing connection can take them."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.local import ports


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this test listens on."""
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_listened_to_is_not_free_and_accepts(taken: int) -> None:
    assert not ports.is_free(taken)
    assert ports.accepts(taken)


def test_a_port_that_is_listened_to_on_every_address_is_not_free() -> None:
    with socket.create_server(("", 0)) as server:
        assert not ports.is_free(server.getsockname()[1])


def test_a_free_port_is_free_and_does_not_accept() -> None:
    port = ports.free_port()
    assert ports.is_free(port)
    assert not ports.accepts(port)


def test_a_free_port_is_outside_the_range_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert ports.free_port() < lowest


def test_a_free_port_is_none_of_those_just_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.local.ports.random.sample", lambda *_: [20_001, 20_002])
    monkeypatch.setattr("workers.local.ports.is_free", lambda _: True)
    assert ports.free_port(besides=(20_001,)) == 20_002
