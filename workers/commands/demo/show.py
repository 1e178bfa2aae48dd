"""What the demo prints: plain text for 100 columns, in colour on a terminal only."""

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from workers.commands.demo.audit import Audit
from workers.local import StackAddresses
from workers.ranking.feed import Feed
from workers.ranking.weights import Weights
from workers.settings import SETTINGS

Labels = Mapping[str, str]
"""Item id to what people read of a post."""

WIDTH = 100
_ROWS = 10
_NAMED = 3


class Narrator:
    """Prints to standard output, or beside it where that is for `--json`."""

    def __init__(self, beside: bool) -> None:
        self._beside = beside
        self._live = (sys.stderr if beside else sys.stdout).isatty()

    def say(self, *lines: str) -> None:
        """Print lines; without one, an empty line."""
        for line in lines or ("",):
            click.echo(("\r\x1b[K" if self._live else "") + line, err=self._beside)

    def head(self, text: str) -> None:
        """Print what comes next."""
        self.say("", click.style(text, bold=True), "")

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Print what was made ready, as the block tells it, and how long that took."""
        told: list[str] = []
        began = time.monotonic()
        yield told.append
        self.say(f"  {name:<8} {' '.join(told):<{WIDTH - 20}} {time.monotonic() - began:5.1f} s")

    def note(self, text: str) -> None:
        """Print what happens meanwhile."""
        self.say(click.style(f"           {text}", dim=True))

    def count(self, text: str) -> None:
        """Show a line that the next one replaces; nothing where that is not possible."""
        if self._live:
            click.echo(f"\r\x1b[K  {text}", nl=False, err=self._beside)


def typed(program: Path) -> str:
    """A program as it is typed here: its name where PATH leads to it, else its path, from this folder if below it."""
    found = shutil.which(program.name)
    if found is not None and Path(found).resolve() == program.resolve():
        return program.name
    folder = Path.cwd()
    return str(program.relative_to(folder) if program.is_relative_to(folder) else program)


def trimtab() -> str:
    """This command as it is typed here."""
    script = Path(sys.executable).with_name("trimtab")
    return shlex.quote(typed(script)) if script.exists() else f"{shlex.quote(sys.executable)} -m workers.cli"


def command_lines(command: Sequence[str], prompt: str = "  $ ") -> list[str]:
    """A command for a shell, broken before HSET where it is too wide."""
    line = prompt + shlex.join(command)
    if len(line) <= WIDTH:
        return [line]
    at = command.index("HSET")
    return [f"{prompt}{shlex.join(command[:at])} \\", f"{' ' * len(prompt)}  {shlex.join(command[at:])}"]


def mix(weights: Weights) -> str:
    """A set of weights in words."""
    return " ".join(f"{objective} {weight:g}" for objective, weight in weights.values.items())


def formula(weights: Weights) -> str:
    """The final score in words."""
    return "final score = " + " + ".join(f"{weight:g} x {objective}" for objective, weight in weights.values.items())


def clip(text: str, width: int) -> str:
    """The text in exactly so many columns, on one line, without what a terminal would not show."""
    shown = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return f"{shown[: width - 1]}…" if len(shown) > width else shown.ljust(width)


def feed_table(feed: Feed, labels: Labels) -> list[str]:
    """The top of a feed: position, final score, the score of each objective, post."""
    objectives = "".join(f"{objective:>12}" for objective in feed.weights.values)
    lines = [f"  pos  final score{objectives}  post"]
    for position, item in enumerate(feed.items[:_ROWS]):
        scores = "".join(f"{score:12.4f}" for score in item.scores)
        start = f"  {position:3d}  {item.final_score:11.4f}{scores}  "
        lines.append((start + clip(labels[item.item_id], WIDTH - len(start))).rstrip())
    return lines


def moves(before: Feed, after: Feed) -> Mapping[str, int]:
    """By how many positions each item of `after` that was in `before` moved, up being positive."""
    old = {item.item_id: position for position, item in enumerate(before.items)}
    return {item.item_id: old[item.item_id] - new for new, item in enumerate(after.items) if item.item_id in old}


def side_by_side(before: Feed, after: Feed, labels: Labels) -> list[str]:
    """The top of both orders of the same candidates, row by row; `moved` says by how many positions, + being up."""
    moved, half = moves(before, after), (WIDTH - 32) // 2
    lines = [
        f"       {clip(mix(before.weights), half + 8)}  {mix(after.weights)}",
        f"  pos   final  {'post':<{half}}   final  moved  post",
    ]
    for position, (old, new) in enumerate(zip(before.items[:_ROWS], after.items[:_ROWS], strict=False)):
        left = f"  {position:3d}  {old.final_score:6.3f}  {clip(labels[old.item_id], half)}"
        move = f"{moved.get(new.item_id, 0):+d}".replace("+0", "=")
        lines.append(f"{left}  {new.final_score:6.3f}  {move:>5}  {clip(labels[new.item_id], half)}".rstrip())
    return lines


def turn_lines(ranked_ms: int, readable_ms: int, command_ms: int) -> list[str]:
    """How long the write took to show."""
    return [
        f"  {ranked_ms:4d} ms later the first feed was ranked under them (its ranked_at),",
        f"  {readable_ms:4d} ms later it was readable under read_committed.",
        f"  Both counted from just before redis-cli was started, which took {command_ms} ms by itself.",
    ]


def audit_lines(audit: Audit, written: Iterable[Weights]) -> list[str]:
    """The counts, how many feeds each set of weights ranked, and the first of what is wrong."""
    good = "green" if audit.clean else "red"
    shares = ", ".join(f"{audit.under.get(weights.version, 0):,} under {mix(weights)}" for weights in written)
    wrong = f"{len(audit.lost)} lost, {len(audit.doubled)} doubled, {len(audit.torn)} torn"
    lines = [
        f"  {audit.requests:,} requests sent, {audit.feeds:,} feeds read under read_committed: "
        + click.style(wrong, fg=good, bold=True),
        f"  of the feeds {shares}",
    ]
    if audit.partial:
        lines.append(f"  {len(audit.partial):,} feeds closed without some of their posts, as at a deadline")
    for what, found in (("lost", audit.lost), ("doubled", audit.doubled)):
        lines += [f"    {what}: {request_id}" for request_id in found[:_NAMED]]
    return lines + [f"    torn: {request_id}: {why}" for request_id, why in audit.torn[:_NAMED]]


def kept_lines(addresses: StackAddresses, hset: Sequence[str], log: Path, home: Path) -> list[str]:
    """What to try while all of it goes on, and how to end it."""
    usual = home == Path(str(SETTINGS["home"].default)).expanduser()
    place = "" if usual else f" --home {shlex.quote(str(home))}"
    kafka, redis = SETTINGS["kafka"].variable, SETTINGS["redis"].variable
    return [
        "  # the feeds, as a downstream consumer reads them",
        f"  export {kafka}={addresses.kafka} {redis}={addresses.redis}",
        f"  {trimtab()} feeds tail --top 5",
        "",
        "  # other weights, while you watch",
        *command_lines(hset, prompt="  "),
        "",
        "  # what the worker says",
        f"  tail -f {shlex.quote(str(log))}",
        "",
        "  # end it all",
        f"  {trimtab()} demo --stop{place}",
    ]
