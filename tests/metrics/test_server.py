"""The HTTP server: rude clients, and nothing left behind."""

import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from workers.metrics import server
from workers.metrics.server import MAX_CONNECTIONS, listen, serve
from workers.metrics.view import Answer

Address = tuple[str, int]


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    """A server that answers `yes` to /yes, has a fault at /fault, and knows nothing else. Idle
    connections stay, so that only others can close them.
    """
    monkeypatch.setattr(server._Handler, "timeout", 600.0)

    def answers(path: str, accept: str) -> Answer | None:
        if path == "/fault":
            raise RuntimeError("a fault")
        return Answer(200, f"yes {accept}".encode()) if path == "/yes" else None

    listener = listen("127.0.0.1", 0)
    address = listener.getsockname()
    with serve(listener, answers):
        yield address


def ask(address: Address, request: str = "GET /yes HTTP/1.1\r\n\r\n") -> bytes:
    """All that comes back."""
    with socket.create_connection(address, timeout=5) as client:
        client.sendall(request.encode())
        parts: list[bytes] = []
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_it_answers_and_closes(address: Address) -> None:
    reply = ask(address, "GET /yes?a=b HTTP/1.1\r\nAccept: text/plain\r\n\r\n")
    assert reply.startswith(b"HTTP/1.0 200 ")
    assert reply.endswith(b"\r\n\r\nyes text/plain")


def test_head_has_no_body(address: Address) -> None:
    reply = ask(address, "HEAD /yes HTTP/1.1\r\n\r\n")
    assert b"Content-Length: 4" in reply
    assert reply.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET /no HTTP/1.1\r\n\r\n", b"404"),
        ("GET /fault HTTP/1.1\r\n\r\n", b"500"),
        ("POST /yes HTTP/1.1\r\n\r\n", b"501"),
        ("nonsense\r\n\r\n", b"400"),
    ],
)
def test_everything_else_gets_an_answer_and_the_server_goes_on(
    address: Address, request_text: str, status: bytes
) -> None:
    assert status in ask(address, request_text).splitlines()[0] + ask(address, request_text)
    assert ask(address).startswith(b"HTTP/1.0 200 ")


def test_a_request_without_end_is_read_only_so_far(address: Address) -> None:
    """The client sends as long as it can: after the first bytes nobody reads. What the kernel
    buffers on both sides, some megabytes, is sent all the same.
    """
    line = b"X-Header: " + b"x" * 1000 + b"\r\n"
    too_much = 64 * 1024 * 1024
    with socket.create_connection(address, timeout=5) as client:
        client.sendall(b"GET /yes HTTP/1.1\r\n")
        sent = 0
        try:
            while sent < too_much:
                sent += client.send(line)
        except OSError:
            pass
    assert sent < too_much
    assert ask(address).startswith(b"HTTP/1.0 200 ")


def test_many_connections_that_ask_nothing_cannot_hang_or_grow_it(address: Address) -> None:
    before = threading.active_count()
    idle = [socket.create_connection(address, timeout=5) for _ in range(5 * MAX_CONNECTIONS)]
    try:
        assert ask(address).startswith(b"HTTP/1.0 200 ")
        assert closed(idle[0])
        wait_until(lambda: threading.active_count() - before <= MAX_CONNECTIONS)
    finally:
        for client in idle:
            client.close()


def test_half_a_request_is_given_up_for_a_whole_one(address: Address) -> None:
    halves = [socket.create_connection(address, timeout=5) for _ in range(MAX_CONNECTIONS)]
    try:
        for half in halves:
            half.sendall(b"GET /yes HT")
        assert ask(address).startswith(b"HTTP/1.0 200 ")
    finally:
        for half in halves:
            half.close()


def test_nothing_is_left_that_only_a_collection_of_cycles_would_free(address: Address) -> None:
    """A worker runs without that collection for weeks, and is asked each second."""
    ask(address)
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            ask(address)
            ask(address, "nonsense\r\n\r\n")
            socket.create_connection(address).close()
        wait_until(
            lambda: not any("process_request" in each.name for each in threading.enumerate())
        )
        assert gc.collect() < 20
    finally:
        gc.enable()


def closed(client: socket.socket) -> bool:
    """Whether the other side has closed."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for at most five seconds."""
    until = time.monotonic() + 5
    waiting = threading.Event()
    while not is_so():
        assert time.monotonic() < until
        waiting.wait(0.01)
