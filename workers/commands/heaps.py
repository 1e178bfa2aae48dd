"""How many heaps the C library keeps for the threads of a process."""

import ctypes
from typing import Final

_ARENA_MAX: Final = -8  # M_ARENA_MAX of glibc's malloc.h
_HEAPS: Final = 2


def limit_heaps() -> None:
    """Let all threads of this process share two heaps. Call it before there is a second thread.

    By default glibc gives each thread a heap of its own, up to eight for each core. What a Kafka
    client's thread has freed stays in its heap, and open requests cannot use it. Another C library
    is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, _HEAPS)
