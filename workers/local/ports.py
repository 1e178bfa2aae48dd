"""Ports of this machine's loopback address: which is free, and whether one is listened to."""

import errno
import random
import socket
from collections.abc import Collection

from workers.local.errors import StackError

LOOPBACK = "127.0.0.1"

# Below the range from which the kernel gives ports to outgoing connections: such a connection could
# hold the port of a server that is down for a moment, and a client that tries a dead server could
# connect to itself.
_RANGE = range(18_000, 32_000)


def free_port(besides: Collection[int | None] = ()) -> int:
    """A port that nobody listens to, and none of those just given out. Raises StackError where none
    is found.
    """
    for port in random.sample(_RANGE, 200):
        if port not in besides and is_free(port):
            return port
    raise StackError(
        f"no free port was found between {_RANGE.start} and {_RANGE.stop} on {LOOPBACK}"
    )


def is_free(port: int) -> bool:
    """Whether a server could listen on the port. Raises StackError where this user may not."""
    with socket.socket() as probe:
        # As servers do: connections of a server that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except PermissionError:
            raise StackError(
                f"port {port}: this user may not listen on it, expected one above 1023"
            ) from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def accepts(port: int) -> bool:
    """Whether somebody listens on the port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1.0).close()
    except OSError:
        return False
    return True
