"""Every command line in the documents is one that exists, and those marked to be run do run."""

import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest

from tests.commands.running import trimtab
from tests.docs.documents import ROOT, Block, blocks, documents
from workers.cli import trimtab as root_command
from workers.local import Stack
from workers.local.topics import stack_topics
from workers.settings import SETTINGS
from workers.streaming.topics import create_topics

# One shell per document: its blocks run one after the other, as its reader would run them; what is left
# running is ended.
_SHELL = """set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
"""
_OPERATORS = frozenset("();<>|&")
# What the blocks leave in the shared Redis.
_WRITTEN_KEYS = (
    "weights:home",
    "weights:home:canary",
    "experiment:home",
    "plan:home",
    "history:home",
)


def inner_command(group: click.Group, name: str) -> click.Command:
    """A command of a group. Fails if there is none with that name."""
    found = group.get_command(click.Context(group), name)
    assert found is not None, name
    return found


def commands(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    """This command and every one below it."""
    yield words
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from commands(inner_command(command, name), *words, name)


@pytest.mark.parametrize(
    "words", list(commands(root_command)), ids=lambda words: " ".join(("trimtab", *words))
)
def test_every_command_has_a_help_with_an_example_that_is_its_own(words: tuple[str, ...]) -> None:
    ended = trimtab(*words, "--help")
    assert ended.code == 0
    assert "Example:\n" in ended.out
    example = ended.out.split("Example:\n", 1)[1]
    assert " ".join(("trimtab", *words)) in example


# The command lines in the documents


def shell_lines(block: Block) -> list[str]:
    """A block's command lines, without here-documents and comments.

    A line that ends in a backslash is joined to the next.
    """
    joined = block.text.replace("\\\n", " ")
    text = re.sub(r"<<'?(\w+)'?\n.*?^\1$", "", joined, flags=re.DOTALL | re.MULTILINE)
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def trimtab_calls(line: str) -> list[list[str]]:
    """The words after each `trimtab` that is in the place of a command, up to that command's end."""
    line = line.replace('"$(', " ; ").replace(')"', " ; ")
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True

    calls: list[list[str]] = []
    word_before = ";"
    inside = False
    for word in lexer:
        if _OPERATORS & set(word):
            inside = False
        elif word == "trimtab" and _OPERATORS & set(word_before):
            calls.append([])
            inside = True
        elif inside:
            calls[-1].append(word)
        word_before = word
    return calls


def all_shell_lines() -> list[str]:
    """Every command line of every document."""
    lines: list[str] = []
    for document in documents():
        for block in blocks(document, "bash"):
            lines += shell_lines(block)
    return lines


CALLS = [call for line in all_shell_lines() for call in trimtab_calls(line)]


def test_the_documents_show_the_commands_that_users_start_with() -> None:
    shown = {" ".join(call[:2]) for call in CALLS}
    assert shown >= {"stack up", "produce events.jsonl", "feeds tail", "stack down"}


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_a_trimtab_command_line_in_the_documents_can_be_parsed(call: list[str]) -> None:
    command: click.Command = root_command
    words = list(call)
    while isinstance(command, click.Group) and words:
        command = inner_command(command, words.pop(0))

    known = {"--help", "-h"}
    for parameter in command.params:
        known.update(parameter.opts)
        known.update(parameter.secondary_opts)

    given = {word.split("=", 1)[0] for word in words if word.startswith("-") and len(word) > 1}
    assert given <= known


def make_targets() -> list[str]:
    """The targets that the documents name, in a shell block or inline."""
    commands = all_shell_lines()
    for document in documents():
        commands += re.findall(r"`(make\s[a-z]+)", document.read_text(encoding="utf-8"))

    targets: set[str] = set()
    for command in commands:
        named = re.match(r"make\s([a-z]+)", command)
        if named:
            targets.add(named[1])
    return sorted(targets)


@pytest.mark.parametrize("target", make_targets())
def test_a_make_target_in_the_documents_exists(target: str) -> None:
    command = ["make", "-n", "-C", str(ROOT), target]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_continuous_integration_runs_what_the_readme_says() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "test" in script.read_text().splitlines()[1].split()
    assert len(script.read_text().splitlines()) == 2


# The blocks that are run


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the checkout, so that what a document writes stays out of ours."""
    for entry in ROOT.iterdir():
        if entry.name not in {".venv", ".git"}:
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


@pytest.fixture
def environment(stack: Stack, kafka: str, redis_url: str, cache: Path) -> dict[str, str]:
    """The shared stack as a user's own, and topics that nobody else writes to."""
    name = f"docs-{uuid.uuid4().hex[:8]}"
    plans = {plan.name: plan for plan in stack_topics(4)}

    settings = {"group": name, "outcomes_group": f"{name}-outcomes", "cache": str(cache)}
    settings["home"] = str(Path(stack.status().kafka.folder).parents[1])
    for key, setting in SETTINGS.items():
        if key.startswith("topic_"):
            settings[key] = f"{name}.{key}"
            create_topics(kafka, [replace(plans[str(setting.default)], name=settings[key])])

    environment = dict(os.environ)
    for setting in SETTINGS.values():
        environment.pop(setting.variable, None)
    for key, value in settings.items():
        environment[SETTINGS[key].variable] = value
    redis_cli = stack.up().redis_cli.parent
    environment["PATH"] += f"{os.pathsep}{redis_cli}"
    return environment


RUNNING = [document for document in documents() if blocks(document, "bash", "run")]


@pytest.mark.parametrize("document", RUNNING, ids=lambda document: str(document.relative_to(ROOT)))
def test_the_blocks_of_a_document_that_are_marked_to_run_do_run(
    document: Path, checkout: Path, environment: dict[str, str], redis_url: str
) -> None:
    script = _SHELL + "".join(block.text for block in blocks(document, "bash", "run"))
    try:
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    finally:
        command = ["redis-cli", "-u", redis_url, "DEL", *_WRITTEN_KEYS]
        subprocess.run(command, env=environment, check=True)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"


def test_the_readme_is_among_the_documents_that_are_run() -> None:
    assert ROOT / "README.md" in RUNNING
