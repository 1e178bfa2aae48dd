"""`trimtab dead-letters list`: events that were refused, and why."""

import base64
import json
from collections import Counter

import click

from workers.codec.dead_letters import DeadLetter, read_dead_letter
from workers.commands.options import KAFKA, cluster_of, example, settings
from workers.ranking.refusal import Reason
from workers.streaming.log_reader import TopicReader


@click.group("dead-letters", epilog=example("trimtab dead-letters list"))
def dead_letters() -> None:
    """Refused events."""


@dead_letters.command("list", epilog=example("trimtab dead-letters list --reason late --json"))
@settings(*KAFKA, "topic_dead_letters")
@click.option(
    "--reason",
    type=click.Choice([reason.value for reason in Reason]),
    help="Only those with this code.",
)
@click.option("--count", type=click.IntRange(1), help="Stop after so many.")
@click.option(
    "--json", "as_json", is_flag=True, help="One dead letter a line, key and value in base64."
)
def list_(
    kafka: str | None,
    kafka_config: str | None,
    topic_dead_letters: str,
    reason: str | None,
    count: int | None,
    as_json: bool,
) -> None:
    """List the dead letters that are there now, with reason, message and where the event stood."""
    reader = TopicReader(cluster_of(kafka, kafka_config), topic_dead_letters, from_beginning=True)
    found: Counter[str] = Counter()
    try:
        for record in reader.records(follow=False):
            if record.headers is None:
                where = f"{record.topic}/{record.partition}@{record.offset}"
                click.echo(
                    f"{where}: headers: got a name that is not UTF-8, expected a dead letter's",
                    err=True,
                )
                continue
            letter = read_dead_letter(record.key, record.value, record.headers)
            if letter is None or reason not in (None, letter.reason):
                continue
            found[letter.reason] += 1
            click.echo(_json(letter) if as_json else _line(letter))
            if found.total() == count:
                break
    finally:
        reader.close()
    if not as_json:
        totals = ", ".join(f"{code}: {number}" for code, number in sorted(found.items()))
        click.echo(f"{found.total()} dead letters{f' ({totals})' if totals else ''}")


def _line(letter: DeadLetter) -> str:
    key = "no key" if letter.key is None else repr(letter.key.decode("utf-8", "backslashreplace"))
    return f"{letter.topic}/{letter.partition}@{letter.offset}  {letter.reason}  {key}  {letter.message}"


def _json(letter: DeadLetter) -> str:
    return json.dumps(
        {
            "reason": letter.reason,
            "message": letter.message,
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "key": _base64(letter.key),
            "value": _base64(letter.value),
            "headers": [[name, _base64(value)] for name, value in letter.headers],
            "value_bytes": letter.value_bytes,
            "key_bytes": letter.key_bytes,
            "headers_left_out": letter.headers_left_out,
        }
    )


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()
