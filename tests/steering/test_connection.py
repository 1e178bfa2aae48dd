"""The link to Redis, against a peer of which every byte is known."""

import pytest

from tests.steering.peers import Peer
from workers.steering.connection import (
    ErrorReply,
    RedisLink,
    RedisLost,
    Script,
    UnwritableReply,
    WrongServer,
)

HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"
OK = b"+OK\r\n"
PUSH = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$12\r\nweights:home\r\n"
FLUSH = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
READ = ("HGETALL", "weights:home")
RUN = ("EVALSHA", Script("return 1"), 0)


def test_a_push_between_two_replies_counts() -> None:
    with (
        Peer(HELLO, OK + PUSH + OK, OK) as peer,
        RedisLink(f"redis://127.0.0.1:{peer.port}") as link,
    ):
        assert link.execute(READ, READ) == [b"OK", b"OK"]
        assert link.pushed_keys(0) == {b"weights:home"}
        link.execute(READ)


def test_a_push_before_the_first_reply_counts_too_since_the_command_may_be_of_another_key() -> None:
    with (
        Peer(HELLO, PUSH + PUSH + OK + OK, OK) as peer,
        RedisLink(f"redis://127.0.0.1:{peer.port}") as link,
    ):
        assert link.execute(READ, READ) == [b"OK", b"OK"]
        assert link.pushed_keys(0) == {b"weights:home"}
        link.execute(READ)


def test_a_pushed_key_is_given_once_also_after_other_commands() -> None:
    with (
        Peer(HELLO, OK + PUSH, OK, OK) as peer,
        RedisLink(f"redis://127.0.0.1:{peer.port}") as link,
    ):
        link.execute(READ)
        link.execute(READ)
        assert link.pushed_keys(15.0) == {b"weights:home"}
        assert link.pushed_keys(0) == set()
        link.execute(READ)


def test_all_keys_are_pushed_when_redis_is_flushed() -> None:
    with (
        Peer(HELLO, OK + PUSH + FLUSH, OK) as peer,
        RedisLink(f"redis://127.0.0.1:{peer.port}") as link,
    ):
        link.execute(READ)
        news = link.pushed_keys(15.0)
        while None not in news:
            news |= link.pushed_keys(15.0)
        assert news == {b"weights:home", None}
        link.execute(READ)


def test_a_reply_to_no_command_ends_the_connection() -> None:
    with Peer(HELLO, OK + OK) as peer, RedisLink(f"redis://127.0.0.1:{peer.port}") as link:
        link.execute(READ)
        with pytest.raises(RedisLost, match="a reply to no command"):
            link.pushed_keys(15.0)


def test_an_error_is_the_reply_to_its_own_command_only() -> None:
    with (
        Peer(HELLO, b"-WRONGTYPE no hash\r\n" + OK) as peer,
        RedisLink(f"redis://127.0.0.1:{peer.port}") as link,
    ):
        assert link.execute(READ, READ) == [ErrorReply("WRONGTYPE no hash"), b"OK"]


READONLY = "READONLY You can't write against a read only replica."
MASTERDOWN = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
# As Redis 6.2 writes it, and as Redis 7 does.
SCRIPT = "ERR Error running script (call to f_e3fd): @user_script:1: @user_script: 1: -"
ABORT = "EXECABORT Transaction discarded because of: "
IN_SCRIPT = " script: e3fd, on @user_script:1."
NO_WRITES = {
    "a replica": (READONLY, READONLY),
    "a replica, to a script": (SCRIPT + READONLY, READONLY),
    "a replica, to a script of Redis 7": (READONLY + IN_SCRIPT, READONLY),
    "a replica, to EXEC": (ABORT + READONLY, READONLY),
    "a replica, to EXEC of another version": (f"{ABORT}-{READONLY}", READONLY),
    "too few replicas": (f"{SCRIPT}NOREPLICAS Not enough.", "NOREPLICAS Not enough."),
    "another node": ("MOVED 866 127.0.0.1:7002", "MOVED 866 127.0.0.1:7002"),
    "a cluster that is down": (
        "CLUSTERDOWN The cluster is down",
        "CLUSTERDOWN The cluster is down",
    ),
}


