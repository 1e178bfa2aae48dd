"""The state file is replaced whole. If it is not a state file, the error names it."""

from pathlib import Path

import pytest

from workers.local.processes import ProcessIdentity
from workers.local.server import StackError
from workers.local.state import ServerState, StackState, load_state, locked, save_state


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state: StackState = {
        "kafka": ServerState(20_000, ProcessIdentity(12, 345)),
        "redis": ServerState(20_001),
    }
    save_state(tmp_path / "state.json", state)
    assert load_state(tmp_path / "state.json") == state
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_without_a_file_the_state_is_empty(tmp_path: Path) -> None:
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


def test_a_lock_that_is_held_is_reported_before_waiting(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "lock"
    with locked(lock, _refuse_to_wait), pytest.raises(_Waiting), locked(lock, _refuse_to_wait):
        pass


class _Waiting(Exception):
    pass


def _refuse_to_wait() -> None:
    raise _Waiting


def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="file"), locked(tmp_path / "file" / "lock", lambda: None):
        pass
