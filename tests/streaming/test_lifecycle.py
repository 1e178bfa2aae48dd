"""Slots of one host. Restarts and the drain are in test_worker.py."""

from pathlib import Path

import pytest

from workers.streaming.lifecycle import SlotTaken, take_slot


def test_each_worker_takes_the_lowest_free_slot_and_gives_it_back(tmp_path: Path) -> None:
    first, second = take_slot(tmp_path, "g", None), take_slot(tmp_path, "g", None)
    assert (first.number, second.number) == (0, 1)
    first.release()
    assert take_slot(tmp_path, "g", None).number == 0


def test_a_slot_that_is_held_is_refused(tmp_path: Path) -> None:
    held = take_slot(tmp_path, "g", 4)
    with pytest.raises(SlotTaken, match="slot 4 of group 'g' is held"):
        take_slot(tmp_path, "g", 4)
    assert take_slot(tmp_path, "other/group", 4).number == held.number


def test_the_transactional_id_is_static_and_names_group_host_and_slot(tmp_path: Path) -> None:
    slot = take_slot(tmp_path, "g", None)
    before = slot.transactional_id("g")
    slot.release()
    assert take_slot(tmp_path, "g", None).transactional_id("g") == before
    assert before.startswith("g-")
    assert before.endswith("-0")
