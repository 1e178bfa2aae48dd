"""Sources are shared, and the memory for them is bounded."""

from workers.codec import sources
from workers.codec.sources import SourceNames


def _made(text: str) -> str:
    """A string of its own."""
    return "".join(list(text))


def test_equal_sources_are_one_string() -> None:
    shared = SourceNames()
    assert shared[_made("world")] is shared[_made("world")]


def test_however_many_sources_come_no_more_than_the_bound_are_held() -> None:
    shared = SourceNames()
    for number in range(3 * sources.MOST):
        assert shared[f"source-{number}"] == f"source-{number}"
        assert len(shared) <= sources.MOST