@pytest.mark.parametrize(("answer", "message"), NO_WRITES.values(), ids=NO_WRITES)
def test_a_refused_write_is_the_reply_to_its_own_command_and_reads_beside_it_are_good(
    answer: str, message: str
) -> None:
    with (
        Peer(HELLO, OK + f"-{answer}\r\n".encode() + OK, OK) as peer,
        RedisLink(f"redis://127.0.0.1:{peer.port}") as link,
    ):
        assert link.execute(READ, RUN, READ) == [b"OK", UnwritableReply(message), b"OK"]
        link.execute(READ)


NOTHING_TO_READ = {
    "without its master": f"-{MASTERDOWN}",
    "without its master, to EXEC": f"-{ABORT}{MASTERDOWN}",
    "without its master, to a script": f"-{SCRIPT}{MASTERDOWN}",
    "without its master, inside of EXEC": f"*2\r\n+OK\r\n-{MASTERDOWN}",
    "loading": "-LOADING Redis is loading the dataset in memory",
    "loading, to EXEC": f"-{ABORT}LOADING Redis is loading the dataset in memory",
    "no master any more": "-UNBLOCKED force unblock from blocking operation, instance state changed",
}


@pytest.mark.parametrize("answer", NOTHING_TO_READ.values(), ids=NOTHING_TO_READ)
def test_a_server_that_has_nothing_to_be_read_is_the_wrong_one_and_the_next_connection_is_another(
    answer: str,
) -> None:
    with Peer(HELLO, OK + f"{answer}\r\n".encode()) as peer:
        link = RedisLink(f"redis://127.0.0.1:{peer.port}")
        for _ in range(2):
            with pytest.raises(WrongServer, match=r"MASTERDOWN|LOADING|UNBLOCKED"), link:
                link.execute(READ, READ)
            assert peer.calls.acquire(timeout=15.0)


@pytest.mark.parametrize(
    "answer",
    [
        "ERR 1-1 in READONLY:history:home is not an entry of a history: XDEL it",
        "ERR unknown command 'READONLY'",
        "WRONGTYPE Operation against a key: READONLY MASTERDOWN",
        "READONLYISH no such thing",
        "NOPERM MASTERDOWN",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "OOM command not allowed when used memory > 'maxmemory'.",
    ],
)
def test_an_error_of_another_kind_does_not_blame_the_server_whatever_words_are_in_it(
    answer: str,
) -> None:
    with (
        Peer(HELLO, f"-{answer}\r\n".encode(), OK) as peer,
        RedisLink(f"redis://127.0.0.1:{peer.port}") as link,
    ):
        (reply,) = link.execute(READ)
        assert type(reply) is ErrorReply
        link.execute(READ)


NO_SCRIPT = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"


def test_a_script_that_redis_does_not_know_is_loaded_and_run() -> None:
    with (
        Peer(HELLO, OK + NO_SCRIPT + OK, b"+sha\r\n:1\r\n", OK) as peer,
        RedisLink(f"redis://127.0.0.1:{peer.port}") as link,
    ):
        assert link.execute(READ, RUN, READ) == [b"OK", 1, b"OK"]
        link.execute(READ)


def test_what_keeps_a_script_from_being_loaded_is_the_reply() -> None:
    denial = b"-NOPERM no 'script|load'\r\n"
    with (
        Peer(HELLO, NO_SCRIPT, denial + NO_SCRIPT) as peer,
        RedisLink(f"redis://127.0.0.1:{peer.port}") as link,
    ):
        (reply,) = link.execute(RUN)
    assert isinstance(reply, ErrorReply)
    assert reply.message.endswith("no 'script|load'")


@pytest.mark.parametrize(
    "answer", [OK, b":x\r\n", b"%1\r\n*0\r\n:3\r\n", b"-LOADING the dataset\r\n"]
)
def test_after_a_handshake_that_failed_the_next_begins_afresh(answer: bytes) -> None:
    with Peer(answer) as peer:
        link = RedisLink(f"redis://127.0.0.1:{peer.port}")
        for _ in range(2):
            with pytest.raises(RedisLost), link:
                link.execute(READ)
            assert peer.calls.acquire(timeout=15.0)


def test_a_peer_that_stops_in_mid_reply_is_lost() -> None:
    with (
        Peer(HELLO, b"$9\r\nhalf") as peer,
        pytest.raises(RedisLost),
        RedisLink(f"redis://127.0.0.1:{peer.port}") as link,
    ):
        link.execute(READ)
