from pathlib import Path

import pytest

from tests.builders import surface
from tests.scoring.building import WIDE, add_model, mlp, trees
from workers.ranking.features import FeatureSet
from workers.ranking.surface import Surfaces
from workers.scoring.refusal import ModelReason
from workers.scoring.store import NoVerifiedModel, find_versions, load_models

HOME: Surfaces = {"home": surface(feature_set=WIDE)}


def spoil(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"spoilt")


def both(root: Path, version: int = 1) -> None:
    add_model(root, mlp(), "quality", version)
    add_model(root, trees(), "engagement", version)


def test_the_highest_version_by_number_is_in_force(tmp_path: Path) -> None:
    both(tmp_path, 9)
    add_model(tmp_path, mlp(seed=1), "quality", 10)
    scorer = load_models(tmp_path, HOME)
    assert scorer.models == {"home": {"quality": 10, "engagement": 9}}
    assert scorer.refusals == ()


def test_a_bad_highest_version_falls_back_to_the_next_good_one(tmp_path: Path) -> None:
    for version in (1, 2, 3, 4):
        add_model(tmp_path, mlp(seed=version), "quality", version)
    add_model(tmp_path, trees(), "engagement", 1)
    spoil(tmp_path / "quality" / "4")
    (tmp_path / "quality" / "3" / "manifest.json").unlink()
    scorer = load_models(tmp_path, HOME)
    assert scorer.models["home"]["quality"] == 2
    assert [(r.version.number, r.reason) for r in scorer.refusals] == [(4, ModelReason.HASH), (3, ModelReason.MANIFEST)]
    assert str(scorer.refusals[0]).startswith("quality/4: hash: model.onnx: sha256: got ")


def test_a_version_below_the_one_in_force_is_not_looked_at(tmp_path: Path) -> None:
    both(tmp_path, 2)
    spoil(add_model(tmp_path, mlp(), "quality", 1))
    assert load_models(tmp_path, HOME).refusals == ()


def test_an_objective_without_a_version_that_verifies_stops_the_start_and_names_each_reason(tmp_path: Path) -> None:
    both(tmp_path)
    spoil(tmp_path / "quality" / "1")
    spoil(add_model(tmp_path, mlp(), "quality", 2))
    (tmp_path / "engagement" / "1" / "model.onnx").unlink()
    with pytest.raises(NoVerifiedModel) as caught:
        load_models(tmp_path, HOME)
    message = str(caught.value)
    for part in ("'quality'", "quality/2: hash: ", "quality/1: hash: ", "'engagement'", "engagement/1: unreadable: "):
        assert part in message


def test_an_objective_without_any_version_is_named_with_the_folder_it_was_looked_for_in(tmp_path: Path) -> None:
    add_model(tmp_path, mlp(), "quality")
    with pytest.raises(NoVerifiedModel, match=r"objective 'engagement': no version in .*/engagement"):
        load_models(tmp_path, HOME)


def test_a_models_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(NoVerifiedModel, match=r"'quality'.*'engagement'"):
        load_models(tmp_path / "nowhere", HOME)


def test_an_objective_that_no_surface_names_is_not_loaded(tmp_path: Path) -> None:
    both(tmp_path)
    spoil(add_model(tmp_path, mlp(), "virality"))
    assert load_models(tmp_path, HOME).models == {"home": {"quality": 1, "engagement": 1}}


def test_a_version_must_suit_the_feature_set_of_every_surface_that_names_its_objective(tmp_path: Path) -> None:
    both(tmp_path)
    renamed = [*WIDE.names[:31], "new"]
    add_model(tmp_path, mlp(seed=1), "quality", 2, features=renamed)
    newer = FeatureSet("newer", (*WIDE.names, "new"))
    surfaces = {"home": surface(feature_set=WIDE), "search": surface("search", feature_set=newer)}
    scorer = load_models(tmp_path, surfaces)
    assert scorer.models["search"] == scorer.models["home"] == {"quality": 1, "engagement": 1}
    assert [r.reason for r in scorer.refusals] == [ModelReason.FEATURES]
    assert load_models(tmp_path, {"search": surfaces["search"]}).models["search"]["quality"] == 2


def test_only_folders_with_whole_numbers_for_names_are_versions(tmp_path: Path) -> None:
    both(tmp_path)
    for name in ("2.partial", "draft", "-3", ".4"):
        (tmp_path / "quality" / name).mkdir()
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "quality" / "5").write_text("a file")
    found = find_versions(tmp_path)
    assert {objective: [v.number for v in versions] for objective, versions in found.items()} == {
        "engagement": [1],
        "quality": [1],
    }


def test_a_size_limit_holds_for_every_model(tmp_path: Path) -> None:
    both(tmp_path)
    with pytest.raises(NoVerifiedModel, match=r"size: .*expected at most 100"):
        load_models(tmp_path, HOME, size_limit=100)
