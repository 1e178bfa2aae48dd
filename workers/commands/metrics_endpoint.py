"""Where a process serves its metrics and health, or where its parent does.

| processes | who listens                                                                        |
|-----------|------------------------------------------------------------------------------------|
| one       | the process, on the port of its stage plus its slot                                |
| several   | the parent, on the port of its stage; each child on a socket that it inherits      |

The port of a stage: TRIMTAB_METRICS_PORT for workers, 1000 more for the join, 2000 more for the
users stage. So all three may run on one host with the same settings. A port that cannot be listened
on is refused before anything starts.
"""

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from workers.log import log
from workers.metrics.children import Children
from workers.metrics.names import JOIN, RANKING, USERS
from workers.metrics.server import listen, serve
from workers.metrics.view import KAFKA, ProcessView
from workers.settings import ConfigurationError, how_to_set

_PORT_OF_STAGE: Final = {RANKING: 0, JOIN: 1000, USERS: 2000}
_HIGHEST_PORT: Final = 65_535


@dataclass(frozen=True)
class MetricsEndpoint:
    """Where the processes of a stage serve. `base` None: nowhere. `inherited`: the number of the
    socket that a child has of its parent.
    """

    stage: str
    host: str
    base: int | None
    inherited: int | None = None

    def in_child(self, inherited: int | None) -> "MetricsEndpoint":
        """The endpoint of a child that has this socket of its parent. None: it has none."""
        return replace(self, inherited=inherited)

    @contextmanager
    def of_process(self, slot: int, waits_for: str = KAFKA) -> Iterator[ProcessView]:
        """Serve this process while the block runs. It starts, and waits for `waits_for` first. The
        view takes the sources of the answers once the process is put together.

        Raises ConfigurationError.
        """
        view = ProcessView(
            self.stage, slot, waits_for=waits_for, has_parent=self.inherited is not None
        )
        if self.inherited is not None:
            with serve(socket.socket(fileno=self.inherited), view.answer):
                yield view
        elif self.base is not None:
            with serve(self._listen(slot), view.answer):
                yield view
        else:
            yield view

    @contextmanager
    def of_parent(self, count: int) -> Iterator[Sequence[socket.socket]]:
        """Serve that many children while the block runs. Gives the socket of each, none if nothing is
        served. Raises ConfigurationError.
        """
        if self.base is None:
            yield ()
            return

        listener = self._listen(0)
        children = Children(count)
        try:
            with serve(listener, children.answer):
                yield children.listeners
        finally:
            children.close()

    def _listen(self, slot: int) -> socket.socket:
        assert self.base is not None
        port = self.base + _PORT_OF_STAGE[self.stage] + slot
        of_slot = f"for slot {slot} of the stage {self.stage!r}"
        if port > _HIGHEST_PORT:
            raise ConfigurationError(
                f"metrics_port: got {self.base}, which makes {port} {of_slot},"
                f" expected {_HIGHEST_PORT} at most. {how_to_set('metrics_port')}"
            )
        try:
            listener = listen(self.host, port)
        except OSError as error:
            name = "metrics_port"
            why = os.strerror(error.errno or 0)  # the error's own text has the address as well
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                name = "metrics_host"
                why = str(error)
            raise ConfigurationError(
                f"{name}: cannot listen on {self.host}:{port} {of_slot}: {why};"
                f" expected a free port of this host. {how_to_set(name)}"
            ) from None
        log.info("metrics", address=f"http://{self.host}:{port}", stage=self.stage)
        return listener
