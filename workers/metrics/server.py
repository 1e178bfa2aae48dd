"""The HTTP server of a process, in threads of its own.

Rules:
- Whoever asks slowly, not at all, or from many connections must not hang it or make it grow. At most
  16 connections are open. One more closes the oldest, so a new one always gets its turn. A
  connection may be idle for 5 s, and only the first 16 KiB of a request are read.
- Cyclic garbage collection is off in a worker (process.py), so nothing here may leave a cycle
  behind. That is why it is not asyncio: its streams leave seven objects for each connection.
- Only GET and HEAD. One request for each connection.
"""

import io
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any, BinaryIO, Final, Self, cast

from workers.log import log
from workers.metrics.view import Answer, Answers

MAX_CONNECTIONS: Final = 16
IDLE_S: Final = 5.0
MAX_REQUEST_BYTES: Final = 16 * 1024


class _FirstBytes:
    """The first bytes of a request; what comes after them looks like its end."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size

    def readline(self, size: int) -> bytes:
        """Read a line, as far as it is within the first bytes."""
        line = self._stream.readline(min(size, self._left))
        self._left -= len(line)
        return line

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    @property
    def closed(self) -> bool:
        """Whether the stream is closed."""
        return self._stream.closed


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    timeout = IDLE_S
    server_version = "trimtab"
    sys_version = ""
    server: "MetricsServer"

    def setup(self) -> None:
        """Read no more than the first bytes."""
        super().setup()
        bounded = _FirstBytes(cast("BinaryIO", self.rfile), MAX_REQUEST_BYTES)
        self.rfile = cast("io.BufferedIOBase", bounded)

    def do_GET(self) -> None:
        """Answer."""
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self._send(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Log nothing: a probe asks every second."""

    def _send(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        answer = self.server.answer(path, self.headers.get("Accept", ""))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)


class MetricsServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves on a socket that listens already, while its block runs. `answers` is called in the
    thread of a connection.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, answers: Answers) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._answers = answers
        self._open: dict[int, socket.socket] = {}  # by their ids, the oldest first
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self.serve_forever, name="metrics", daemon=True, args=(0.5,)
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def answer(self, path: str, accept: str) -> Answer:
        """The answer for a path. A fault of ours costs this answer, and is logged."""
        try:
            answer = self._answers(path, accept)
        except Exception as error:  # noqa: BLE001 - the process goes on without this answer
            log.error("metrics_failed", path=path, error=repr(error))
            return Answer(500, b"our own fault: the log says more\n")
        return answer or Answer(404, b"/metrics, /livez, /readyz, /status\n")

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a new connection. If too many are open, the oldest is closed."""
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                oldest = next(iter(self._open.values()))
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
                del self._open[id(oldest)]
            self._open[id(request)] = request
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """A connection is over."""
        with self._lock:
            self._open.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client went away or was too slow: its own affair."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=64)


def serve(listener: socket.socket, answers: Callable[[str, str], Answer | None]) -> MetricsServer:
    """A server on that socket."""
    return MetricsServer(listener, answers)
