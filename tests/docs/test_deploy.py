"""What can be checked of the image and the compose file without a container engine."""

import re
import tomllib
from pathlib import Path

from tests.docs.documents import ROOT
from workers.local.topics import stack_topics
from workers.settings import SETTINGS
from workers.streaming.topic_plans import DEFAULT_PARTITIONS

DEPLOY = ROOT / "deploy"
COMPOSE = (DEPLOY / "compose.yaml").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def pins(lock: str) -> dict[str, frozenset[str]]:
    """Each pin of a lock (with its condition) and its hashes."""
    hashes_by_pin: dict[str, frozenset[str]] = {}
    for line in (ROOT / lock).read_text().replace("\\\n", " ").splitlines():
        if "==" in line and not line.lstrip().startswith("#"):
            pin, *hashes = line.split(" --hash=")
            hashes_by_pin[" ".join(pin.split())] = frozenset(text.strip() for text in hashes)
    return hashes_by_pin


def test_the_image_installs_what_the_checkout_is_tested_with() -> None:
    checkout, image = pins("requirements.lock"), pins("deploy/requirements.lock")
    assert image.items() <= checkout.items()
    assert all(hashes for hashes in image.values())


def test_the_image_installs_every_package_that_a_worker_needs() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    needed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    assert needed is not None
    names = {
        re.split("[><=]", name)[0] for name in re.findall(r'^    "(.*?)"', needed[1], re.MULTILINE)
    }
    assert names <= {pin.split("==")[0] for pin in pins("deploy/requirements.lock")}


def test_the_topics_are_those_of_the_local_stack() -> None:
    created = {}
    script = COMPOSE.replace("\\\n", " ")
    for name, rest in re.findall(r"^ +create (\S+)(.*)$", script, re.MULTILINE):
        created[name] = dict(option.split("=") for option in re.findall(r"--config (\S+)", rest))
    assert created == {plan.name: dict(plan.config) for plan in stack_topics(DEFAULT_PARTITIONS)}
    assert f"--partitions {DEFAULT_PARTITIONS} " in COMPOSE


def test_the_kafka_is_that_of_the_local_stack() -> None:
    pom = (DEPLOY / "local" / "pom.xml").read_text()
    version = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>(.*?)</version>", pom)
    assert version is not None
    assert f"apache/kafka:{version[1]}" in COMPOSE


def test_every_variable_is_a_setting() -> None:
    used = set(
        re.findall(r"TRIMTAB_[A-Z_]+", COMPOSE + DOCKERFILE + (DEPLOY / "README.md").read_text())
    )
    assert used
    assert used <= {setting.variable for setting in SETTINGS.values()}


def test_the_files_that_the_image_copies_exist_and_are_not_ignored() -> None:
    words = " ".join(re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)).split()
    copied = [word for word in words if (ROOT / word).exists() and not word.startswith((".", "/"))]

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    hook = project["tool"]["hatch"]["build"]["hooks"]["custom"]["path"]
    needed = {"pyproject.toml", "onnx_models", hook, *wheel["packages"], *wheel["force-include"]}
    for name in needed:
        assert not {name, *map(str, Path(name).parents)}.isdisjoint(copied), f"{name} is not copied"

    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text()
    assert [word for word in copied if f"!{word}" not in ignore] == []


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users
    assert users[-1] not in {"0", "root"}
