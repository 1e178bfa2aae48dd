"""The stack's Kafka: one JVM that is both broker and controller, on loopback. It keeps its records
in its folder.
"""

import secrets
import shutil
from pathlib import Path
from string import Template

from workers.local.jars import find_program, kafka_jars, settings_file
from workers.local.processes import run
from workers.local.server import LOOPBACK, Server, StackError, accepts, last_lines
from workers.local.state import Report
from workers.streaming.topics import BrokerUnreachable, wait_until_answers

# Under a plain ASCII locale, Java does not find files below a folder whose name has other letters.
_LOCALE = ("/usr/bin/env", "LC_ALL=C.UTF-8")
_JVM = (
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Dlog4j2.configurationFile=log4j2.properties",
)
_ANSWER_SECONDS = 2.0


def kafka_address(port: int) -> str:
    """The bootstrap address of the broker."""
    return f"{LOOPBACK}:{port}"


def kafka_log(folder: Path) -> Path:
    """The file with the server's warnings and errors."""
    return folder / "kafka.log"


def kafka_answers(port: int) -> bool:
    """Whether a broker answers at the port.

    A broker that is stopped by a signal still accepts connections, because the kernel does. So a
    connection is not enough.
    """
    if not accepts(port):
        return False
    try:
        wait_until_answers(kafka_address(port), _ANSWER_SECONDS)
    except BrokerUnreachable:
        return False
    return True


def prepare_kafka(
    folder: Path, port: int, controller_port: int, cache: Path, report: Report
) -> Server:
    """Fetch Kafka if it is not in the cache, write its settings, and format its storage if it is
    new. Raises StackError.
    """
    java = find_program("java", package="openjdk-17-jre-headless")
    jars = kafka_jars(cache, report)
    command = (*_LOCALE, java, *_JVM, "-cp", f"{jars}/*")

    folder.mkdir(parents=True, exist_ok=True)
    template = Template(settings_file("server.properties").read_text(encoding="utf-8"))
    properties = template.substitute(port=port, controller_port=controller_port)
    (folder / "server.properties").write_text(properties, encoding="utf-8")
    shutil.copyfile(settings_file("log4j2.properties"), folder / "log4j2.properties")

    _format_storage(folder, command, java)
    return Server(
        title="Kafka",
        folder=folder,
        log=kafka_log(folder),
        command=(*command, "kafka.Kafka", "server.properties"),
        answers=lambda: kafka_answers(port),
    )


def _format_storage(folder: Path, command: tuple[str, ...], java: str) -> None:
    """Format the storage once. Raises StackError.

    If an earlier format was cut short, what it left is deleted: it holds no records.
    """
    formatted = folder / "formatted"
    if formatted.exists():
        return
    shutil.rmtree(folder / "data", ignore_errors=True)

    # The id must not begin with a dash, or it would be read as an option.
    cluster_id = "T" + secrets.token_urlsafe(16)[1:]
    arguments = ("format", "--standalone", "-t", cluster_id, "-c", "server.properties")
    exit_code, output = run((*command, "kafka.tools.StorageTool", *arguments), folder)
    if exit_code != 0:
        raise StackError(
            f"Kafka's storage in {folder} cannot be formatted with {java} "
            f"(Kafka 4 needs Java 17 or later):\n{last_lines(output)}"
        )
    formatted.touch()
