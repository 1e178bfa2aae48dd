"""The demo's command line: `make demo`, or `python -m demo` in the repository.

Exit codes are those of `trimtab`: 0 if everything was shown and every claim holds, 1 if not, 2 for
wrong use or wrong configuration.
"""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import click

from demo.audit import Outcome
from demo.environment import Environment, stop_command
from demo.fixtures import OBJECTIVE, SURFACE, Fixtures, prepare
from demo.operations import weights_arguments
from demo.outcomes_audit import OutcomesResult
from demo.outcomes_fixtures import OutcomesFixtures, prepare_outcomes
from demo.outcomes_script import OutcomesScript
from demo.script import Script
from demo.terminal import Terminal, command_lines, export_lines, exports, trimtab
from demo.traffic import KEPT_RATE, keep_sending
from workers.cli import run
from workers.commands.options import example, settings
from workers.local.server import last_lines
from workers.settings import folder_of

_REQUESTS = 1000


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example(
        "make demo",
        "make demo ARGS=--outcomes",
        "make demo ARGS=--keep",
        "make demo ARGS=--stop",
    ),
)
@click.option(
    "--keep",
    is_flag=True,
    help="Leave the stack, the worker and a stream of requests running, and print what to try.",
)
@click.option(
    "--outcomes",
    is_flag=True,
    help="Show an experiment with simulated readers instead: its verdict, and a guard rail.",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    default=120,
    show_default=True,
    help="With --outcomes: give up N seconds after the experiment's start.",
    metavar="N",
)
@click.option("--stop", is_flag=True, help="End what --keep has left running.")
@click.option(
    "--requests",
    type=click.IntRange(10),
    show_default=str(_REQUESTS),
    help="Send at least N requests.",
    metavar="N",
)
@click.option(
    "--seed",
    type=int,
    default=7,
    show_default=True,
    help="Seed of the random choice of posts, requests and what readers do.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the outcome as JSON, and everything else to standard error.",
)
@click.option(
    "--keep-sending-to",
    metavar="BOOTSTRAP",
    hidden=True,
    help="Only send requests. --keep starts this in the background.",
)
@settings("home", "cache")
def demo(
    keep: bool,
    outcomes: bool,
    patience: int,
    stop: bool,
    requests: int | None,
    seed: int,
    as_json: bool,
    keep_sending_to: str | None,
    home: str,
    cache: str,
) -> None:
    """Rank real posts on a real Kafka, and change weights and a model while requests are sent.

    Starts a Kafka, a Redis and a worker of its own, sends requests of 50 posts each, and counts
    what was lost, doubled or torn. The exit code is 0 if all of these are 0 and everything was
    shown. Nothing is left running, unless --keep asks for it.

    With --outcomes it shows an experiment instead. Simulated readers react to the feeds of two
    arms. The report finds the better one, and a guard rail stops the other. At the end the truth
    about the readers is beside the report.
    """
    if outcomes:
        for option, is_given in (("--keep", keep), ("--requests", requests is not None)):
            if is_given:
                raise click.UsageError(f"{option} and --outcomes: expected one of them")
    if keep_sending_to is not None:
        keep_sending(keep_sending_to, seed)
        return

    terminal = Terminal(use_stderr=as_json)
    environment = Environment(
        home=folder_of("home", home), cache=folder_of("cache", cache), report=terminal.note
    )
    if stop:
        with environment.locked():
            environment.end()
        terminal.print("nothing of the demo runs")
        return

    result: Outcome | OutcomesResult
    if outcomes:
        result = run_outcomes(environment, patience=patience, seed=seed, terminal=terminal)
    else:
        result = run_demo(
            environment,
            requests=_REQUESTS if requests is None else requests,
            seed=seed,
            keep=keep,
            terminal=terminal,
        )
    if as_json:
        click.echo(json.dumps(result.document()))
    sys.exit(0 if result.good else 1)


def run_demo(
    environment: Environment, requests: int, seed: int, keep: bool, terminal: Terminal
) -> Outcome:
    """Prepare, run the script, and end everything, or leave it running if `keep` asks for it.

    Raises ConfigurationError or a Failure.
    """
    with _ended_at_the_end(environment, terminal) as at_the_end:
        terminal.heading("Trimtab: real posts become ranked feeds, with a real Kafka and Redis")
        fixtures = prepare(environment, seed, terminal)
        outcome = _run_script(environment, fixtures, requests, seed, keep, terminal)

        if keep and outcome.good:
            _keep_running(environment, fixtures, seed, terminal)
            at_the_end.pop_all()
            return outcome

    terminal.print("", "Everything has ended. Nothing is left running.")
    return outcome


