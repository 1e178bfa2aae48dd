"""The state of surfaces, judged by what Redis holds and by the models that are available."""

import pytest

from tests.builders import HOME
from workers.ranking.pins import ANY_VERSION, AvailableModels
from workers.steering.connection import Events
from workers.steering.documents import EXPERIMENT, MODELS, WEIGHTS, DocumentId
from workers.steering.surface_state import Replies, SurfaceStates

FRESHNESS = AvailableModels({"freshness": {1: frozenset()}})


def ignore(event: str, /, **fields: object) -> None:
    """Events that no test asks for."""


class Models:
    """The models that are available now."""

    there = ANY_VERSION

    def __call__(self) -> AvailableModels:
        return self.there


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
def states(models: Models) -> SurfaceStates:
    return SurfaceStates({"home": HOME}, Events(ignore), lambda: 1, models)


def held(**weights: str) -> dict[str, Replies]:
    fields = {name.encode(): value.encode() for name, value in weights.items()}
    return {
        "home": {DocumentId(WEIGHTS): fields, DocumentId(MODELS): {}, DocumentId(EXPERIMENT): {}}
    }


def test_other_models_are_not_news_to_a_surface_that_stays_as_it_was(
    states: SurfaceStates, models: Models
) -> None:
    assert states.judge(held(quality="0.7"), None) == ["home"]
    models.there = FRESHNESS
    assert states.judge(held(quality="0.7"), None) == []
    assert states.judge(held(), None) == []


def test_a_set_that_was_refused_is_judged_again_when_its_model_is_there(
    states: SurfaceStates, models: Models
) -> None:
    assert states.judge(held(freshness="0.2"), None) == ["home"]
    assert "freshness" not in states.mixes["home"].weights.values
    models.there = FRESHNESS
    assert states.judge(held(freshness="0.2"), None) == ["home"]
    assert states.mixes["home"].weights.values["freshness"] == 0.2
    assert states.judge(held(freshness="0.2"), None) == []
