from pathlib import Path

from tests.scoring.building import add_model, mlp
from workers.scoring.folder import find_versions


def test_only_folders_with_whole_numbers_for_names_are_versions(tmp_path: Path) -> None:
    add_model(tmp_path, mlp(), "quality")
    add_model(tmp_path, mlp(), "engagement")
    for name in ("2.partial", "draft", "-3", ".4"):
        (tmp_path / "quality" / name).mkdir()
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "quality" / "5").write_text("a file")
    found = find_versions(tmp_path)
    assert {objective: [v.number for v in versions] for objective, versions in found.items()} == {
        "engagement": [1],
        "quality": [1],
    }
