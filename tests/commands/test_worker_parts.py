"""A worker put together: what its parts see of each other."""

from pathlib import Path

from tests.builders import surface
from tests.scoring.building import WIDE, add_model, mlp
from workers.commands.worker_parts import ModelAvailability
from workers.scoring.registry import Registry
from workers.scoring.scorer import SurfaceModels


def test_a_model_that_is_loaded_is_no_news_to_steering_and_one_that_is_verified_is(
    tmp_path: Path,
) -> None:
    home = surface(feature_set=WIDE)
    for place, objective in enumerate(home.objectives):
        add_model(tmp_path, mlp(seed=place), objective)
    with Registry(tmp_path, {"home": home}, 0) as registry:
        availability = ModelAvailability(registry)
        before = availability.read()
        revision = registry.catalogue.revision
        while not isinstance(registry.models_for(home, home.objectives), SurfaceModels):
            registry.wait_past(registry.catalogue.revision, 1.0)
        assert registry.catalogue.revision > revision
        assert availability.read() is before

        add_model(tmp_path, mlp(seed=9), "freshness")
        while "freshness" not in availability.read().models:
            registry.wait_past(registry.catalogue.revision, 1.0)
        assert availability.read() is not before
