"""Commands as they are typed here. What the demo shows is what it runs, and works for whoever
pastes it.
"""

import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from workers.commands.demo.posts import SURFACES
from workers.commands.demo.show import WIDTH, Narrator
from workers.commands.demo.watch import StandStill
from workers.local import StackAddresses
from workers.settings import SETTINGS

_VERBS = ("HSET", "weights", "experiment", "models", "feeds", "status", "demo")


class Shell:
    """Types `trimtab` commands, as in a shell that has the `exports`."""

    def __init__(self, addresses: StackAddresses, models: Path, narrator: Narrator) -> None:
        self._given = exports(addresses, models)
        self._narrator = narrator

    def export(self) -> None:
        """Show what the commands need to be told."""
        self._narrator.say(*export_lines(self._given))

    def type(self, *words: str, only: tuple[str, ...] = ("",)) -> None:
        """Show `trimtab <words>`, run it, and show its output: empty lines and what begins with one
        of `only`.

        Raises StandStill where its exit code is not 0.
        """
        command = [*trimtab(), *words]
        self._narrator.say(*command_lines(command))
        # A user's own settings do not reach it.
        unset = [f"--unset={setting.variable}" for setting in SETTINGS.values()]
        printed = run(
            ["/usr/bin/env", *unset, *self._given, *command], " ".join(("trimtab", *words[:2]))
        )
        shown = "\n".join(
            line for line in printed.splitlines() if not line or line.startswith(only)
        )
        self._narrator.say(
            *(part for line in shown.rstrip().splitlines() for part in _wrapped(line)), ""
        )

    def type_in(self, folder: Path, lines: Sequence[str]) -> None:
        """Show lines for a shell that begins in `folder`, and run them to the first that fails.
        Raises StandStill.
        """
        script = " &&\n".join([shlex.join(("cd", str(folder))), *lines])
        self._narrator.say(
            *textwrap.indent(f"({script})", "      ").replace("      ", "  $ ", 1).splitlines(), ""
        )
        run(["/bin/sh", "-c", script], lines[-1])


def _wrapped(line: str) -> list[str]:
    """A line of output, indented; further lines where it is too wide, and its spaces as they are."""
    return textwrap.wrap(
        line,
        WIDTH,
        initial_indent="    ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def run(command: Sequence[str], name: str) -> str:
    """Run a command and return what it printed. Raises StandStill where its exit code is not 0."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StandStill(
            f"{name} (exit {done.returncode}): {done.stdout.strip()} {done.stderr.strip()}".rstrip()
        )
    return done.stdout


def typed(program: Path) -> str:
    """A program as it is typed here: its name where PATH leads to it, else its path, from this
    folder if below it.
    """
    found = shutil.which(program.name)
    if found is not None and Path(found).resolve() == program.resolve():
        return program.name
    folder = Path.cwd()
    return str(program.relative_to(folder) if program.is_relative_to(folder) else program)


def trimtab() -> list[str]:
    """This command as it is typed here."""
    script = Path(sys.executable).with_name("trimtab")
    return [typed(script)] if script.exists() else [sys.executable, "-m", "workers.cli"]


def exports(addresses: StackAddresses, models: Path) -> list[str]:
    """NAME=value of what commands in this folder need to be told."""
    given = {"kafka": addresses.kafka, "redis": addresses.redis, "models": str(models)}
    if Path(str(SETTINGS["surfaces"].default)).resolve() != SURFACES.resolve():
        given["surfaces"] = str(SURFACES)
    return [f"{SETTINGS[name].variable}={value}" for name, value in given.items()]


def export_lines(given: Sequence[str], prompt: str = "  $ ") -> list[str]:
    """The export for a shell; one a variable where it is too wide."""
    line = prompt + shlex.join(("export", *given))
    return [line] if len(line) <= WIDTH else [prompt + shlex.join(("export", one)) for one in given]


def command_lines(command: Sequence[str], prompt: str = "  $ ") -> list[str]:
    """A command for a shell, broken before its verb where it is too wide."""
    line = prompt + shlex.join(command)
    if len(line) <= WIDTH:
        return [line]
    at = next(place for place, word in enumerate(command) if word in _VERBS)
    return [
        f"{prompt}{shlex.join(command[:at])} \\",
        f"{' ' * len(prompt)}  {shlex.join(command[at:])}",
    ]
