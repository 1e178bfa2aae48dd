"""A parent answers for its children, also for those that do not answer."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from workers.metrics.children import SILENT_S, Children
from workers.metrics.health import Health
from workers.metrics.server import serve
from workers.metrics.view import ProcessView, Sources


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def child(slot: int, *, is_ready: bool = True) -> ProcessView:
    """A child that is put together."""
    view = ProcessView("ranking", slot, has_parent=True)
    view.sources = Sources(
        samples=list,
        live=lambda: Health(True, "consume"),
        ready=lambda: Health(is_ready, "partitions: 1"),
        status=lambda: b'{"worker":"host-%d"}' % slot,
    )
    return view


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def children(clock: Clock) -> Iterator[Children]:
    """The parent of two children. Nobody answers for them yet: they start, or hang."""
    children = Children(2, clock=clock)
    yield children
    children.close()


def body(children: Children, path: str) -> tuple[int, str]:
    answer = children.answer(path, "")
    assert answer is not None
    return answer.status, answer.body.decode()


def test_it_shows_the_series_of_all_children(children: Children) -> None:
    with ExitStack() as running:
        for slot, listener in enumerate(children.listeners):
            running.enter_context(serve(listener.dup(), child(slot).answer))
        _, text = body(children, "/metrics")
        assert 'trimtab_ready{slot="0",stage="ranking"} 1.0' in text
        assert 'trimtab_ready{slot="1",stage="ranking"} 1.0' in text
        assert text.count("# TYPE trimtab_ready") == 1
        assert 'trimtab_child_up{child="1"} 1.0' in text
        assert body(children, "/readyz")[0] == 200
        status = json.loads(body(children, "/status")[1])
        assert status == {"0": {"worker": "host-0"}, "1": {"worker": "host-1"}}


def test_a_child_that_hangs_is_left_out_and_the_others_are_shown(children: Children) -> None:
    with serve(children.listeners[0].dup(), child(0).answer):
        _, text = body(children, "/metrics")
        assert 'trimtab_ready{slot="0",stage="ranking"} 1.0' in text
        assert 'slot="1"' not in text
        assert 'trimtab_child_up{child="1"} 0.0' in text
        assert body(children, "/readyz") == (503, "child 1 does not answer\n")
        assert body(children, "/livez") == (200, "children that answer: 1 of 2\n")


def test_a_child_that_starts_again_is_back(children: Children) -> None:
    assert body(children, "/readyz")[0] == 503
    with ExitStack() as running:
        for slot, listener in enumerate(children.listeners):
            running.enter_context(serve(listener.dup(), child(slot).answer))
        assert body(children, "/readyz")[0] == 200


def test_a_child_that_never_answers_is_not_alive(children: Children, clock: Clock) -> None:
    clock.now = SILENT_S
    status, why = body(children, "/livez")
    assert status == 503
    assert why == "child 0 has not answered for 60 s\n"


def test_a_child_that_is_not_ready_is_named(children: Children) -> None:
    with ExitStack() as running:
        for slot, listener in enumerate(children.listeners):
            view = child(slot, is_ready=slot == 0)
            running.enter_context(serve(listener.dup(), view.answer))
        assert body(children, "/readyz") == (503, "child 1: partitions: 1\n")
