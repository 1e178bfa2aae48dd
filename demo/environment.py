"""Where the demo runs: a Kafka, a Redis and a worker of its own, in the folder `<home>/demo`.

Rules:

- The demo uses no other stack, and a user's own settings do not affect what it starts.
- Each process is written to `demo.json` as soon as it is started. So the next demo can end what a
  killed demo left behind.
- The folder is deleted at the end. Only a folder that a demo made is ever deleted.
"""

import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from workers.errors import Failure
from workers.local import Stack, StackAddresses, StackError, processes
from workers.local.processes import ProcessIdentity
from workers.local.state import Report, locked
from workers.settings import SETTINGS, ConfigurationError, folder_of

REPOSITORY = Path(__file__).resolve().parents[1]
MODELS = REPOSITORY / "onnx_models"
SURFACES = REPOSITORY / "deploy" / "surfaces.toml"
_END_SECONDS = 15.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StepFailed(Failure):
    """A step of the demo did not do what it should; the message says what is missing or why."""


class _Started(msgspec.Struct, frozen=True):
    """What was started besides the stack. `kept`: a finished demo left it running on purpose."""

    kept: bool = False
    processes: dict[str, ProcessIdentity] = {}


class Environment:
    """The demo's folder, stack and processes. Methods raise StackError."""

    def __init__(self, home: Path, cache: Path, report: Report) -> None:
        self.folder = home.absolute() / "demo"
        self._cache = cache
        self._report = report

    @property
    def home(self) -> Path:
        """The folder that the demo's folder is in."""
        return self.folder.parent

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other demo out of this home, for the length of the block.

        In the block, Ctrl-C, SIGTERM and a closed terminal all raise KeyboardInterrupt.
        """

        def refuse() -> None:
            raise StackError(
                f"another demo runs in {self.folder}; "
                "wait for its end, or give this one another --home"
            )

        interrupts = _signals_handled_by(signal.default_int_handler)
        with interrupts, locked(self.home / "demo.lock", before_waiting=refuse):
            yield

    def clear(self) -> None:
        """End what a killed demo left behind. Raises StackError if a demo is kept running here."""
        if self._is_empty():
            return

        started = self._read()
        is_running = any(processes.is_alive(process) for process in started.processes.values())
        if started.kept and is_running:
            raise StackError(
                f"a demo is kept running in {self.folder}; stop it: {stop_command(self.home)}"
            )

        self._report("ending what an earlier demo left behind")
        self.end()

    def start_stack(self) -> StackAddresses:
        """Start Kafka and Redis."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(_Started())
        return Stack(self.folder, self._cache, self._report).up()

    def start(self, name: str, module: str, *arguments: str) -> ProcessIdentity:
        """Start `python -m <module> <arguments>` in the repository, without any setting of this
        command's user. The process outlives this command.
        """
        command = without_settings(sys.executable, "-m", module, *arguments)

        # A signal must not come between the start of a process and the note of it.
        with processes.signals_deferred():
            process = processes.spawn(command, REPOSITORY, self.log(name))
            started = self._read()
            all_processes = {**started.processes, name: process}
            self._write(msgspec.structs.replace(started, processes=all_processes))
        return process

    def log(self, name: str) -> Path:
        """The file with the output of a process that was started."""
        return self.folder / f"{name}.log"

    def stop(self, name: str) -> None:
        """Ask one process to end, and wait until it has."""
        processes.end(self._read().processes[name], _END_SECONDS)

    def keep(self) -> None:
        """Note that everything is left running on purpose."""
        self._write(msgspec.structs.replace(self._read(), kept=True))

    def end(self) -> None:
        """End everything that was started, and delete the folder. No signal interrupts this."""
        if self._is_empty():
            return

        with _signals_handled_by(signal.SIG_IGN):
            started = self._read()
            for process in reversed(started.processes.values()):
                processes.end(process, _END_SECONDS)
            Stack(self.folder, self._cache).down(wipe=True)
            shutil.rmtree(self.folder)

    def _is_empty(self) -> bool:
        return not self.folder.exists() or not any(self.folder.iterdir())

    @property
    def _file(self) -> Path:
        return self.folder / "demo.json"

    def _read(self) -> _Started:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Started)
        except (OSError, msgspec.DecodeError) as error:
            raise StackError(
                f"{self.folder}: no demo made this folder ({error}). "
                "Give another --home, or delete it by hand."
            ) from None

    def _write(self, started: _Started) -> None:
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(started))
        new.replace(self._file)


def without_settings(*command: str) -> list[str]:
    """A command that does not see the TRIMTAB_ variables of this process."""
    unset = [f"--unset={setting.variable}" for setting in SETTINGS.values()]
    return ["/usr/bin/env", *unset, *command]


def stop_command(home: Path) -> str:
    """The line for a shell that ends a demo which `--keep` left running in this home."""
    arguments = ["--stop"]
    if home != _default_home():
        arguments += ["--home", str(home)]

    command = ["make", "demo", f"ARGS={shlex.join(arguments)}"]
    if Path.cwd() != REPOSITORY:
        command[1:1] = ["-C", str(REPOSITORY)]
    return shlex.join(command)


def _default_home() -> Path | None:
    """The home if no setting names one; None if the user has no home."""
    try:
        return folder_of("home", str(SETTINGS["home"].default))
    except ConfigurationError:
        return None


@contextmanager
def _signals_handled_by(action: Any) -> Iterator[None]:
    """In the block, handle the signals that end a program by `action`."""
    before = {number: signal.signal(number, action) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