def run_outcomes(
    environment: Environment, patience: float, seed: int, terminal: Terminal
) -> OutcomesResult:
    """Prepare, run the script of `--outcomes`, and end everything.

    Raises ConfigurationError or a Failure.
    """
    with _ended_at_the_end(environment, terminal):
        terminal.heading(
            "Trimtab: did a change of the weights pay off? An experiment, start to end"
        )
        fixtures = prepare_outcomes(environment, seed, terminal)
        result = _run_outcomes_script(environment, fixtures, patience, seed, terminal)

    terminal.print("", "Everything has ended. Nothing is left running.")
    return result


@contextmanager
def _ended_at_the_end(environment: Environment, terminal: Terminal) -> Iterator[ExitStack]:
    """For the length of the block, nothing else runs in this environment. At its end everything in
    it is ended, unless the block empties the ExitStack.
    """
    with environment.locked(), ExitStack() as at_the_end:
        environment.clear()
        at_the_end.callback(environment.end)
        try:
            yield at_the_end
        except KeyboardInterrupt:
            with suppress(OSError):  # the terminal may be gone
                terminal.print("interrupted: ending what the demo has started")
            raise


def _run_script(
    environment: Environment,
    fixtures: Fixtures,
    requests: int,
    seed: int,
    keep: bool,
    terminal: Terminal,
) -> Outcome:
    def stop_worker() -> None:
        if not keep:
            environment.stop("worker")

    script = Script(fixtures, requests=requests, seed=seed, terminal=terminal)
    outcome = script.run(before_audit=stop_worker)

    if outcome.trouble is not None:
        log = environment.log("worker").read_text(encoding="utf-8", errors="replace")
        terminal.print("", "  The end of the worker's log:", last_lines(log))
    return outcome


def _run_outcomes_script(
    environment: Environment,
    fixtures: OutcomesFixtures,
    patience: float,
    seed: int,
    terminal: Terminal,
) -> OutcomesResult:
    def stop_processes() -> None:
        for name in fixtures.processes:
            environment.stop(name)

    script = OutcomesScript(fixtures, patience=patience, seed=seed, terminal=terminal)
    result = script.run(before_audit=stop_processes)

    if result.trouble is not None:
        for name in fixtures.processes:
            log = environment.log(name).read_text(encoding="utf-8", errors="replace")
            terminal.print("", f"  The end of the log of the {name}:", last_lines(log))
    return result


def _keep_running(
    environment: Environment, fixtures: Fixtures, seed: int, terminal: Terminal
) -> None:
    """Start a stream of requests, leave everything running, and print what to try.

    Raises StackError.
    """
    kafka = fixtures.addresses.kafka
    environment.start("stream", "demo", f"--keep-sending-to={kafka}", f"--seed={seed}")
    environment.keep()

    terminal.heading(
        f"Everything goes on, with {KEPT_RATE:.0f} requests a second for an hour. "
        "To try, in any shell:"
    )
    variables = exports(fixtures.addresses, fixtures.models)
    canary = weights_arguments(fixtures.canary)
    log = shlex.quote(str(environment.log("worker")))
    terminal.print(
        "  # read the feeds as a downstream consumer does",
        *export_lines(variables, prompt="  "),
        *_trimtab_lines("feeds", "tail", "--top", "5"),
        "",
        "  # change the weights while requests are sent: by hand, or with a preview first; then go back",
        *command_lines(fixtures.hset_command(fixtures.previewed), prompt="  "),
        *_trimtab_lines("weights", "set", SURFACE, *canary, "--preview", "--reason", "to try"),
        *_trimtab_lines("weights", "rollback", SURFACE),
        "",
        f"  # use the highest version of {OBJECTIVE} again, which is pinned now",
        *_trimtab_lines("models", "activate", OBJECTIVE, "latest"),
        *_trimtab_lines("models", "status"),
        "",
        "  # see what the worker ranks under, and what it logs",
        *_trimtab_lines("status"),
        f"  tail -f {log}",
        "",
        "  # stop everything",
        f"  {stop_command(environment.home)}",
    )


def _trimtab_lines(*words: str) -> list[str]:
    return command_lines([*trimtab(), *words], prompt="  ")


if __name__ == "__main__":
    run(demo)
