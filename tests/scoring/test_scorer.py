"""The requests of a micro-batch are scored together, with the same result as alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from tests.builders import request, surface
from tests.scoring.building import WIDE, Floats, add_model, embedding, mlp, random_rows, trees
from workers.ranking.features import FeatureSet
from workers.ranking.rank import Mask
from workers.ranking.request import Request
from workers.ranking.surface import Surface
from workers.ranking.weights import WeightRules
from workers.scoring.failing_rows import ModelError
from workers.scoring.model import ROWS_PER_CALL, Model
from workers.scoring.scorer import (
    CANDIDATES_TOGETHER,
    ScoredBatch,
    SurfaceModels,
    score_requests,
)
from workers.scoring.verify import verify

SHUFFLED = FeatureSet(
    "shuffled", ("extra", *reversed(WIDE.names)), bounds={"extra": (0.0, 1.0), "f0": (-1.0, 1.0)}
)
HOME = surface(feature_set=WIDE)
SEARCH = surface(
    "search",
    feature_set=SHUFFLED,
    objectives=("engagement", "quality", "virality"),
    weight_rules=WeightRules({"engagement": 1.0, "quality": 1.0, "virality": 1.0}, {}),
)


@dataclass
class Scored:
    """The scores of a micro-batch by request."""

    batch: ScoredBatch
    scores: list[Floats]
    failed: dict[int, Mask]

    @property
    def clipped(self) -> int:
        return self.batch.clipped

    @property
    def unscored(self) -> set[int]:
        return self.batch.unscored

    @property
    def model_errors(self) -> int:
        return self.batch.model_errors

    @property
    def errors(self) -> list[ModelError]:
        return self.batch.errors


def by_request(batch: ScoredBatch, requests: Sequence[Request]) -> Scored:
    """Split the groups of a batch. A request that is not scored has no row."""
    scored = Scored(batch, [np.empty((0, 0), np.float32)] * len(requests), {})
    for indices, scores, failed in batch.groups:
        start = 0
        for index in indices:
            end = start + len(requests[index].item_ids)
            scored.scores[index] = scores[start:end]
            if failed is not None and failed[start:end].any():
                scored.failed[index] = failed[start:end]
            start = end
        assert start == len(scores)
    return scored


class Scorer:
    """Requests of both surfaces, each scored by its surface's models."""

    def __init__(self, surfaces: Mapping[str, Surface], models: Mapping[str, Model]) -> None:
        self.models: dict[str, SurfaceModels] = {}
        for name, each in surfaces.items():
            own_models = [models[objective] for objective in each.objectives]
            self.models[name] = SurfaceModels.of(each.feature_set, own_models)

    def score(self, requests: Sequence[Request]) -> Scored:
        batch = score_requests(
            [(request, self.models[request.surface.name]) for request in requests]
        )
        return by_request(batch, requests)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    root = tmp_path_factory.mktemp("models")
    folders = {
        "quality": add_model(root, mlp(), "quality", 3),
        "engagement": add_model(root, trees(), "engagement", 1),
        "virality": add_model(root, mlp(width=2), "virality", 2, features=["f5", "extra"]),
    }
    return {objective: verify(folder) for objective, folder in folders.items()}


@pytest.fixture
def scorer(models: dict[str, Model]) -> Scorer:
    return Scorer({"home": HOME, "search": SEARCH}, models)


def request_of(surface: Surface, rows: Floats) -> Request:
    return request([f"i{n}" for n in range(len(rows))], surface=surface, rows=rows.tobytes())


def home(count: int, seed: int = 0) -> Request:
    return request_of(HOME, random_rows(count, 32, seed))


def search(count: int, seed: int = 0) -> Request:
    return request_of(SEARCH, random_rows(count, 33, seed))


def bytes_of(scores: Sequence[Floats]) -> list[bytes]:
    return [part.tobytes() for part in scores]


def test_scores_are_in_the_order_of_the_requests_and_of_the_surfaces_objectives(
    scorer: Scorer, models: dict[str, Model]
) -> None:
    requests = [home(3, 1), search(2, 2), home(5, 3), search(4, 4)]
    batch = scorer.score(requests)
    assert [part.shape for part in batch.scores] == [(3, 2), (2, 3), (5, 2), (4, 3)]
    assert all(part.dtype == np.float32 for part in batch.scores)

    rows = random_rows(5, 32, 3)
    assert batch.scores[2][:, 0].tobytes() == models["quality"].score(rows).tobytes()
    assert batch.scores[2][:, 1].tobytes() == models["engagement"].score(rows).tobytes()

    assert scorer.models["home"].versions == {"quality": 3, "engagement": 1}
    assert scorer.models["search"].versions == {"engagement": 1, "quality": 3, "virality": 2}


