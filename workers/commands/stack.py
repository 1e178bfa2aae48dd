"""`trimtab stack up | down | status`: a real Kafka and a real Redis on this machine.

Addresses and status go to standard output, progress to standard error.
"""

import sys

import click
import msgspec

from workers.commands.options import example, gather_settings, json_option
from workers.local import ServerStatus, Stack
from workers.settings import SETTINGS, folder_of

_PORT = click.IntRange(1, 65_535)
_STATE_TEXTS = {
    "up": "up",
    "silent": "runs, but does not answer",
    "died": "died: trimtab stack up",
    "down": "down",
}


def _stack_at(home: str, cache: str) -> Stack:
    return Stack(
        folder_of("home", home),
        folder_of("cache", cache),
        lambda line: click.echo(line, err=True),
    )


_stack_options = gather_settings("local_stack", ("home", "cache"), _stack_at)


@click.group(
    epilog=example("trimtab stack up", 'eval "$(trimtab stack up --export)"', "trimtab stack down")
)
def stack() -> None:
    """Start and stop a real Kafka and a real Redis on this machine."""


@stack.command(
    epilog=example("trimtab stack up --partitions 8", 'eval "$(trimtab stack up --export)"')
)
@click.option(
    "--partitions",
    type=click.IntRange(1),
    metavar="N",
    help="Partitions of new topics.  [default: 4]",
)
@click.option(
    "--kafka-port", type=_PORT, metavar="PORT", help="Port of Kafka.  [default: a free one]"
)
@click.option(
    "--redis-port", type=_PORT, metavar="PORT", help="Port of Redis.  [default: a free one]"
)
@click.option("--export", is_flag=True, help="Print only two lines for the eval of a shell.")
@json_option("Print the status as JSON.")
@_stack_options
def up(
    partitions: int | None,
    kafka_port: int | None,
    redis_port: int | None,
    export: bool,
    as_json: bool,
    local_stack: Stack,
) -> None:
    """Start Kafka and Redis and create the topics.

    It returns when both answer. What runs already is left alone. Topics of an older version get the
    configuration that outcomes need, and each change is printed. The first time, Maven downloads
    Kafka (about 45 MB).
    """
    if export and as_json:
        raise click.UsageError("--export and --json: give only one of them")
    if kafka_port is not None and kafka_port == redis_port:
        raise click.UsageError(
            f"--kafka-port and --redis-port: both are {kafka_port}, expected two ports"
        )

    addresses = local_stack.up(partitions, kafka_port, redis_port)
    if as_json:
        click.echo(msgspec.json.encode(local_stack.status()))
    elif export:
        click.echo(f"export {SETTINGS['kafka'].variable}={addresses.kafka}")
        click.echo(f"export {SETTINGS['redis'].variable}={addresses.redis}")
    else:
        click.echo(f"Kafka      {addresses.kafka}")
        click.echo(f"Redis      {addresses.redis}")
        click.echo(f"redis-cli  {' '.join(addresses.redis_cli_command)}")


@stack.command(epilog=example("trimtab stack down"))
@click.option("--wipe", is_flag=True, help="Delete records, topics and logs too.")
@_stack_options
def down(wipe: bool, local_stack: Stack) -> None:
    """Stop what `stack up` started. Kafka keeps its records for the next `up`, Redis keeps nothing."""
    local_stack.down(wipe)


@stack.command(epilog=example("trimtab stack status --json"))
@json_option("Print the status as JSON.")
@_stack_options
def status(as_json: bool, local_stack: Stack) -> None:
    """Show what runs, where, since when, and whether it answers.

    Exit code 1 unless both answer.
    """
    now = local_stack.status()
    if as_json:
        click.echo(msgspec.json.encode(now))
    else:
        click.echo(_server_text("Kafka", now.kafka))
        click.echo(_server_text("Redis", now.redis))
    sys.exit(0 if now.up else 1)


def _server_text(title: str, server: ServerStatus) -> str:
    facts = [f"{title}  {_STATE_TEXTS[server.state]}"]
    if server.address:
        facts.append(server.address)
    if server.pid:
        facts.append(f"pid {server.pid}")
    if server.uptime_s:
        facts.append(_uptime_text(server.uptime_s))
    return f"{'  '.join(facts)}\n       folder {server.folder}\n       log    {server.log}"


def _uptime_text(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"for {hours}h {minutes:02}m" if hours else f"for {minutes}m {left:02}s"
