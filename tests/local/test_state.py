"""The state file is replaced whole, and one that is not ours is refused by name."""

from pathlib import Path

import pytest

from workers.local.errors import StackError
from workers.local.processes import ProcessMark
from workers.local.state import ServerState, StackState, load_state, locked, save_state


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state: StackState = {
        "kafka": ServerState(20_000, ProcessMark(12, 345)),
        "redis": ServerState(20_001),
    }
    save_state(tmp_path / "state.json", state)
    assert load_state(tmp_path / "state.json") == state
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_no_state_means_that_nothing_is_known(tmp_path: Path) -> None:
    assert load_state(tmp_path / "state.json") == {}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"kafka": {"port": "x"}}', '{"broker": {"port": 1}}']
)
def test_a_state_that_is_not_ours_is_refused_by_the_name_of_its_file(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(StackError, match=r"state\.json"):
        load_state(path)


def test_who_finds_the_lock_held_is_told(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "lock"
    with locked(lock, _tell), pytest.raises(_Told), locked(lock, _tell):
        pass


class _Told(Exception):
    pass


def _tell() -> None:
    raise _Told


def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="file"), locked(tmp_path / "file" / "lock", lambda: None):
        pass