def test_columns_are_picked_by_name_from_a_larger_set_in_another_order(
    scorer: Scorer, models: dict[str, Model]
) -> None:
    rows = random_rows(6, 33) * np.float32(0.1) + np.float32(0.5)
    scores = scorer.score([request_of(SEARCH, rows)]).scores[0]
    assert scores[:, 1].tobytes() == models["quality"].score(rows[:, :0:-1]).tobytes()
    place = SHUFFLED.names.index("f5")
    assert scores[:, 2].tobytes() == models["virality"].score(rows[:, [place, 0]]).tobytes()


def test_a_request_scores_the_same_bytes_whatever_it_is_batched_with(scorer: Scorer) -> None:
    requests = [home(1, 1), search(7, 2), home(50, 3), home(2, 4), search(1, 5), home(13, 6)]
    together = bytes_of(scorer.score(requests).scores)
    assert bytes_of(scorer.score(requests[::-1]).scores)[::-1] == together
    assert [scorer.score([alone]).scores[0].tobytes() for alone in requests] == together


def test_features_outside_their_bounds_are_clipped_and_counted(scorer: Scorer) -> None:
    rows = np.full((4, 33), 0.5, np.float32)
    rows[1, 0] = 7  # `extra`, at most 1
    rows[2, 32] = -9  # `f0`, at least -1
    rows[3, 5] = 100  # has no bounds
    inside = rows.copy()
    inside[1, 0] = 1
    inside[2, 32] = -1

    clipped = scorer.score([home(2), request_of(SEARCH, rows)])
    expected = scorer.score([home(2), request_of(SEARCH, inside)])
    assert (clipped.clipped, expected.clipped) == (2, 0)
    assert bytes_of(clipped.scores) == bytes_of(expected.scores)


def test_a_request_without_candidates_gets_no_rows_and_every_objective(scorer: Scorer) -> None:
    batch = scorer.score([home(0), search(0), home(2)])
    assert [part.shape for part in batch.scores] == [(0, 2), (0, 3), (2, 2)]
    assert [part.shape for part in scorer.score([home(0)]).scores] == [(0, 2)]


def test_an_empty_micro_batch_is_scored_to_nothing(scorer: Scorer) -> None:
    batch = scorer.score([])
    assert (batch.scores, batch.clipped) == ([], 0)


