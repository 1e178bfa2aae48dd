"""The phase of an experiment: a name for everything that its feeds depend on."""

import hashlib
import re
from dataclasses import replace

import pytest

from tests.contract.golden import SCHEMAS
from workers.ranking.experiment import Experiment
from workers.ranking.mix import Mix
from workers.ranking.weights import Weights

CONTROL = Weights({"quality": 0.5}, "9f86d081884c")
CANARY = Weights({"quality": 0.9}, "0b4b6e6a4f9c")
MIX = Mix(
    CONTROL,
    Experiment("first", {"canary": 500}),
    arms={"canary": CANARY},
    arm_pins={"canary": {"quality": 3}},
)


def test_the_phase_is_the_published_hash() -> None:
    readme = (SCHEMAS / "README.md").read_text(encoding="utf-8")
    example = re.search(r'```json\n(\["first",.+)\n```\n\nThis text gives `([0-9a-f]{12})`', readme)
    assert example is not None
    text, phase = example.groups()
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == phase
    assert MIX.phase == phase


def test_without_users_in_an_arm_there_is_no_phase() -> None:
    assert Mix(CONTROL).phase is None
    assert replace(MIX, experiment=Experiment("first", {"canary": 0}), arms={}).phase is None
    assert Mix(CONTROL).assign("u-1").experiment is None


def test_every_user_of_the_surface_has_the_phase() -> None:
    assignments = [MIX.assign(f"u-{number}") for number in range(200)]
    assert {assignment.arm for assignment in assignments} == {"control", "canary"}
    assert {assignment.experiment for assignment in assignments} == {MIX.phase}


CHANGES = {
    "another salt": replace(MIX, experiment=Experiment("second", {"canary": 500})),
    "another share": replace(MIX, experiment=Experiment("first", {"canary": 600})),
    "another arm without users": replace(
        MIX, experiment=Experiment("first", {"canary": 500, "later": 0})
    ),
    "other weights of control": replace(MIX, weights=CANARY),
    "other weights of the arm": replace(MIX, arms={"canary": CONTROL}),
    "other pins of the surface": replace(MIX, pins={"engagement": 1}),
    "other pins of the arm": replace(MIX, arm_pins={"canary": {"quality": 4}}),
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_changes_begins_another_phase(changed: Mix) -> None:
    assert changed.phase != MIX.phase


def test_going_back_continues_the_phase() -> None:
    assert replace(replace(MIX, weights=CANARY), weights=CONTROL).phase == MIX.phase
