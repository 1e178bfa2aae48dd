"""The heaps of a process, as the C library itself counts them."""

import subprocess
import sys
from pathlib import Path

# Eight threads allocate at the same time. Then malloc_info writes what heaps there are.
_PROGRAM = """
import ctypes, sys, threading
from workers.commands.heaps import limit_heaps

if sys.argv[2] == "limited":
    limit_heaps()

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.fopen.restype = ctypes.c_void_p
all_here = threading.Barrier(8)

def allocate():
    all_here.wait()
    libc.malloc(ctypes.c_size_t(5000))
    all_here.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


def heaps_of(tmp_path: Path, limit: str) -> int:
    report = tmp_path / "heaps.xml"
    subprocess.run([sys.executable, "-c", _PROGRAM, str(report), limit], check=True)
    return report.read_text().count("<heap nr=")


def test_the_threads_of_a_process_share_two_heaps(tmp_path: Path) -> None:
    assert heaps_of(tmp_path, "limited") <= 2
    # Without the limit there are more: so the program does what makes heaps.
    assert heaps_of(tmp_path, "as it is") > 2
