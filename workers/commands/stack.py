"""`trimtab stack up | down | status`: a real Kafka and a real Redis on this machine.

Addresses and answers go to standard output, what happens meanwhile to standard error.
"""

import sys

import click
import msgspec

from workers.commands.options import example, settings
from workers.local import ServerStatus, Stack, StackAddresses, StackStatus
from workers.settings import SETTINGS, folder_of

_PORT = click.IntRange(1, 65_535)


_as_json = click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")


def _stack(home: str, cache: str) -> Stack:
    return Stack(
        folder_of("home", home), folder_of("cache", cache), lambda line: click.echo(line, err=True)
    )


@click.group(
    epilog=example("trimtab stack up", 'eval "$(trimtab stack up --export)"', "trimtab stack down")
)
def stack() -> None:
    """Start and end a real Kafka and a real Redis on this machine."""


@stack.command(
    epilog=example("trimtab stack up --partitions 8", 'eval "$(trimtab stack up --export)"')
)
@click.option(
    "--partitions", type=click.IntRange(1), help="Partitions of new topics.  [default: 4]"
)
@click.option("--kafka-port", type=_PORT, help="Port of Kafka.  [default: a free one]")
@click.option("--redis-port", type=_PORT, help="Port of Redis.  [default: a free one]")
@click.option("--export", is_flag=True, help="Print just the two lines for a shell's eval.")
@_as_json
@settings("home", "cache")
def up(
    partitions: int | None,
    kafka_port: int | None,
    redis_port: int | None,
    export: bool,
    as_json: bool,
    home: str,
    cache: str,
) -> None:
    """Start Kafka and Redis, create the topics, and return when both answer.

    What is up already stays as it is. The first time, Maven fetches Kafka (about 45 MB).
    """
    if export and as_json:
        raise click.UsageError("--export and --json: give one of the two")
    if kafka_port is not None and kafka_port == redis_port:
        raise click.UsageError(
            f"--kafka-port and --redis-port: both are {kafka_port}, expected two ports"
        )
    local = _stack(home, cache)
    addresses = local.up(partitions, kafka_port, redis_port)
    if as_json:
        _echo_json(local.status())
    else:
        click.echo(_exports(addresses) if export else _addresses(addresses))


@stack.command(epilog=example("trimtab stack down"))
@click.option("--wipe", is_flag=True, help="Delete its records, topics and logs too.")
@settings("home", "cache")
def down(wipe: bool, home: str, cache: str) -> None:
    """End what `stack up` started. Kafka keeps its records for the next `up`, Redis nothing."""
    _stack(home, cache).down(wipe)


@stack.command(epilog=example("trimtab stack status --json"))
@_as_json
@settings("home", "cache")
def status(as_json: bool, home: str, cache: str) -> None:
    """Say what runs, where, since when, and whether it answers. Exit code 1 where not both do."""
    found = _stack(home, cache).status()
    if as_json:
        _echo_json(found)
    else:
        click.echo(_server_lines("Kafka", found.kafka))
        click.echo(_server_lines("Redis", found.redis))
    sys.exit(0 if found.up else 1)


def _echo_json(found: StackStatus) -> None:
    click.echo(msgspec.json.encode(found))


def _exports(addresses: StackAddresses) -> str:
    kafka, redis = SETTINGS["kafka"].variable, SETTINGS["redis"].variable
    return f"export {kafka}={addresses.kafka}\nexport {redis}={addresses.redis}"


def _addresses(addresses: StackAddresses) -> str:
    cli = " ".join(addresses.redis_cli_command)
    return f"Kafka      {addresses.kafka}\nRedis      {addresses.redis}\nredis-cli  {cli}"


_SAID = {
    "up": "up",
    "silent": "runs, but does not answer",
    "died": "died: trimtab stack up",
    "down": "down",
}


def _server_lines(title: str, server: ServerStatus) -> str:
    known = [
        server.address,
        server.pid and f"pid {server.pid}",
        server.uptime_s and _age(server.uptime_s),
    ]
    line = "  ".join((f"{title}  {_SAID[server.state]}", *(str(part) for part in known if part)))
    return f"{line}\n       folder {server.folder}\n       log    {server.log}"


def _age(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"for {hours}h {minutes:02}m" if hours else f"for {minutes}m {left:02}s"
