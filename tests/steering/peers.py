"""Peers that are not quite a Redis: proxies that swallow pushes, speak TLS, fail over or are far
away, and a server with fixed answers."""

import select
import socket
import ssl
import threading
import time
from queue import SimpleQueue
from typing import Self


class PushDroppingProxy:
    """Listens on `port`; a chunk that begins as a RESP3 push does not reach the client."""

    def __init__(self, redis_port: int) -> None:
        self._redis_port = redis_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.swallowed = threading.Event()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for connection in self._sockets:
            connection.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        redis = socket.create_connection(("127.0.0.1", self._redis_port))
        self._sockets += [client, redis]
        threading.Thread(target=self._pump, args=(client, redis), daemon=True).start()
        self._pump(redis, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(65536):
                if chunk.startswith(b">"):
                    self.swallowed.set()
                else:
                    sink.sendall(chunk)
        except OSError:
            return  # closed at the test's end


class Forwarder:
    """Listens on `port` and passes on to `target`, each way `delay_s` late; a connection keeps the
    target that it got.

    So an address that leads to another server from some moment on. `calls` counts connections.
    """

    def __init__(self, target: int, delay_s: float = 0.0) -> None:
        self.target = target
        self._delay_s = delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.calls = threading.Semaphore(0)
        self._over = threading.Event()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._sockets:
            connection.close()

    def count(self) -> int:
        """The connections since it was last asked."""
        return sum(iter(lambda: self.calls.acquire(blocking=False), False))

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                self.calls.release()
                redis = socket.create_connection(("127.0.0.1", self.target))
                self._sockets += [client, redis]
                for source, sink in ((client, redis), (redis, client)):
                    chunks: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
                    threading.Thread(
                        target=self._take_in, args=(source, chunks), daemon=True
                    ).start()
                    threading.Thread(target=self._pass_on, args=(chunks, sink), daemon=True).start()
        except OSError:
            return  # closed at the test's end

    def _take_in(self, source: socket.socket, chunks: "SimpleQueue[tuple[float, bytes]]") -> None:
        chunk = b"."
        while chunk:
            try:
                chunk = source.recv(65536)
            except OSError:
                chunk = b""
            chunks.put((time.monotonic() + self._delay_s, chunk))

    def _pass_on(self, chunks: "SimpleQueue[tuple[float, bytes]]", sink: socket.socket) -> None:
        try:
            while True:
                due, chunk = chunks.get()
                self._over.wait(max(0.0, due - time.monotonic()))
                if not chunk:
                    sink.shutdown(socket.SHUT_RDWR)
                    return
                sink.sendall(chunk)
        except OSError:
            return  # the other side has gone


class TlsProxy:
    """Listens on `port` with TLS and passes on what it receives; `refusals` counts handshakes that
    the client ended.
    """

    def __init__(self, redis_port: int, context: ssl.SSLContext) -> None:
        self._redis_port = redis_port
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.refusals = threading.Semaphore(0)
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._sockets:
            connection.close()

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()
        except OSError:
            return  # closed at the test's end

    def _serve(self, client: socket.socket) -> None:
        try:
            secure = self._context.wrap_socket(client, server_side=True)
        except OSError:
            self.refusals.release()
            return
        redis = socket.create_connection(("127.0.0.1", self._redis_port))
        self._sockets += [secure, redis]
        with secure, redis:
            self._relay(secure, redis)

    def _relay(self, secure: ssl.SSLSocket, redis: socket.socket) -> None:
        """Both ways in one thread: a TLS connection is not to be read and written by two."""
        ways: dict[socket.socket, socket.socket] = {secure: redis, redis: secure}
        try:
            while True:
                ready = [secure] if secure.pending() else select.select(list(ways), [], [])[0]
                for source in ready:
                    chunk = source.recv(65536)
                    if not chunk:
                        return
                    ways[source].sendall(chunk)
        except (OSError, ValueError):
            return  # closed at the test's end


class Peer:
    """Gives each connection on `port` the same answers, one to each message that it receives;
    `calls` counts connections.
    """

    def __init__(self, *answers: bytes, port: int = 0) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self.calls = threading.Semaphore(0)

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                self.calls.release()
                with client:
                    for answer in self._answers:
                        client.recv(65536)
                        client.sendall(answer)
        except OSError:
            return  # closed at the test's end


class Trickler:
    """Greets as Redis does, then answers with a reply that never ends, a byte at a time: no single
    read is slow.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.close()

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
            with client:
                client.recv(65536)
                client.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n")
                client.recv(65536)
                client.sendall(b"*1\r\n$1000000\r\n")
                while not self._over.wait(0.02):
                    client.sendall(b"x")
        except OSError:
            return  # closed at the test's end
