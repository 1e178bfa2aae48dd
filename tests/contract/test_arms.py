"""The arms of schemas/golden/arms.json, computed apart from the worker's own, and the worker's own
against it.
"""

import hashlib
import json
import re
import subprocess
from fractions import Fraction
from typing import Any

import pytest

from tests.contract.golden import GOLDEN, SCHEMAS
from workers.ranking.experiment import Experiment

VECTORS: list[dict[str, Any]] = json.loads((GOLDEN / "arms.json").read_text(encoding="utf-8"))[
    "experiments"
]
by_name = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])


def _bucket(salt: str, user_id: str) -> int:
    return int(hashlib.sha256(f"{salt}:{user_id}".encode()).hexdigest()[:16], 16) % 10_000


def _arms(experiment: dict[str, str]) -> dict[int, str]:
    """Bucket to arm, without control's, from what schemas/README.md says."""
    most = {a: Fraction(p) * 100 for a, p in experiment.items() if a not in ("salt", "control")}
    arms, taken = sorted(most, key=str.encode), dict[int, str]()
    for place, arm in enumerate(arms):
        own = range(10_000 * place // len(arms), 10_000 * (place + 1) // len(arms))
        taken |= {bucket: arm for bucket in own if bucket < own.start + most[arm]}
    for arm in arms:
        lacking = int(most[arm]) - list(taken.values()).count(arm)
        taken |= dict.fromkeys(
            [bucket for bucket in range(10_000) if bucket not in taken][:lacking], arm
        )
    return taken


@by_name
def test_the_vectors_are_what_the_readme_says(vector: dict[str, Any]) -> None:
    arms, salt = _arms(vector["experiment"]), vector["experiment"]["salt"]
    for user in vector["users"]:
        assert user["bucket"] == _bucket(salt, user["user_id"])
        assert user["arm"] == arms.get(user["bucket"], "control")


@by_name
def test_a_worker_assigns_the_arms_of_the_vectors(vector: dict[str, Any]) -> None:
    experiment = Experiment.read(vector["experiment"])
    assert [experiment.assign(user["user_id"]) for user in vector["users"]] == [
        user["arm"] for user in vector["users"]
    ]


def test_the_vectors_stand_on_both_sides_of_every_edge_between_two_arms() -> None:
    for vector in VECTORS:
        arms, seen = _arms(vector["experiment"]), {user["bucket"] for user in vector["users"]}
        edges = {b for b in range(9_999) if arms.get(b) != arms.get(b + 1)}
        assert edges | {b + 1 for b in edges} <= seen


def test_one_of_the_vectors_has_an_arm_beyond_its_own_stretch() -> None:
    (vector,) = [v for v in VECTORS if "beyond" in v["name"]]
    arms = _arms(vector["experiment"])
    assert {arms[bucket] for bucket in (1_000, 3_332, 9_999 - 2_000)} == {
        "b"
    }  # in the stretches of a and of c
    assert any(user["arm"] == "b" and user["bucket"] < 3_333 for user in vector["users"])


def test_the_command_in_the_readme_gives_the_bucket_of_its_vector() -> None:
    readme = (SCHEMAS / "README.md").read_text(encoding="utf-8")
    command = re.search(r"```bash\n(h=.*)\n(.*)\n```", readme)
    assert command is not None
    salt, user_id = re.findall(r"printf '%s' '(\w+):([\w-]+)'", command[1])[0]
    (vector, *_) = [v for v in VECTORS if v["experiment"]["salt"] == salt]
    (user,) = [u for u in vector["users"] if u["user_id"] == user_id]
    ran = subprocess.run(
        ["bash", "-c", f"{command[1]}\n{command[2]}"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"{user['bucket']}\n"
    assert f"says {user['bucket']}" in readme
