"""Frameworks for comparison live in a virtual environment of their own: the project does not depend
on them.
"""

import subprocess
import sys
from pathlib import Path

RANKING = ("quixstreams==3.28.1", "onnxruntime==1.32.0", "numpy==2.4.6")
OUTCOMES = (
    "faust-streaming==0.15.3",
    "aiokafka==0.14.0",
    "mode-streaming==0.7.1",
    "click==8.3.3",
    "msgspec==0.22.0",
)


def peers_python(folder: Path, requirements: tuple[str, ...]) -> Path:
    """The interpreter of an environment with these packages. The first time it is created, which
    needs a package index.
    """
    python = folder / "bin" / "python"
    complete = folder / "complete"
    wanted = "\n".join(requirements)
    if not complete.exists() or complete.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
        complete.write_text(wanted)
    return python
