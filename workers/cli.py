"""`trimtab`: the root of the command line, and what an error means for the exit code.

0: fine. 1: a negative result, said on standard error. 2: wrong use or wrong configuration.
"""

import sys

import click
from confluent_kafka import KafkaException

from workers.commands.dead_letters import dead_letters
from workers.commands.demo import demo
from workers.commands.feeds import feeds
from workers.commands.models import models
from workers.commands.offsets import offsets
from workers.commands.produce import produce
from workers.commands.rank import rank
from workers.commands.stack import stack
from workers.commands.validate import validate
from workers.commands.worker import worker
from workers.local.errors import StackError
from workers.scoring.store import NoVerifiedModel
from workers.settings import ConfigurationError
from workers.streaming.checks import TopicsUnfit
from workers.streaming.read import TopicMissing
from workers.streaming.send import SendFailed
from workers.streaming.topics import BrokerUnreachable, TopicError

_NEGATIVE = (
    BrokerUnreachable,
    KafkaException,
    NoVerifiedModel,
    SendFailed,
    StackError,
    TopicError,
    TopicMissing,
    TopicsUnfit,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="trimtab")
def trimtab() -> None:
    """Streaming ranking workers: candidates in, ranked feeds out, exactly once, with weights turned live in Redis."""


for command in (demo, stack, worker, produce, feeds, rank, validate, models, dead_letters, offsets):
    trimtab.add_command(command)


def main() -> None:
    """The console script."""
    try:
        trimtab()
    except ConfigurationError as error:
        _end(str(error), 2)
    except _NEGATIVE as error:
        _end(_text(error), 1)


def _text(error: Exception) -> str:
    return f"Kafka: {error.args[0].str()}" if isinstance(error, KafkaException) else str(error)


def _end(message: str, code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
