"""What `trimtab feeds tail` and `trimtab outcomes tail` have in common: print records as they come."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import click

from workers.commands.options import BrokersAt, CommandFunction, gather
from workers.errors import Failure
from workers.streaming.log_reader import TopicReader
from workers.streaming.records import Record


@dataclass(frozen=True)
class TailRange:
    """Which records to print: from the beginning or only new ones, at most `count`, and for how
    long (seconds without a record). None: without end.
    """

    from_beginning: bool
    count: int | None
    timeout: float | None


def tail_options(noun: str) -> Callable[[CommandFunction], CommandFunction]:
    """--from-beginning, --count and --timeout, as `shown`. `noun` is what a record is, such as
    `feed`.
    """

    def decorate(command: CommandFunction) -> CommandFunction:
        command = gather("shown", ("from_beginning", "count", "timeout"), TailRange)(command)
        command = click.option(
            "--timeout",
            type=click.FloatRange(0, min_open=True),
            metavar="SECONDS",
            help=f"Stop after this time without a {noun}.",
        )(command)
        command = click.option(
            "--count", type=click.IntRange(1), metavar="N", help=f"Stop after N {noun}s."
        )(command)
        return click.option("--from-beginning", is_flag=True, help=f"Show earlier {noun}s too.")(
            command
        )

    return decorate


def print_tail(
    brokers: BrokersAt,
    topic: str,
    shown: TailRange,
    noun: str,
    render: Callable[[Record], str | bytes],
) -> None:
    """Print what `render` makes of each committed record. A record for which it raises Failure is
    reported on standard error and does not count.

    Exits with 1 if the timeout ends it before `count` records were printed.
    """
    reader = TopicReader(brokers.cluster(), topic, shown.from_beginning)
    printed = 0
    try:
        for record in reader.records(follow=True, timeout=shown.timeout):
            try:
                text = render(record)
            except Failure as unreadable:
                place = f"{record.topic}/{record.partition}@{record.offset}"
                click.echo(f"{place}: {unreadable}", err=True)
                continue

            click.echo(text)
            printed += 1
            if printed == shown.count:
                return
    except KeyboardInterrupt:
        return
    finally:
        reader.close()

    if shown.count is not None:
        silence = f"within {shown.timeout:g} s of silence"
        click.echo(f"{printed} of {shown.count} {noun}s {silence}", err=True)
        sys.exit(1)
