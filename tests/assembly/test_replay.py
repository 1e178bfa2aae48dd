"""What is known of events that were read before a restore."""

import pytest

from tests.builders import surface
from workers.assembly.replay import PastLetter, Replay
from workers.assembly.rules import rules_digest

LETTER = PastLetter(is_partial=False, message="late", has_key=True, key=b"r", value_bytes=2)
PARTIAL = LETTER._replace(
    is_partial=True, message="candidates[1] feature-count: " + "x" * 50 + "..."
)


def test_by_the_same_rules_whatever_is_refused_again_is_out() -> None:
    replay = Replay(10)
    assert replay.is_out(9, b"r", b"{}", is_partial=False, message="")
    assert not replay.is_out(10, b"r", b"{}", is_partial=False, message="")
    assert not replay.is_settled(9, b"r", b"{}")


def test_by_other_rules_only_a_dead_letter_of_the_same_event_says_that_it_was_refused() -> None:
    replay = Replay(10, {3: [LETTER]})
    assert replay.is_settled(3, b"r", b"{}")
    assert not replay.is_settled(4, b"r", b"{}")
    assert not replay.is_out(4, b"r", b"{}", is_partial=False, message="late")


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"s", b"{}"), (None, b"{}"), (b"r", b"{ }"), (b"r", None)],
    ids=["key", "no key", "length", "null"],
)
def test_a_letter_of_another_event_at_the_same_offset_says_nothing(
    key: bytes | None, value: bytes | None
) -> None:
    """The topic may have been deleted and created again: its offsets begin at 0 again."""
    assert not Replay(10, {3: [LETTER]}).is_settled(3, key, value)


def test_a_letter_that_was_too_large_for_its_key_is_known_by_its_length() -> None:
    replay = Replay(10, {3: [LETTER._replace(has_key=False, key=None)]})
    assert replay.is_settled(3, b"k" * 100_000, b"{}")
    assert not replay.is_settled(3, b"k" * 100_000, b"{ }")


def test_an_event_that_was_accepted_in_part_is_judged_again_and_its_letter_is_out_if_it_is_the_same() -> (
    None
):
    replay = Replay(10, {3: [PARTIAL]})
    assert not replay.is_settled(3, b"r", b"{}")
    whole = "candidates[1] feature-count: " + "x" * 500
    assert replay.is_out(3, b"r", b"{}", is_partial=True, message=whole)
    assert not replay.is_out(3, b"r", b"{}", is_partial=True, message="candidates[2] item-id: ")
    assert not replay.is_out(3, b"r", b"{}", is_partial=False, message=whole), (
        "refused whole, it is another refusal"
    )


def test_an_event_that_was_accepted_in_part_by_two_rules_has_both_letters_out() -> None:
    other = PARTIAL._replace(message="candidates[2] item-id: ")
    replay = Replay(10, {3: [PARTIAL, other]})
    for letter in (PARTIAL, other):
        assert replay.is_out(
            3, b"r", b"{}", is_partial=True, message=letter.message.removesuffix("...")
        )
    assert Replay(10, {3: [LETTER, PARTIAL]}).is_settled(3, b"r", b"{}")


def test_events_that_were_judged_by_several_rules_stay_so_up_to_the_end_of_the_replay() -> None:
    assert Replay(10, {}).is_mixed_from(9)
    assert not Replay(10, {}).is_mixed_from(10)
    assert not Replay(10).is_mixed_from(9)


def test_an_event_of_a_published_request_is_settled_up_to_where_the_log_reached() -> None:
    replay = Replay(10, {}, ["r"])
    assert replay.is_settled(9, b"r", b"{}")
    assert not replay.is_settled(10, b"r", b"{}"), "a producer's late retry is refused as late"
    assert not replay.is_settled(9, b"s", b"{}")
    assert not replay.is_settled(9, None, b"{}")
    assert not replay.is_settled(9, b"\xff", b"{}")


def test_the_digest_changes_with_what_decides_about_an_event_and_with_nothing_else() -> None:
    home = surface()
    digest = rules_digest({"home": home}, "json")
    assert digest == rules_digest({"home": surface(top_k=5, max_per_source=2)}, "json")
    others = [
        rules_digest({"house": surface("house")}, "json"),
        rules_digest({"home": home, "search": surface("search")}, "json"),
        rules_digest({"home": home}, "protobuf"),
        rules_digest({"home": surface(deadline_ms=1)}, "json"),
        rules_digest({"home": surface(horizon_ms=1)}, "json"),
        rules_digest({"home": surface(max_candidates=1)}, "json"),
        rules_digest({"home": surface(lookup_features=True)}, "json"),
    ]
    assert len({digest, *others}) == 1 + len(others)
