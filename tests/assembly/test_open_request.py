"""An open request keeps the first candidate of each item, however its events came."""

from hypothesis import example, given
from hypothesis import strategies as st

from tests.builders import PAIR, event, refused, surface
from workers.assembly.open_request import OpenRequest, whole_request
from workers.ranking.request import Completion, Event
from workers.ranking.surface import Surface

_IDS = st.sampled_from(["a", "b", "c", "d", "é", "\0", "a\0b", "日本", "long" * 60, "x", "y", "z"])
_NUMBERS = st.integers(0, 9)
_CANDIDATES = st.tuples(_IDS, st.sampled_from([None, "s", "t"]), _NUMBERS)
PAIR_OF_ITEMS = surface(max_candidates=2)
_LOTS = [(str(number), "s", number % 10) for number in range(40)]


def _event(listed: list[tuple[str, str | None, int]], expected: int, where: Surface) -> Event:
    """An event with these candidates: id, source, and a number as their first feature."""
    rows = b"".join(PAIR.pack_positional([number, 0.0]) for _, _, number in listed)
    return event(
        "r",
        surface=where,
        expected=expected,
        item_ids=[item_id for item_id, _, _ in listed],
        sources=[source for _, source, _ in listed],
        rows=rows,
    )


@given(
    st.lists(st.lists(_CANDIDATES, max_size=12), min_size=1, max_size=12),
    st.integers(0, 14),
    st.integers(1, 14),
    st.integers(0, 1),
    st.booleans(),
)
@example([_LOTS, _LOTS], 50, 60, 1, True)
@example([[candidate] for candidate in [*_LOTS, *_LOTS]], 40, 60, 0, True)
@example([[candidate] for candidate in [*_LOTS, *_LOTS]], 40, 60, 1, False)
def test_the_first_candidate_of_each_item_counts_up_to_the_limit(
    events: list[list[tuple[str, str | None, int]]],
    expected: int,
    limit: int,
    rules: int,
    is_one_of_many: bool,
) -> None:
    first: dict[str, tuple[str | None, int]] = {}
    where = surface(max_candidates=limit, max_per_source=rules)
    open_request = OpenRequest(_event([], expected, where), 0, 0, 0, is_one_of_many=is_one_of_many)
    for listed in events:
        past_limit = []
        for position, (item_id, source, number) in enumerate(listed):
            if item_id in first:
                continue
            if len(first) < limit:
                first[item_id] = source, number
            else:
                past_limit.append((position, item_id))

        sent = _event(listed, expected, where)
        got = [] if open_request.add_usual(sent) else open_request.add(sent)
        assert [(candidate.position, candidate.identity) for candidate in got] == past_limit
        is_full = open_request.completion(sent) is Completion.FULL
        is_past_limit = open_request.close(Completion.DEADLINE).refused > 0
        assert is_full == (len(first) >= expected) or is_past_limit

    closed = open_request.close(Completion.DEADLINE)
    assert closed.item_ids == tuple(first)
    assert closed.sources == (tuple(source for source, _ in first.values()) if rules else None)
    assert closed.rows == b"".join(PAIR.pack_positional([n, 0.0]) for _, n in first.values())


@given(
    st.lists(_CANDIDATES, max_size=6),
    st.integers(0, 6),
    st.integers(1, 6),
    st.integers(0, 1),
    st.booleans(),
    st.booleans(),
)
@example([("a", "s", 1), ("b", None, 2)], 2, 2, 1, False, True)
def test_an_event_that_is_a_whole_request_closes_as_an_open_one_would(
    listed: list[tuple[str, str | None, int]],
    expected: int,
    limit: int,
    rules: int,
    has_refused: bool,
    is_last: bool,
) -> None:
    where = surface(max_candidates=limit, max_per_source=rules)
    sent = _event(listed, expected, where)._replace(
        refused=(refused("r", len(listed)),) if has_refused else (), last=is_last
    )
    whole = whole_request(sent, first_offset=7, opened_at=5)

    distinct = {item_id for item_id, _, _ in listed}
    is_whole = len(listed) == len(distinct) == expected <= limit and not has_refused
    assert (whole is not None) == is_whole
    if whole is not None:
        open_request = OpenRequest(sent, first_offset=7, opened_at=5, due=9)
        assert not open_request.add_usual(sent)
        assert open_request.add(sent) == ()
        assert open_request.completion(sent) is Completion.FULL
        assert whole == open_request.close(Completion.FULL)


def test_a_refused_candidate_counts_until_it_comes_in_a_valid_form() -> None:
    open_request = OpenRequest(event("r"), 0, 0, 0)
    first = event("r", "a", "b", expected=3, refused=(refused("c", 2),))
    open_request.add(first)
    assert open_request.completion(first) is Completion.FULL
    assert open_request.close(Completion.FULL).refused == 1

    open_request.add(event("r", "c"))
    closed = open_request.close(Completion.FULL)
    assert (closed.item_ids, closed.refused) == (("a", "b", "c"), 0)


def test_an_event_is_usual_if_nothing_about_it_must_be_looked_at() -> None:
    open_request = OpenRequest(event("r"), 0, 0, 0)
    assert not open_request.add_usual(event("r", "a", expected=4)), "it says how many come"
    open_request.add(event("r", "a", expected=4))
    assert open_request.add_usual(event("r", "b", expected=4))

    unusual = [
        event("r", "c", expected=5),
        event("r", "c", expected=4, user_id="another"),
        event("r", "c", expected=4, requested_at=1001),
        event("r", "c", expected=4, surface=surface("search")),
        event("r", "c", expected=4, last=True),
        event("r", "c", expected=4, refused=(refused("d", 1),)),
        event("r", "c", "d", expected=4),  # as many as are expected
    ]
    for one in unusual:
        assert not open_request.add_usual(one)
    assert open_request.close(Completion.DEADLINE).item_ids == ("a", "b")


def test_no_event_is_usual_past_the_limit_or_after_a_refused_candidate() -> None:
    small = OpenRequest(event("r", surface=PAIR_OF_ITEMS), 0, 0, 0)
    assert small.add_usual(event("r", "a", "b", surface=PAIR_OF_ITEMS))
    assert not small.add_usual(event("r", "c", surface=PAIR_OF_ITEMS))

    refusing = OpenRequest(event("r"), 0, 0, 0)
    refusing.add(event("r", refused=(refused("a"),)))
    assert not refusing.add_usual(event("r", "b"))
