"""Where the demo takes place: a stack and a worker of its own in `<home>/demo`, so that it meets no
other stack.

What is started is written down at once and ended by what is written: what a killed demo left behind
is found and ended by the next. The folder is deleted at the end, and only ever a folder that a demo
made.
"""

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from workers.local import Stack, StackAddresses, StackError, processes
from workers.local.processes import ProcessMark
from workers.local.state import Say, locked
from workers.settings import SETTINGS

_END_SECONDS = 15.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Started(msgspec.Struct, frozen=True):
    """What was started besides the stack. `kept`: a finished demo left it running on purpose."""

    kept: bool = False
    processes: dict[str, ProcessMark] = {}


class Stage:
    """The demo's folder, stack and processes. Methods raise StackError."""

    def __init__(self, home: Path, cache: Path, say: Say) -> None:
        self.home = home.absolute() / "demo"
        self._cache = cache
        self._say = say

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else's demo runs in this home meanwhile; Ctrl-C, SIGTERM and a closed terminal
        interrupt alike.
        """
        before = {number: signal.signal(number, signal.default_int_handler) for number in _SIGNALS}
        try:
            with locked(self.home.with_name("demo.lock"), self._refuse):
                yield
        finally:
            for number, action in before.items():
                signal.signal(number, action)

    def _refuse(self) -> None:
        raise StackError(
            f"another demo runs in {self.home}; wait for its end, or give this one another --home"
        )

    def clear(self) -> None:
        """Make room: end what a killed demo left behind. Raises StackError where one is kept
        running.
        """
        if self._is_empty():
            return
        started = self._started()
        if started.kept and any(processes.is_alive(mark) for mark in started.processes.values()):
            raise StackError(
                f"a demo is kept running in {self.home}; end it: trimtab demo --stop --home {self.home.parent}"
            )
        self._say("ending what an earlier demo left behind")
        self.end()

    def up(self) -> StackAddresses:
        """Start the stack."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._write(_Started())
        return Stack(self.home, self._cache, self._say).up()

    def start(self, name: str, folder: Path, *words: str) -> ProcessMark:
        """Start `trimtab <words>` in `folder`, without this command's own settings; it outlives
        this command.
        """
        unset = [f"--unset={setting.variable}" for setting in SETTINGS.values()]
        command = ("/usr/bin/env", *unset, sys.executable, "-m", "workers.cli", *words)
        with processes.signals_deferred():  # no process may be started and not be written down
            mark = processes.spawn(command, folder, self.log(name))
            started = self._started()
            self._write(
                msgspec.structs.replace(started, processes={**started.processes, name: mark})
            )
        return mark

    def log(self, name: str) -> Path:
        """Where a started process writes."""
        return self.home / f"{name}.log"

    def stop(self, name: str) -> None:
        """Ask one process to end, and wait until it has."""
        processes.end(self._started().processes[name], _END_SECONDS)

    def keep(self) -> None:
        """Leave everything running on purpose."""
        self._write(msgspec.structs.replace(self._started(), kept=True))

    def end(self) -> None:
        """End everything that was started and delete the folder; nothing interrupts this."""
        if self._is_empty():
            return
        before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
        try:
            for mark in reversed(self._started().processes.values()):
                processes.end(mark, _END_SECONDS)
            Stack(self.home, self._cache).down(wipe=True)
            shutil.rmtree(self.home)
        finally:
            for number, action in before.items():
                signal.signal(number, action)

    def _is_empty(self) -> bool:
        return not self.home.exists() or not any(self.home.iterdir())

    @property
    def _file(self) -> Path:
        return self.home / "demo.json"

    def _started(self) -> _Started:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Started)
        except (OSError, msgspec.DecodeError) as error:
            raise StackError(
                f"{self.home}: no demo made this folder ({error}). Give another --home, or delete it by hand."
            ) from None

    def _write(self, started: _Started) -> None:
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(started))
        new.replace(self._file)
