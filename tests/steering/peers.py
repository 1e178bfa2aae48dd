"""Peers that are not quite a Redis: a proxy that swallows pushes, and a server with fixed answers."""

import socket
import threading
from typing import Self


class DeafProxy:
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
        for one in self._sockets:
            one.close()

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


class Peer:
    """Gives each connection on `port` the same answers, one to each thing it hears; `calls` counts connections."""

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
