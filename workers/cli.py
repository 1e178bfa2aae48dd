"""`trimtab`: the root of the command line, and what an error means for the exit code.

0: fine. 1: a negative result, said on standard error. 2: wrong use or wrong configuration.
"""

import sys
from importlib import import_module

import click

from workers.errors import Failure
from workers.settings import ConfigurationError
from workers.streaming.clients import KafkaException


class _Commands(click.Group):
    """Each command's module is imported when it is asked for: `stack` needs no models, `rank` no
    Kafka.
    """

    names = (
        "stack",
        "worker",
        "status",
        "produce",
        "feeds",
        "weights",
        "experiment",
        "rank",
        "validate",
        "models",
        "dead-letters",
        "offsets",
    )

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.names:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"workers.commands.{name}"), name)
        return command


@click.group(
    cls=_Commands,
    epilog="\b\nExample:\n  trimtab stack up\n  trimtab worker --help",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="trimtab")
def trimtab() -> None:
    """Streaming ranking workers: candidates in, ranked feeds out, exactly once, with weights turned
    live in Redis.
    """


def main() -> None:
    """The console script."""
    run(trimtab)


def run(command: click.Command) -> None:
    """Run a command with the words of the command line, and end with the exit code of its error."""
    try:
        command()
    except ConfigurationError as error:
        _end(str(error), 2)
    except Failure as error:
        _end(str(error), 1)
    except KafkaException as error:
        _end(f"Kafka: {error.args[0].str()}", 1)


def _end(message: str, code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
