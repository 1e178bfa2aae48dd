"""Sources are shared, and the memory for them is bounded."""

from workers.codec.judge import MAX_SOURCES, SourceNames


def _new_string(text: str) -> str:
    return "".join(list(text))


def test_equal_sources_are_one_string() -> None:
    shared = SourceNames()
    assert shared[_new_string("world")] is shared[_new_string("world")]


def test_however_many_sources_come_no_more_than_the_bound_are_held() -> None:
    shared = SourceNames()
    for number in range(3 * MAX_SOURCES):
        assert shared[f"source-{number}"] == f"source-{number}"
        assert len(shared) <= MAX_SOURCES
