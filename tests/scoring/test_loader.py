"""What was examined is opened only where it still is what lies in the folder."""

import time
from pathlib import Path

import msgspec
import pytest

from tests.scoring.building import add_model, mlp
from workers.scoring.catalogue import Entry, Rejected, State, Verified
from workers.scoring.folder import find_versions, stamp
from workers.scoring.loader import Loader
from workers.scoring.manifest import read_manifest
from workers.scoring.refusal import ModelReason


@pytest.fixture
def reader() -> Loader:
    return Loader(2**26, 2**20, lambda event, **fields: None, time.monotonic)


@pytest.fixture
def listed(tmp_path: Path) -> Entry:
    add_model(tmp_path, mlp())
    (version,) = find_versions(tmp_path)["quality"]
    return Entry(version, stamp(version))


def sound(entry: Entry, **changes: str) -> Verified:
    folder = entry.version.folder
    manifest = msgspec.structs.replace(read_manifest(folder, folder.parent.parent), **changes)
    return Verified(manifest, 16_384, (folder / "model.onnx").stat().st_size)


def test_a_sound_version_is_opened_where_it_is_asked_for_or_there_is_room(
    reader: Loader, listed: Entry
) -> None:
    assert reader.judge(listed, sound(listed), load=False).state is State.LOADED
    small = Loader(1, 2**20, reader.say, reader.clock)
    assert small.judge(listed, sound(listed), load=False).state is State.AVAILABLE
    assert small.judge(listed, sound(listed), load=True).state is State.LOADED
    assert (small.tally.verified, small.tally.loads) == (2, 1)


def test_a_version_whose_files_changed_after_its_exam_is_to_be_examined_anew(
    reader: Loader, listed: Entry
) -> None:
    examined = sound(listed)
    (listed.version.folder / "model.onnx").write_bytes(b"another")
    again = reader.judge(listed, examined, load=True)
    assert again == Entry(listed.version, stamp(listed.version))
    assert (again.state, len(reader.sessions)) == (State.LISTED, 0)


def test_a_version_that_cannot_be_opened_as_it_was_examined_is_refused(
    reader: Loader, listed: Entry
) -> None:
    verdict = reader.judge(listed, sound(listed, sha256="0" * 64), load=True).verdict
    assert isinstance(verdict, Rejected)
    assert (verdict.reason, reader.tally.refused) == (ModelReason.HASH, 1)
