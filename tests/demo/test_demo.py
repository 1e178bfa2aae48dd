"""The whole demo on a real stack, and its command line."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from demo.__main__ import demo as demo_command
from tests.commands.running import run_command, trimtab
from tests.docs.documents import ROOT

COUNTS = re.compile(
    r"([\d,]+) requests sent, ([\d,]+) feeds read under read_committed: "
    r"(\d+) lost, (\d+) doubled, (\d+) torn"
)
OTHER_SETTINGS = {
    "TRIMTAB_KAFKA": "nowhere:1",
    "TRIMTAB_MODELS": "nowhere",
    "TRIMTAB_GROUP": "other",
}


class Demo:
    """The demo in a process and a home of its own. A user's own settings must not reach it."""

    def __init__(self, home: Path, cache: Path) -> None:
        self.home = home
        self._cache = cache
        self._process: subprocess.Popen[str] | None = None
        self.output = ""

    def start(self, *words: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "demo", f"--home={self.home}", f"--cache={self._cache}", *words],
            cwd=ROOT,
            env=os.environ | OTHER_SETTINGS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def process(self) -> "subprocess.Popen[str]":
        assert self._process is not None
        return self._process

    def read_to(self, text: str) -> None:
        """Read its output up to the line with this text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        pytest.fail(self.output)

    def end(self) -> int:
        """Wait until it ends, and return its exit code."""
        rest, _ = self.process.communicate(timeout=300)
        self.output += rest
        return self.process.returncode

    def run(self, *words: str) -> int:
        self.start(*words)
        return self.end()

    def counts(self) -> list[int]:
        """Requests sent, feeds read, lost, doubled, torn."""
        found = COUNTS.search(self.output)
        assert found is not None, self.output
        return [int(number.replace(",", "")) for number in found.groups()]

    def started(self, name: str) -> int:
        """The pid of a process that it has started."""
        mark = json.loads((self.home / "demo" / "demo.json").read_text())["processes"][name]
        return int(mark["pid"])

    def left(self) -> list[str]:
        """Files, and processes that work in its home or are told of it."""
        found = [str(path) for path in self.home.glob("demo/*")]
        for process in psutil.process_iter(["pid", "cwd", "cmdline"]):
            info = process.info
            line = f"{info['pid']} {info['cwd']} {' '.join(info['cmdline'] or ())}"
            if str(self.home) in line:
                found.append(line)
        return found


@pytest.fixture
def demo(tmp_path: Path, cache: Path) -> Iterator[Demo]:
    running = Demo(tmp_path / "home", cache)
    yield running
    if running.process.poll() is None:
        running.process.terminate()
        running.process.communicate()
    assert running.run("--stop") == 0


def test_the_demo_loses_doubles_and_tears_nothing_and_leaves_nothing_running(demo: Demo) -> None:
    assert demo.run("--requests=60") == 0, demo.output
    requests, feeds, *wrong = demo.counts()
    assert requests >= 60
    assert (feeds, wrong) == (requests, [0, 0, 0])
    assert "HSET weights:home quality 0.1 engagement 0.9" in demo.output
    assert re.search(
        r"([1-9]\d*) previewed requests sent again: \1 of \1 feeds are as previewed",
        demo.output,
    )
    assert re.search(r'unknown\n.+\n +2 .+ "calmer mornings"', demo.output)
    assert re.search(
        r"\d+ feeds since the canary's first: [1-9].* in canary .*\n.* 0 of them in more than one arm",
        demo.output,
    )
    assert "home: no experiment runs" in demo.output
    assert "quality/3  refused: hash: model.onnx: sha256" in demo.output
    assert "home: quality 2, engagement 1  (" in demo.output
    assert re.search(
        r"\n  [1-9]\d* feeds since then, 0 by another version than quality/1", demo.output
    )
    by_model = {
        model: int(count.replace(",", ""))
        for count, model in re.findall(r"([\d,]+) feeds by (\S+)", demo.output)
    }
    assert by_model.keys() == {"engagement/1", "quality/1", "quality/2"}
    assert by_model["engagement/1"] == by_model["quality/1"] + by_model["quality/2"] == feeds
    assert demo.left() == []


def test_an_experiment_that_is_given_no_time_is_not_decided_and_its_books_are_balanced(
    demo: Demo,
) -> None:
    assert demo.run("--outcomes", "--patience=2") == 1
    assert "experiment start home canary=40 risky=20 --salt demo-7" in demo.output
    assert "Not seen within 2 s: canary better" in demo.output
    facts = " ".join(demo.output.partition("What was counted")[2].split())
    assert re.search(r"right (\S+) requests, \1 feeds: 0 lost, 0 doubled, 0 torn", facts)
    assert re.search(r"right \S+ interactions sent: \S+ counted once", facts)
    assert re.search(
        r"right the join has (\S+ feeds, \S+ seen, \S+ taken); the users stage \1 ", facts
    )
    assert "WRONG" not in facts
    assert demo.left() == []


def test_what_is_kept_goes_on_until_it_is_stopped(demo: Demo) -> None:
    assert demo.run("--requests=10", "--keep", "--json") == 0, demo.output
    assert json.loads(demo.output.splitlines()[-1])["requests"] >= 10
    assert f"make demo 'ARGS=--stop --home {demo.home}'" in demo.output
    assert all(psutil.pid_exists(demo.started(name)) for name in ("worker", "stream"))
    assert demo.run("--requests=10") == 1
    assert "kept running" in demo.output
    assert demo.run("--stop") == 0
    assert demo.left() == []


def test_a_worker_that_dies_is_noticed_and_what_it_left_undone_counts_as_lost(demo: Demo) -> None:
    demo.start("--requests=6000")
    demo.read_to("New weights by hand")
    worker = demo.started("worker")
    os.kill(worker, signal.SIGKILL)
    assert demo.end() == 1
    _, _, lost, doubled, torn = demo.counts()
    assert lost > 0
    assert (doubled, torn) == (0, 0)
    assert f"The worker (pid {worker}) has ended" in demo.output
    assert demo.left() == []


def test_a_demo_that_is_interrupted_leaves_nothing_running(demo: Demo) -> None:
    demo.start()
    demo.read_to("  stack  ")
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 1
    assert demo.left() == []


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    ended = run_command(demo_command, "--stop")
    assert ended.code == 2
    assert ended.err.startswith("Error: home: got '~/.trimtab', expected a folder; no HOME is set")
    assert "TRIMTAB_HOME" in ended.err


def test_wrong_use_ends_with_2_and_says_where_help_is() -> None:
    ended = run_command(demo_command, "--nonsense")
    assert (ended.code, ended.out) == (2, "")
    assert "for help" in ended.err


@pytest.mark.parametrize("option", ["--keep", "--requests=20"])
def test_the_experiment_takes_no_options_of_the_other_demo(option: str) -> None:
    ended = run_command(demo_command, "--outcomes", option)
    assert (ended.code, ended.out) == (2, "")
    assert f"{option.partition('=')[0]} and --outcomes" in ended.err


def test_the_help_shows_how_make_runs_it() -> None:
    ended = run_command(demo_command, "--help")
    assert ended.code == 0
    assert "make demo ARGS=--keep" in ended.out
    assert "--keep-sending-to" not in ended.out


def test_trimtab_has_no_demo_command() -> None:
    ended = trimtab("demo")
    assert ended.code == 2
    assert "No such command 'demo'" in ended.err
    assert "demo" not in trimtab("--help").out
