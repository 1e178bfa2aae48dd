"""Frameworks for comparison live in a virtual environment of their own: the project does not depend
on them.
"""

import subprocess
import sys
from pathlib import Path

REQUIREMENTS = ("quixstreams==3.28.1", "onnxruntime==1.32.0", "numpy==2.4.6")


def peers_python(cache: Path) -> Path:
    """The interpreter of that environment; the first time it is created, which needs a package
    index.
    """
    folder = cache / "bench-peers"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    wanted = "\n".join(REQUIREMENTS)
    if not complete.exists() or complete.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        complete.write_text(wanted)
    return python
