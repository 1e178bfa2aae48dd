"""Frameworks for comparison live in environments of their own: the project does not depend on them.

Each is created at its first use, which needs a package index or a Maven repository.
"""

import subprocess
import sys
from pathlib import Path

from workers.local.jars import fetch_jars

_SCORING = ("onnxruntime==1.32.0", "numpy==2.4.6")
QUIX = ("quixstreams==3.28.1", *_SCORING)
BYTEWAX = ("bytewax==0.21.1", "confluent-kafka==2.16.1", "msgspec==0.22.0", *_SCORING)
FAUST = (
    "faust-streaming==0.15.3",
    "aiokafka==0.14.0",
    "mode-streaming==0.7.1",
    "click==8.3.3",
    "msgspec==0.22.0",
    *_SCORING,
)
KAFKA_STREAMS = Path(__file__).parent / "kafka_streams"


def peers_python(folder: Path, requirements: tuple[str, ...]) -> str:
    """The interpreter of an environment with these packages."""
    python = folder / "bin" / "python"
    complete = folder / "complete"
    wanted = "\n".join(requirements)
    if not complete.exists() or complete.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
        complete.write_text(wanted)
    return str(python)


def kafka_streams_jars(cache: Path) -> Path:
    """The folder with the libraries of the application in Kafka Streams. Raises StackError."""
    pom = KAFKA_STREAMS / "pom.xml"
    return fetch_jars("Kafka Streams", pom, cache, lambda _: None, size_mb=170)
