"""The link to Redis, against a peer whose every byte is known."""

import pytest

from tests.steering.peers import Peer
from workers.steering.connection import Denied, Link, RedisLost, Script

HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"
OK = b"+OK\r\n"
PUSH = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$12\r\nweights:home\r\n"
FLUSH = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
QUESTION = ("HGETALL", "weights:home")


def test_a_push_between_two_replies_is_news() -> None:
    with Peer(HELLO, OK + PUSH + OK, OK) as peer, Link(f"redis://127.0.0.1:{peer.port}") as link:
        assert link.ask(QUESTION, QUESTION) == [b"OK", b"OK"]
        assert link.news(0) == {b"weights:home"}
        link.ask(QUESTION)


def test_a_push_before_the_first_reply_is_news_too_since_the_question_may_be_of_another_key() -> None:
    with Peer(HELLO, PUSH + PUSH + OK + OK, OK) as peer, Link(f"redis://127.0.0.1:{peer.port}") as link:
        assert link.ask(QUESTION, QUESTION) == [b"OK", b"OK"]
        assert link.news(0) == {b"weights:home"}
        link.ask(QUESTION)


def test_what_is_pushed_is_news_once_and_other_questions_leave_it_so() -> None:
    with Peer(HELLO, OK + PUSH, OK, OK) as peer, Link(f"redis://127.0.0.1:{peer.port}") as link:
        link.ask(QUESTION)
        link.ask(QUESTION)
        assert link.news(15.0) == {b"weights:home"}
        assert link.news(0) == set()
        link.ask(QUESTION)


def test_all_keys_are_news_where_redis_is_flushed() -> None:
    with Peer(HELLO, OK + PUSH + FLUSH, OK) as peer, Link(f"redis://127.0.0.1:{peer.port}") as link:
        link.ask(QUESTION)
        news = link.news(15.0)
        while None not in news:
            news |= link.news(15.0)
        assert news == {b"weights:home", None}
        link.ask(QUESTION)


def test_a_reply_to_no_command_is_no_news_and_ends_the_connection() -> None:
    with Peer(HELLO, OK + OK) as peer, Link(f"redis://127.0.0.1:{peer.port}") as link:
        link.ask(QUESTION)
        with pytest.raises(RedisLost, match="a reply to no command"):
            link.news(15.0)


def test_an_error_is_the_reply_to_its_own_command_only() -> None:
    with Peer(HELLO, b"-WRONGTYPE no hash\r\n" + OK) as peer, Link(f"redis://127.0.0.1:{peer.port}") as link:
        assert link.ask(QUESTION, QUESTION) == [Denied("WRONGTYPE no hash"), b"OK"]


NO_SCRIPT = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"
RUN = ("EVALSHA", Script("return 1"), 0)


def test_a_script_that_redis_does_not_know_is_loaded_and_run() -> None:
    with (
        Peer(HELLO, OK + NO_SCRIPT + OK, b"+sha\r\n:1\r\n", OK) as peer,
        Link(f"redis://127.0.0.1:{peer.port}") as link,
    ):
        assert link.ask(QUESTION, RUN, QUESTION) == [b"OK", 1, b"OK"]
        link.ask(QUESTION)


def test_what_keeps_a_script_from_being_loaded_is_the_reply() -> None:
    denial = b"-NOPERM no 'script|load'\r\n"
    with Peer(HELLO, NO_SCRIPT, denial + NO_SCRIPT) as peer, Link(f"redis://127.0.0.1:{peer.port}") as link:
        (reply,) = link.ask(RUN)
    assert isinstance(reply, Denied)
    assert reply.message.endswith("no 'script|load'")


@pytest.mark.parametrize("answer", [OK, b":x\r\n", b"%1\r\n*0\r\n:3\r\n", b"-LOADING the dataset\r\n"])
def test_after_a_handshake_that_failed_the_next_begins_anew(answer: bytes) -> None:
    with Peer(answer) as peer:
        link = Link(f"redis://127.0.0.1:{peer.port}")
        for _ in range(2):
            with pytest.raises(RedisLost), link:
                link.ask(QUESTION)
            assert peer.calls.acquire(timeout=15.0)


def test_a_peer_that_stops_in_mid_reply_is_lost() -> None:
    with Peer(HELLO, b"$9\r\nhalf") as peer, pytest.raises(RedisLost), Link(f"redis://127.0.0.1:{peer.port}") as link:
        link.ask(QUESTION)