class CountingSession:
    """A session that notes the rows of each call."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.calls: list[int] = []

    def run(self, outputs: list[str], inputs: dict[str, Floats], _options: object) -> Any:
        self.calls.append(len(inputs["features"]))
        return self._session.run(outputs, inputs)


def counting(models: dict[str, Model]) -> tuple[Scorer, dict[str, CountingSession]]:
    sessions: dict[str, CountingSession] = {}
    counting_models: dict[str, Model] = {}
    for objective, model in models.items():
        sessions[objective] = CountingSession(model.session)
        counting_models[objective] = replace(model, session=sessions[objective])
    return Scorer({"home": HOME, "search": SEARCH}, counting_models), sessions


def test_a_micro_batch_is_one_call_for_each_objective_of_a_surface(
    models: dict[str, Model],
) -> None:
    scorer, sessions = counting(models)
    scorer.score([home(3), search(5), home(0), home(20), search(10), home(50)])
    assert sessions["quality"].calls == [80, 16]
    assert sessions["engagement"].calls == [80, 16]
    assert sessions["virality"].calls == [16]


def test_no_call_is_made_for_requests_without_candidates(models: dict[str, Model]) -> None:
    scorer, sessions = counting(models)
    scorer.score([home(0), search(0)])
    assert [session.calls for session in sessions.values()] == [[], [], []]


def test_a_large_micro_batch_is_cut_into_bounded_calls_that_change_no_score(
    models: dict[str, Model],
) -> None:
    scorer, sessions = counting(models)
    half = CANDIDATES_TOGETHER // 2
    requests = [
        home(half, 1),
        search(3, 2),
        home(half, 3),
        home(1, 4),
        home(CANDIDATES_TOGETHER + 5, 5),
        home(0),
    ]
    batch = scorer.score(requests)
    full_calls = 2 * CANDIDATES_TOGETHER // ROWS_PER_CALL
    assert sorted(sessions["quality"].calls) == [16] * 3 + [ROWS_PER_CALL] * full_calls
    for scores, alone in zip(batch.scores, requests, strict=True):
        assert scores.tobytes() == scorer.score([alone]).scores[0].tobytes()


# Models that fail


@pytest.fixture(scope="module")
def failing(models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """Both surfaces. `quality` fails on rows whose f1 is 1000."""
    quality = verify(add_model(tmp_path_factory.mktemp("models"), embedding(), "quality", 3))
    return Scorer({"home": HOME, "search": SEARCH}, {**models, "quality": quality})


def broken(models: Mapping[str, Model]) -> Scorer:
    """Both surfaces. `virality`, which only `search` has, fails on every row."""

    class Broken:
        def run(self, outputs: list[str], inputs: dict[str, Floats], _options: object) -> Any:
            raise RuntimeError("out of order")

    virality = replace(models["virality"], session=Broken())
    return Scorer({"home": HOME, "search": SEARCH}, {**models, "virality": virality})


def spoilt(whole: Request, *places: int) -> Request:
    """The request, with a category that no model knows on some of its candidates."""
    feature_set = whole.surface.feature_set
    rows = np.frombuffer(whole.rows, "<f4").reshape(-1, feature_set.width).copy()
    rows[list(places), feature_set.names.index("f1")] = 1000.0
    return whole._replace(rows=rows.tobytes())


def test_a_failing_candidate_changes_no_score_of_its_siblings_nor_of_other_requests(
    failing: Scorer,
) -> None:
    whole = [home(5, 1), search(3, 2), home(20, 3), search(2, 4), home(1, 5)]
    requests = [
        whole[0],
        spoilt(whole[1], 2),
        spoilt(whole[2], 0, 7),
        whole[3],
        spoilt(whole[4], 0),
    ]
    expected = failing.score(whole)
    batch = failing.score(requests)

    failed = {place: np.flatnonzero(mask).tolist() for place, mask in batch.failed.items()}
    assert failed == {1: [2], 2: [0, 7], 4: [0]}
    assert (batch.model_errors, batch.unscored) == (4, set())

    for place, scores in enumerate(batch.scores):
        others = np.setdiff1d(np.arange(len(scores)), failed.get(place, []))
        assert scores[others].tobytes() == expected.scores[place][others].tobytes()
    assert [np.isnan(scores).any(axis=1).sum() for scores in batch.scores] == [0, 1, 2, 0, 1]


def test_a_candidate_fails_whatever_it_is_batched_with(failing: Scorer) -> None:
    requests = [spoilt(home(7, seed), seed % 7) for seed in range(12)]
    together = failing.score(requests)
    for place, each in enumerate(requests):
        alone = failing.score([each])
        assert alone.failed[0].tolist() == together.failed[place].tolist()
        assert alone.scores[0].tobytes() == together.scores[place].tobytes()


def test_the_first_failing_row_of_each_model_is_reported(failing: Scorer) -> None:
    (error,) = failing.score([home(3), spoilt(home(3), 1, 2)]).errors
    assert (error.model.objective, error.model.version) == ("quality", 3)
    assert error.features is not None


def test_if_a_model_fails_on_every_row_its_requests_are_not_scored_but_other_surfaces_are(
    models: dict[str, Model],
) -> None:
    scorer = broken(models)
    batch = scorer.score([search(3), home(2), search(0), search(4)])
    assert (batch.unscored, batch.failed, batch.model_errors) == ({0, 3}, {}, 7)
    assert batch.scores[1].tobytes() == scorer.score([home(2)]).scores[0].tobytes()

    (error,) = batch.errors
    assert (error.model.objective, error.features) == ("virality", None)
    assert error.message == "out of order"


def test_a_request_without_candidates_is_scored_whatever_fails_beside_it(
    models: dict[str, Model],
) -> None:
    scorer = broken(models)
    beside = scorer.score([search(3), search(0)])
    alone = scorer.score([search(0)])
    assert beside.scores[1].shape == alone.scores[0].shape == (0, 3)
    assert beside.unscored == {0}
