"""Where surfaces stand, judged by what Redis holds and by the models that there are."""

from pathlib import Path

import pytest

from tests.builders import HOME
from workers.ranking.pins import ANY_VERSION, AvailableModels
from workers.steering.connection import Events
from workers.steering.keys import Keys
from workers.steering.surface_state import ArmReplies, Replies
from workers.steering.surface_states import SurfaceStates

FRESHNESS = AvailableModels({"freshness": {1: frozenset()}})


def unheard(event: str, /, **fields: object) -> None:
    """Events that no test asks for."""


class Models:
    """What models there are, by now."""

    there = ANY_VERSION

    def __call__(self) -> AvailableModels:
        return self.there


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
def standings(tmp_path: Path, models: Models) -> SurfaceStates:
    return SurfaceStates({"home": HOME}, Keys(), tmp_path, Events(unheard), lambda: 1, models)


def held(**weights: str) -> dict[str, Replies]:
    fields = {name.encode(): value.encode() for name, value in weights.items()}
    return {"home": Replies(ArmReplies(fields, {}), {}, {})}


def test_other_models_are_no_news_to_a_surface_that_stands_as_it_stood(
    standings: SurfaceStates, models: Models
) -> None:
    assert standings.take(held(quality="0.7"), None) == ["home"]
    models.there = FRESHNESS
    assert standings.take(held(quality="0.7"), None) == []
    assert standings.take({"home": Replies(ArmReplies({}, {}), {}, {})}, None) == []


def test_a_set_that_was_refused_is_judged_anew_when_its_model_is_there(
    standings: SurfaceStates, models: Models
) -> None:
    assert standings.take(held(freshness="0.2"), None) == ["home"]
    assert "freshness" not in standings.snapshot["home"].weights.values
    models.there = FRESHNESS
    assert standings.take(held(freshness="0.2"), None) == ["home"]
    assert standings.snapshot["home"].weights.values["freshness"] == 0.2
    assert standings.take(held(freshness="0.2"), None) == []
