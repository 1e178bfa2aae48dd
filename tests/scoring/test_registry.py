"""The registry over a real folder. Tests wait for a catalogue, never for a time."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from tests.builders import surface
from tests.scoring.building import (
    FEATURES,
    WIDE,
    add_endless,
    add_model,
    golden_of,
    mlp,
    trees,
    write_version,
)
from workers.ranking.features import FeatureSet
from workers.ranking.surface import Surfaces
from workers.scoring.catalogue import Catalogue, CatalogueEntry, Rejected, Verified, VersionState
from workers.scoring.folder import find_versions, stamp
from workers.scoring.manifest import read_manifest
from workers.scoring.refusal import ModelReason
from workers.scoring.registry import Loader, NoVerifiedModel, Registry
from workers.scoring.resolver import Lacking, Loading
from workers.scoring.scorer import SurfaceModels
from workers.scoring.session_cache import session_bytes
from workers.scoring.verification import VerificationLimits

HOME = surface(feature_set=WIDE)
SURFACES: Surfaces = {"home": HOME}
OBJECTIVES = HOME.objectives
MB = 1024 * 1024
PATIENCE = 90.0


def spoil(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"spoilt")


def add_both(root: Path, version: int = 1) -> None:
    """A version of each objective that the surfaces need."""
    add_model(root, mlp(seed=version), "quality", version)
    add_model(root, trees(seed=version), "engagement", version)


def until(registry: Registry, holds: Callable[[Catalogue], bool]) -> Catalogue:
    """Wait for a catalogue."""
    catalogue = registry.catalogue
    while not holds(catalogue):
        assert registry.wait_past(catalogue.revision, PATIENCE), (
            f"nothing more happened: {list(catalogue)}"
        )
        catalogue = registry.catalogue
    return catalogue


def entry(registry: Registry, objective: str, number: int) -> CatalogueEntry:
    entry = registry.catalogue.entry(objective, number)
    assert entry is not None
    return entry


def reached(objective: str, number: int, *states: VersionState) -> Callable[[Catalogue], bool]:
    """Whether a version has reached one of the states."""

    def holds(catalogue: Catalogue) -> bool:
        entry = catalogue.entry(objective, number)
        return entry is not None and entry.state in states

    return holds


READY = (VersionState.AVAILABLE, VersionState.LOADED)


def versions(
    registry: Registry, objectives: Sequence[str] = OBJECTIVES, **pins: int
) -> dict[str, int]:
    """The versions that score, once nothing is loading."""
    while True:
        revision = registry.catalogue.revision
        resolution = registry.models_for(HOME, objectives, pins)
        if isinstance(resolution, SurfaceModels):
            return resolution.versions
        assert isinstance(resolution, Loading), resolution
        assert registry.wait_past(revision, PATIENCE)


def test_the_highest_version_by_number_is_in_force(tmp_path: Path) -> None:
    add_both(tmp_path, 9)
    add_model(tmp_path, mlp(), "quality", 10)
    with Registry(tmp_path, SURFACES, 64 * MB) as registry:
        resolution = registry.models_for(HOME, OBJECTIVES)
        assert isinstance(resolution, SurfaceModels), (
            "what the surfaces need is loaded before the first request"
        )
        assert resolution.versions == {"quality": 10, "engagement": 9}
        assert registry.in_force == {"home": {"quality": 10, "engagement": 9}}


def test_a_bad_highest_version_falls_back_to_the_next_good_one(tmp_path: Path) -> None:
    add_both(tmp_path)
    spoil(add_model(tmp_path, mlp(), "quality", 2))
    with Registry(tmp_path, SURFACES, 64 * MB) as registry:
        assert versions(registry)["quality"] == 1
        refusal = entry(registry, "quality", 2).refusal
        assert refusal is not None
        assert refusal.reason is ModelReason.HASH


def test_an_objective_without_a_version_that_verifies_stops_the_start_and_names_each_reason(
    tmp_path: Path,
) -> None:
    add_both(tmp_path)
    spoil(tmp_path / "quality" / "1")
    (tmp_path / "engagement" / "1" / "model.onnx").unlink()
    with pytest.raises(NoVerifiedModel) as caught, Registry(tmp_path, SURFACES, 64 * MB):
        pass
    for part in ("'quality'", "quality/1: hash: ", "'engagement'", "engagement/1: unreadable: "):
        assert part in str(caught.value)


def test_a_models_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with (
        pytest.raises(NoVerifiedModel, match=r"'quality': no version in .*/quality.*'engagement'"),
        Registry(tmp_path / "nowhere", SURFACES, 64 * MB),
    ):
        pass


def test_a_version_must_suit_the_feature_set_of_every_surface_that_names_its_objective(
    tmp_path: Path,
) -> None:
    add_both(tmp_path)
    add_model(tmp_path, mlp(seed=1), "quality", 2, features=[*WIDE.names[:31], "new"])
    newer = FeatureSet("newer", (*WIDE.names, "new"))
    surfaces = {**SURFACES, "search": surface("search", feature_set=newer)}
    with Registry(tmp_path, surfaces, 64 * MB) as registry:
        assert versions(registry)["quality"] == 1
        assert entry(registry, "quality", 2).state is VersionState.REFUSED


def test_a_version_that_comes_later_takes_over_and_the_swap_is_counted_and_logged(
    tmp_path: Path,
) -> None:
    add_both(tmp_path)
    events: list[tuple[str, object]] = []

    def log(event: str, **fields: object) -> None:
        events.append((event, fields.get("surface")))

    with Registry(tmp_path, SURFACES, 64 * MB, log) as registry:
        assert versions(registry)["quality"] == 1
        add_model(tmp_path, mlp(seed=5), "quality", 2)
        until(registry, reached("quality", 2, *READY))
        assert versions(registry)["quality"] == 2
        assert registry.counts.swaps == 1
    assert ("models_swapped", "home") in events


def add_bad(kind: str, root: Path) -> None:
    """Add quality/2 with a fault."""
    built = mlp(seed=3)
    if kind == "hash":
        add_model(root, built, "quality", 2, sha256="0" * 64)
    elif kind == "golden":
        add_model(root, built, "quality", 2, golden=[{"features": [0.5] * 32, "score": 9.0}])
    elif kind == "width":
        golden = golden_of(built)
        add_model(root, mlp(width=31), "quality", 2, features=list(FEATURES), golden=golden)
    elif kind == "order":
        built.metadata_props.add(key="trimtab.features", value=json.dumps(FEATURES[::-1]))
        add_model(root, built, "quality", 2)
    elif kind == "half":
        folder = add_model(root, built, "quality", 2)
        raw = (folder / "model.onnx").read_bytes()
        (folder / "model.onnx").write_bytes(raw[: len(raw) // 2])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("hash", ModelReason.HASH),
        ("golden", ModelReason.GOLDEN),
        ("width", ModelReason.MANIFEST),
        ("order", ModelReason.FEATURES),
        ("half", ModelReason.HASH),
    ],
)
def test_a_bad_version_that_comes_later_never_scores(
    tmp_path: Path, kind: str, reason: ModelReason
) -> None:
    add_both(tmp_path)
    with Registry(tmp_path, SURFACES, 64 * MB) as registry:
        add_bad(kind, tmp_path)
        until(registry, reached("quality", 2, VersionState.REFUSED))
        assert versions(registry)["quality"] == 1
        refusal = entry(registry, "quality", 2).refusal
        assert refusal is not None
        assert refusal.reason is reason


def test_a_refused_version_is_verified_again_when_its_files_change(tmp_path: Path) -> None:
    add_both(tmp_path)
    folder = add_model(tmp_path, mlp(seed=5), "quality", 2)
    whole = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(whole[:100])
    with Registry(tmp_path, SURFACES, 64 * MB) as registry:
        assert entry(registry, "quality", 2).state is VersionState.REFUSED
        (folder / "model.onnx").write_bytes(whole)
        until(registry, reached("quality", 2, *READY))
        assert versions(registry)["quality"] == 2


def test_a_version_does_not_exist_before_its_manifest(tmp_path: Path) -> None:
    add_both(tmp_path)
    folder = add_model(tmp_path, mlp(seed=5), "quality", 2)
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").unlink()
    with Registry(tmp_path, SURFACES, 64 * MB) as registry:
        assert registry.catalogue.entry("quality", 2) is None
        (folder / "manifest.json").write_text(manifest)
        until(registry, reached("quality", 2, *READY))


def test_a_pinned_version_is_verified_and_loaded_because_it_is_requested(tmp_path: Path) -> None:
    add_both(tmp_path, 1)
    add_both(tmp_path, 2)
    with Registry(tmp_path, SURFACES, 64 * MB) as registry:
        assert entry(registry, "quality", 1).state is VersionState.LISTED
        assert versions(registry) == {"quality": 2, "engagement": 2}
        assert versions(registry)["quality"] == 2
        assert registry.models_for(HOME, OBJECTIVES, {"quality": 1}), (
            "what was in force goes on in the meantime"
        )
        until(registry, reached("quality", 1, VersionState.LOADED))
        assert versions(registry, quality=1) == {"quality": 1, "engagement": 2}
        registry.request_verification("engagement", 1)
        until(registry, reached("engagement", 1, *READY))


def test_a_loaded_version_whose_folder_goes_is_not_available_but_goes_on_if_it_is_pinned(
    tmp_path: Path,
) -> None:
    add_both(tmp_path, 1)
    add_both(tmp_path, 2)
    with Registry(tmp_path, SURFACES, 64 * MB) as registry:
        assert versions(registry, quality=2)["quality"] == 2
        shutil.rmtree(tmp_path / "quality" / "2")
        until(registry, reached("quality", 2, VersionState.GONE))
        assert versions(registry, quality=2)["quality"] == 2
        until(registry, reached("quality", 1, *READY))
        assert versions(registry)["quality"] == 1


def test_an_objective_that_no_surface_names_is_verified_too_and_can_score(tmp_path: Path) -> None:
    add_both(tmp_path)
    add_model(tmp_path, mlp(seed=4), "virality", 3)
    with Registry(tmp_path, SURFACES, 64 * MB) as registry:
        assert entry(registry, "virality", 3).features == FEATURES
        assert versions(registry, [*OBJECTIVES, "virality"]) == {
            "quality": 1,
            "engagement": 1,
            "virality": 3,
        }


def test_an_objective_that_nothing_scores_is_lacking_with_the_reason(tmp_path: Path) -> None:
    add_both(tmp_path)
    spoil(add_model(tmp_path, mlp(), "virality"))
    with Registry(tmp_path, SURFACES, 64 * MB) as registry:
        resolution = registry.models_for(HOME, [*OBJECTIVES, "virality"])
        assert isinstance(resolution, Lacking)
        assert "virality/1: hash: " in resolution.reason
        assert isinstance(registry.models_for(HOME, ["speed"]), Lacking)


def test_versions_beyond_the_first_32_are_verified_in_the_thread(tmp_path: Path) -> None:
    add_both(tmp_path)
    for number in range(34):
        add_model(tmp_path, mlp(hidden=(4,), seed=number), f"o{number:02}")
    with Registry(tmp_path, SURFACES, 64 * MB) as registry:
        assert isinstance(registry.models_for(HOME, ["o33"]), Loading | SurfaceModels)
        assert versions(registry, ["o33"]) == {"o33": 1}
        until(
            registry, lambda catalogue: not any(e.state is VersionState.LISTED for e in catalogue)
        )


def test_identical_files_are_loaded_once(tmp_path: Path) -> None:
    add_model(tmp_path, mlp(), "quality")
    add_model(tmp_path, mlp(), "engagement")
    with Registry(tmp_path, SURFACES, 64 * MB) as registry:
        assert versions(registry) == {"quality": 1, "engagement": 1}
        quality = entry(registry, "quality", 1)
        assert quality.cached_session is entry(registry, "engagement", 1).cached_session
        assert registry.counts.loads == 1


def test_past_the_budget_the_least_recently_used_session_goes_and_its_version_stays_available(
    tmp_path: Path,
) -> None:
    for name in ("quality", "engagement", "third"):
        add_model(tmp_path, mlp(seed=len(name)), name)
    size = (tmp_path / "quality" / "1" / "model.onnx").stat().st_size
    with Registry(tmp_path, SURFACES, 2 * session_bytes(size) + 1000) as registry:
        assert versions(registry, ["engagement"]) == {"engagement": 1}
        assert versions(registry, ["quality"]) == {"quality": 1}
        assert entry(registry, "third", 1).state is VersionState.AVAILABLE
        assert versions(registry, ["third"]) == {"third": 1}
        assert entry(registry, "engagement", 1).state is VersionState.AVAILABLE
        assert entry(registry, "quality", 1).state is VersionState.LOADED
        assert registry.counts.evictions == 1
        assert registry.counts.bytes_loaded <= 2 * session_bytes(size) + 1000


def test_a_start_loads_no_more_than_the_budget_holds(tmp_path: Path) -> None:
    add_both(tmp_path)
    with Registry(tmp_path, SURFACES, 0) as registry:
        for objective in OBJECTIVES:
            assert entry(registry, objective, 1).state is VersionState.AVAILABLE
        counts = registry.counts
        assert (counts.verified, counts.loads, counts.bytes_loaded) == (2, 0, 0)
        assert versions(registry) == {"quality": 1, "engagement": 1}


def test_a_file_that_became_another_is_verified_again_before_it_is_loaded(tmp_path: Path) -> None:
    add_both(tmp_path)
    folder = add_model(tmp_path, mlp(seed=8), "third")
    with Registry(tmp_path, SURFACES, 1) as registry:
        until(registry, reached("third", 1, VersionState.AVAILABLE))
        spoil(folder)
        assert isinstance(registry.models_for(HOME, ["third"]), Loading)
        until(registry, reached("third", 1, VersionState.REFUSED))


def test_each_change_raises_the_revision_and_is_reported(tmp_path: Path) -> None:
    add_both(tmp_path)
    revisions: list[int] = []
    with Registry(
        tmp_path,
        SURFACES,
        64 * MB,
        on_change=lambda catalogue: revisions.append(catalogue.revision),
    ) as registry:
        add_model(tmp_path, mlp(seed=5), "quality", 2)
        until(registry, reached("quality", 2, *READY))
    assert revisions == sorted(set(revisions))
    assert revisions[-1] == registry.catalogue.revision


def test_a_folder_whose_manifest_is_not_valid_is_refused(tmp_path: Path) -> None:
    add_both(tmp_path)
    write_version(tmp_path, b"", {"objective": "quality", "version": 7})
    with Registry(tmp_path, SURFACES, 64 * MB) as registry:
        refusal = entry(registry, "quality", 7).refusal
        assert refusal is not None
        assert refusal.reason is ModelReason.MANIFEST


def test_a_start_with_an_endless_model_refuses_it_and_takes_the_good_version_beside_it(
    tmp_path: Path,
) -> None:
    add_both(tmp_path)
    add_endless(tmp_path, "quality", 2)
    with Registry(
        tmp_path, SURFACES, 64 * MB, limits=VerificationLimits(cpu_seconds=1)
    ) as registry:
        refusal = entry(registry, "quality", 2).refusal
        assert refusal is not None
        assert str(refusal).startswith(
            "quality/2: unreadable: model.onnx: takes more than the 1 s of CPU time"
        )
        assert versions(registry) == {"quality": 1, "engagement": 1}


def test_while_an_endless_model_is_verified_verified_versions_are_loaded_and_others_noticed(
    tmp_path: Path,
) -> None:
    add_both(tmp_path)
    add_model(tmp_path, mlp(seed=4), "virality", 1)
    with Registry(tmp_path, SURFACES, 1) as registry:
        assert entry(registry, "virality", 1).state is VersionState.AVAILABLE
        add_endless(tmp_path, "quality", 2)
        until(registry, reached("quality", 2, VersionState.LISTED))
        assert versions(registry, ["virality"]) == {"virality": 1}
        add_both(tmp_path, 3)
        until(registry, reached("engagement", 3, VersionState.LISTED))
        shutil.rmtree(tmp_path / "virality")
        assert versions(registry) == {"quality": 1, "engagement": 1}
        assert entry(registry, "quality", 2).state is VersionState.LISTED


def test_after_an_endless_model_others_are_verified_first_those_that_requests_wait_for(
    tmp_path: Path,
) -> None:
    add_both(tmp_path)
    ends: list[str] = []

    def log(event: str, **fields: Any) -> None:
        if event in ("model_available", "model_refused"):
            ends.append(fields["model"].split(":")[0])

    with Registry(
        tmp_path, SURFACES, 64 * MB, log, limits=VerificationLimits(cpu_seconds=4)
    ) as registry:
        ends.clear()
        add_endless(tmp_path, "quality", 2)
        until(registry, reached("quality", 2, VersionState.LISTED))
        for name in ("first", "second", "third"):
            add_model(tmp_path, mlp(seed=len(name)), name)
        until(
            registry,
            lambda catalogue: all(
                catalogue.versions(name) for name in ("first", "second", "third")
            ),
        )
        assert isinstance(registry.models_for(HOME, ["third"]), Loading)
        assert versions(registry, ["third"]) == {"third": 1}
        until(
            registry, lambda catalogue: not any(e.state is VersionState.LISTED for e in catalogue)
        )
    assert ends[:2] == ["quality/2", "third/1"]
    assert set(ends[2:]) == {"first/1", "second/1"}


def is_verifier(process: psutil.Process) -> bool:
    return "workers.scoring.verifier_process" in process.cmdline()


def test_a_version_that_goes_while_it_is_verified_is_forgotten(tmp_path: Path) -> None:
    add_both(tmp_path)
    with Registry(
        tmp_path, SURFACES, 64 * MB, limits=VerificationLimits(cpu_seconds=5)
    ) as registry:
        children = psutil.Process().children()
        (verifier,) = [child for child in children if is_verifier(child)]
        before = verifier.cpu_times().user
        folder = add_endless(tmp_path, "quality", 2)
        while verifier.cpu_times().user < before + 1:  # it has read the model, and runs it
            registry.wait_past(registry.catalogue.revision, 0.1)
        shutil.rmtree(folder)
        until(registry, lambda catalogue: catalogue.entry("quality", 2) is None)
        add_model(tmp_path, mlp(seed=5), "quality", 2)
        until(registry, reached("quality", 2, *READY))
        assert registry.counts.refused == 0


# The loader


@pytest.fixture
def loader() -> Loader:
    return Loader(2**26, 2**20, lambda event, **fields: None, time.monotonic)


@pytest.fixture
def listed(tmp_path: Path) -> CatalogueEntry:
    add_model(tmp_path, mlp())
    (version,) = find_versions(tmp_path)["quality"]
    return CatalogueEntry(version, stamp(version))


def verified(entry: CatalogueEntry, **changes: str) -> Verified:
    folder = entry.version.folder
    manifest = msgspec.structs.replace(read_manifest(folder, folder.parent.parent), **changes)
    return Verified(manifest, 16_384, (folder / "model.onnx").stat().st_size)


def test_a_verified_version_is_loaded_if_it_is_requested_or_there_is_room(
    loader: Loader, listed: CatalogueEntry
) -> None:
    assert loader.apply_verdict(listed, verified(listed), load=False).state is VersionState.LOADED
    small = Loader(1, 2**20, loader.log, loader.clock)
    assert small.apply_verdict(listed, verified(listed), load=False).state is VersionState.AVAILABLE
    assert small.apply_verdict(listed, verified(listed), load=True).state is VersionState.LOADED
    assert (small.counts.verified, small.counts.loads) == (2, 1)


def test_a_version_whose_files_changed_after_verification_is_listed_again(
    loader: Loader, listed: CatalogueEntry
) -> None:
    verdict = verified(listed)
    (listed.version.folder / "model.onnx").write_bytes(b"another")
    again = loader.apply_verdict(listed, verdict, load=True)
    assert again == CatalogueEntry(listed.version, stamp(listed.version))
    assert (again.state, len(loader.sessions)) == (VersionState.LISTED, 0)


def test_a_version_that_cannot_be_opened_as_it_was_verified_is_refused(
    loader: Loader, listed: CatalogueEntry
) -> None:
    verdict = loader.apply_verdict(listed, verified(listed, sha256="0" * 64), load=True).verdict
    assert isinstance(verdict, Rejected)
    assert (verdict.reason, loader.counts.refused) == (ModelReason.HASH, 1)
