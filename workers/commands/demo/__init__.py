"""`trimtab demo`: the whole of it on real posts, in a home of its own."""

import json
import sys

import click

from workers.commands.demo.show import Narrator
from workers.commands.demo.stage import Stage
from workers.commands.options import example, settings
from workers.settings import ConfigurationError, folder_of


@click.command(epilog=example("trimtab demo", "trimtab demo --keep", "trimtab demo --stop"))
@click.option(
    "--keep",
    is_flag=True,
    help="Leave the stack, the worker and a stream running, and say what to try.",
)
@click.option("--stop", is_flag=True, help="End what --keep has left running.")
@click.option(
    "--requests",
    type=click.IntRange(10),
    default=1000,
    show_default=True,
    help="Requests to send at least.",
)
@click.option(
    "--seed", type=int, default=7, show_default=True, help="Draws the posts and the requests."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the outcome as JSON, and the story to standard error.",
)
@click.option(
    "--be-the-stream", metavar="BOOTSTRAP", hidden=True, help="What --keep starts for its stream."
)
@settings("home", "cache")
def demo(
    keep: bool,
    stop: bool,
    requests: int,
    seed: int,
    as_json: bool,
    be_the_stream: str | None,
    home: str,
    cache: str,
) -> None:
    """Real posts become ranked feeds on a real Kafka; in mid-stream weights are turned, and a model
    is swapped.

    Starts a Kafka, a Redis and a worker of its own, sends requests of 50 posts each, and counts
    what was lost, doubled or torn: exit code 0 where those are all 0 and all of it was shown.
    Nothing is left running.
    """
    narrator = Narrator(beside=as_json)
    stage = Stage(folder_of("home", home), folder_of("cache", cache), narrator.note)
    if stop:
        with stage.held():
            stage.end()
        narrator.say("nothing of the demo runs")
        return
    _need_repository()
    # Only here: it imports onnx_models, which a wheel does not carry.
    from workers.commands.demo.kept import kept_stream  # noqa: PLC0415
    from workers.commands.demo.performance import perform  # noqa: PLC0415

    if be_the_stream is not None:
        kept_stream(be_the_stream, seed)
        return
    outcome = perform(stage, requests, seed, keep, narrator)
    if as_json:
        click.echo(json.dumps(outcome.document()))
    sys.exit(0 if outcome.good else 1)


def _need_repository() -> None:
    try:
        import onnx_models  # noqa: F401, PLC0415
    except ImportError:
        raise ConfigurationError(
            "onnx_models: not found. The demo's posts and models are in the repository, not in the installed package: "
            "clone it, and there: make demo"
        ) from None
