"""The stack's Kafka: one JVM that is broker and controller, on loopback, its records kept in its
folder.
"""

import secrets
import shutil
from pathlib import Path
from string import Template

from workers.local.errors import StackError, tail
from workers.local.jars import kafka_jars, program, settings_file
from workers.local.ports import LOOPBACK, accepts
from workers.local.processes import run
from workers.local.server import Server
from workers.local.state import Say
from workers.streaming.topics import BrokerUnreachable, wait_until_answers

# Under a locale of plain ASCII, Java finds no file below a folder named with any other letter.
_LOCALE = ("/usr/bin/env", "LC_ALL=C.UTF-8")
_JVM = (
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Dlog4j2.configurationFile=log4j2.properties",
)
# A stopped broker still accepts connections: the kernel does. So it has to answer, and within this.
_ANSWER_SECONDS = 2.0


def kafka_address(port: int) -> str:
    """The bootstrap address of the broker."""
    return f"{LOOPBACK}:{port}"


def prepare_kafka(folder: Path, port: int, controller_port: int, cache: Path, say: Say) -> Server:
    """Fetch Kafka if need be, write its settings, format its storage if it is new. Raises
    StackError.
    """
    java = program("java", "openjdk-17-jre-headless")
    command = (*_LOCALE, java, *_JVM, "-cp", f"{kafka_jars(cache, say)}/*")
    folder.mkdir(parents=True, exist_ok=True)
    _write_settings(folder, port, controller_port)
    _format(folder, command, java)
    run = (*command, "kafka.Kafka", "server.properties")
    return Server("Kafka", folder, kafka_log(folder), run, lambda: kafka_answers(port))


def kafka_log(folder: Path) -> Path:
    """Where the server's warnings and errors go."""
    return folder / "kafka.log"


def kafka_answers(port: int) -> bool:
    """Whether a broker answers at the port."""
    if not accepts(port):
        return False
    try:
        wait_until_answers(kafka_address(port), _ANSWER_SECONDS)
    except BrokerUnreachable:
        return False
    return True


def _write_settings(folder: Path, port: int, controller_port: int) -> None:
    properties = Template(settings_file("server.properties").read_text(encoding="utf-8"))
    filled = properties.substitute(port=port, controller_port=controller_port)
    (folder / "server.properties").write_text(filled, encoding="utf-8")
    shutil.copyfile(settings_file("log4j2.properties"), folder / "log4j2.properties")


def _format(folder: Path, command: tuple[str, ...], java: str) -> None:
    """Format the storage once. What a run that was cut short left behind is of no use, and holds no
    records.
    """
    formatted = folder / "formatted"
    if formatted.exists():
        return
    shutil.rmtree(folder / "data", ignore_errors=True)
    # The id may not begin with a dash, which would make it an option.
    cluster = "T" + secrets.token_urlsafe(16)[1:]
    tool = (
        "kafka.tools.StorageTool",
        "format",
        "--standalone",
        "-t",
        cluster,
        "-c",
        "server.properties",
    )
    code, said = run((*command, *tool), folder)
    if code != 0:
        raise StackError(
            f"Kafka's storage in {folder} cannot be formatted with {java} (Kafka 4 needs Java 17 or later):\n"
            f"{tail(said)}"
        )
    formatted.touch()
