"""`trimtab dead-letters list`: events that were refused, and why."""

import base64
import json
from collections import Counter

import click

from workers.codec.dead_letters import DeadLetter, read_dead_letter
from workers.commands.options import BrokersAt, brokers_options, example, json_option, settings
from workers.commands.text import printable
from workers.ranking.refusal import Reason
from workers.streaming.log_reader import TopicReader


@click.group("dead-letters", epilog=example("trimtab dead-letters list"))
def dead_letters() -> None:
    """Show refused events."""


@dead_letters.command("list", epilog=example("trimtab dead-letters list --reason late --json"))
@brokers_options
@settings("topic_dead_letters")
@click.option(
    "--reason",
    type=click.Choice([reason.value for reason in Reason]),
    help="Show only those with this reason.",
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="Stop after N dead letters.")
@json_option("Print JSON, one dead letter a line, keys and values in base64.")
def list_dead_letters(
    brokers: BrokersAt,
    topic_dead_letters: str,
    reason: str | None,
    count: int | None,
    as_json: bool,
) -> None:
    """List the dead letters that are in the topic now.

    A line has the place of the event in its topic, the reason, the key and the message.
    """
    reader = TopicReader(brokers.cluster(), topic_dead_letters, from_beginning=True)
    shown: Counter[str] = Counter()
    try:
        for record in reader.records(follow=False):
            if record.headers is None:
                place = f"{record.topic}/{record.partition}@{record.offset}"
                click.echo(
                    f"{place}: headers: got a name that is not UTF-8, expected a dead letter's",
                    err=True,
                )
                continue

            letter = read_dead_letter(record.key, record.value, record.headers)
            if letter is None or reason not in (None, letter.reason):
                continue

            shown[letter.reason] += 1
            click.echo(json.dumps(_document(letter)) if as_json else _line(letter))
            if shown.total() == count:
                break
    finally:
        reader.close()

    if not as_json:
        totals = ", ".join(f"{code}: {number}" for code, number in sorted(shown.items()))
        by_reason = f" ({totals})" if totals else ""
        click.echo(f"{shown.total()} dead letters{by_reason}")


def _line(letter: DeadLetter) -> str:
    key = "no key"
    if letter.key is not None:
        key = f"'{printable(letter.key.decode('utf-8', 'backslashreplace'))}'"
    place = f"{letter.topic}/{letter.partition}@{letter.offset}"
    return f"{place}  {letter.reason}  {key}  {printable(letter.message)}"


def _document(letter: DeadLetter) -> dict[str, object]:
    return {
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


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()
