"""What the demo prints, and the commands that it runs and shows.

The output is plain text of 100 columns, in colour on a terminal only. A command is shown exactly
as it is run, so that it also works for whoever pastes it.
"""

import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from demo.audit import ArmCounts, Audit, ModelSwap, PreviewCheck, WeightChange, WeightsByArm
from demo.environment import SURFACES, StepFailed, without_settings
from demo.outcomes_audit import Compared, Fact
from workers.local import StackAddresses
from workers.ranking.experiment import CONTROL
from workers.ranking.feed import Feed
from workers.ranking.weights import Weights
from workers.settings import SETTINGS

Labels = Mapping[str, str]
"""Item id to what people read of a post."""

WIDTH = 100
PROMPT = "  $ "
_INDENT = 4  # of a command's output
_ROWS = 10  # of a feed
_SHOWN_FAULTS = 3  # of each kind
_CONTINUED = " \\"
_MARK_WIDTH = 9
_CLEAR_LINE = "\r\x1b[K"
_VERBS = ("HSET", "weights", "experiment", "outcomes", "models", "feeds", "status")


class Terminal:
    """Prints to standard output, or to standard error if standard output is for `--json`."""

    def __init__(self, use_stderr: bool) -> None:
        stream = sys.stderr if use_stderr else sys.stdout
        self._use_stderr = use_stderr
        self._is_terminal = stream.isatty()
        self._after_empty_line = False

    def print(self, *lines: str) -> None:
        """Print lines; without any, an empty line. Of several empty lines in a row, print one."""
        for line in lines or ("",):
            if line or not self._after_empty_line:
                start = _CLEAR_LINE if self._is_terminal else ""
                click.echo(start + line, err=self._use_stderr)
            self._after_empty_line = not line

    def heading(self, text: str) -> None:
        """Print what comes next."""
        self.print("", click.style(text, bold=True), "")

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Print the result of a step and how long it took. The block passes the result to the
        function that it is given.
        """
        results: list[str] = []
        started = time.monotonic()

        yield results.append

        seconds = time.monotonic() - started
        result = " ".join(results)
        self.print(f"  {name:<9} {result:<{WIDTH - 21}} {seconds:5.1f} s")

    def note(self, text: str) -> None:
        """Print what happens during a step."""
        self.print(click.style(f"            {text}", dim=True))

    def progress(self, text: str) -> None:
        """Show a line that the next output replaces. Prints nothing if this is not a terminal."""
        if self._is_terminal:
            click.echo(f"{_CLEAR_LINE}  {text}", nl=False, err=self._use_stderr)


class Shell:
    """Runs commands, and shows each with its output. They see the variables that `exports` names,
    and no other setting.
    """

    def __init__(
        self,
        addresses: StackAddresses,
        models: Path,
        terminal: Terminal,
        surfaces: Path = SURFACES,
    ) -> None:
        self._variables = exports(addresses, models, surfaces)
        self._terminal = terminal

    def show_exports(self) -> None:
        """Show the variables that the commands need."""
        self._terminal.print(*export_lines(self._variables))

    def run_trimtab(self, *words: str, only: tuple[str, ...] = ("",)) -> None:
        """Show `trimtab <words>`, run it, and show its output: empty lines, and lines that begin
        with one of `only`. Raises StepFailed if its exit code is not 0.
        """
        self._terminal.print(*command_lines([*trimtab(), *words]))
        output = self.read_trimtab(*words)

        shown = [line for line in output.splitlines() if not line or line.startswith(only)]
        self._terminal.print(*_output_lines("\n".join(shown).rstrip()), "")

    def read_trimtab(self, *words: str) -> str:
        """Run `trimtab <words>` and return its output. Raises StepFailed if its exit code is not 0."""
        command = without_settings(*self._variables, *trimtab(), *words)
        return run_command(command, " ".join(("trimtab", *words[:2])))

    def run_script(self, folder: Path, lines: Sequence[str]) -> None:
        """Show lines for a shell that starts in `folder`, and run them up to the first that fails.
        Raises StepFailed if one fails.
        """
        change_folder = shlex.join(("cd", str(folder)))
        script = " &&\n".join([change_folder, *lines])

        indented = textwrap.indent(f"({script})", " " * (len(PROMPT) + 2)).lstrip()
        self._terminal.print(*f"{PROMPT}{indented}".splitlines(), "")

        run_command(["/bin/sh", "-c", script], lines[-1])


def _output_lines(output: str) -> list[str]:
    """The output of a command, indented unless it is too wide for that. A line that is too wide even
    so is broken.
    """
    lines = output.splitlines()
    widest = max(map(len, lines), default=0)
    indent = " " * _INDENT if widest <= WIDTH - _INDENT else ""

    wrapped: list[str] = []
    for line in lines:
        wrapped += textwrap.wrap(
            line,
            WIDTH,
            initial_indent=indent,
            subsequent_indent=indent + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return wrapped


def run_command(command: Sequence[str], name: str) -> str:
    """Run a command and return its output. Raises StepFailed if its exit code is not 0."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = f"{done.stdout.strip()} {done.stderr.strip()}".strip()
        raise StepFailed(f"{name} (exit {done.returncode}): {output}")
    return done.stdout


def short_path(program: Path) -> str:
    """How to type a program here: its name if PATH leads to it, else its path, relative if it is
    below this folder.
    """
    on_path = shutil.which(program.name)
    if on_path is not None and Path(on_path).resolve() == program.resolve():
        return program.name

    here = Path.cwd()
    if program.is_relative_to(here):
        return str(program.relative_to(here))
    return str(program)


def trimtab() -> list[str]:
    """How to type `trimtab` here."""
    script = Path(sys.executable).with_name("trimtab")
    if script.exists():
        return [short_path(script)]
    return [sys.executable, "-m", "workers.cli"]


def exports(addresses: StackAddresses, models: Path, surfaces: Path = SURFACES) -> list[str]:
    """The variables that commands in this folder need, as NAME=value."""
    values = {"kafka": addresses.kafka, "redis": addresses.redis, "models": str(models)}
    default_surfaces = Path(str(SETTINGS["surfaces"].default))
    if default_surfaces.resolve() != surfaces.resolve():
        values["surfaces"] = str(surfaces)
    return [f"{SETTINGS[name].variable}={value}" for name, value in values.items()]


def export_lines(variables: Sequence[str], prompt: str = PROMPT) -> list[str]:
    """The export for a shell: one line, or a line for each variable if that is too wide."""
    line = prompt + shlex.join(("export", *variables))
    if len(line) <= WIDTH:
        return [line]
    return [prompt + shlex.join(("export", variable)) for variable in variables]


def command_lines(command: Sequence[str], prompt: str = PROMPT) -> list[str]:
    """A command for a shell: one line. If that is too wide, it is broken before its verb, and if
    that is not enough, before its options.
    """
    line = prompt + shlex.join(command)
    if len(line) <= WIDTH:
        return [line]

    verb = next(index for index, word in enumerate(command) if word in _VERBS)
    indent = " " * (len(prompt) + 2)
    lines = [prompt + shlex.join(command[:verb])]
    for part in _option_parts(command[verb:]):
        longer = f"{lines[-1]} {part}"
        if len(lines) > 1 and len(longer) <= WIDTH - len(_CONTINUED):
            lines[-1] = longer
        else:
            lines.append(indent + part)
    return [line + _CONTINUED for line in lines[:-1]] + lines[-1:]


def _option_parts(words: Sequence[str]) -> list[str]:
    """The words of a command up to each of its options, as one types them."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--"):
            parts.append([])
        parts[-1].append(word)
    return [shlex.join(part) for part in parts]


def weights_text(weights: Weights) -> str:
    """A set of weights in words."""
    return " ".join(f"{objective} {weight:g}" for objective, weight in weights.values.items())


def formula(weights: Weights) -> str:
    """The formula of the final score, with these weights."""
    terms = [f"{weight:g} x {objective}" for objective, weight in weights.values.items()]
    return f"final score = {' + '.join(terms)}"


def fit(text: str, width: int) -> str:
    """The text on one line of exactly `width` columns, without what a terminal would not print."""
    one_line = " ".join(text.split())
    printable = "".join(char if char.isprintable() else " " for char in one_line)
    if len(printable) > width:
        return f"{printable[: width - 1]}…"
    return printable.ljust(width)


def feed_lines(feed: Feed, labels: Labels) -> list[str]:
    """The top of a feed: position, final score, the score of each objective, post."""
    objectives = "".join(f"{objective:>12}" for objective in feed.weights.values)
    lines = [f"  pos  final score{objectives}  post"]
    for position, item in enumerate(feed.items[:_ROWS]):
        scores = "".join(f"{score:12.4f}" for score in item.scores)
        start = f"  {position:3d}  {item.final_score:11.4f}{scores}  "
        label = fit(labels[item.item_id], WIDTH - len(start))
        lines.append((start + label).rstrip())
    return lines


def moves(before: Feed, after: Feed) -> dict[str, int]:
    """How many positions each item that is in both feeds has moved; up is positive."""
    old_positions = {item.item_id: position for position, item in enumerate(before.items)}
    moved: dict[str, int] = {}
    for position, item in enumerate(after.items):
        if item.item_id in old_positions:
            moved[item.item_id] = old_positions[item.item_id] - position
    return moved


def side_by_side_lines(before: Feed, after: Feed, labels: Labels) -> list[str]:
    """The top of two feeds of the same posts, side by side. `moved` is in positions; + is up."""
    moved = moves(before, after)
    width = (WIDTH - 32) // 2  # of a post's title
    left_weights = fit(weights_text(before.weights), width + 8)
    lines = [
        f"       {left_weights}  {weights_text(after.weights)}",
        f"  pos   final  {'post':<{width}}   final  moved  post",
    ]

    rows = zip(before.items[:_ROWS], after.items[:_ROWS], strict=False)
    for position, (old, new) in enumerate(rows):
        positions = moved.get(new.item_id, 0)
        move = f"{positions:+d}" if positions else "="
        left = f"{old.final_score:6.3f}  {fit(labels[old.item_id], width)}"
        right = f"{new.final_score:6.3f}  {move:>5}  {fit(labels[new.item_id], width)}"
        lines.append(f"  {position:3d}  {left}  {right}".rstrip())
    return lines


def moved_lines(before: Feed, after: Feed) -> list[str]:
    """How many posts have moved."""
    count = sum(1 for positions in moves(before, after).values() if positions)
    return [f"  {count} of {len(after.items)} posts moved; +5 means five positions up."]


def weight_change_lines(change: WeightChange) -> list[str]:
    """How long the new weights took to be in force."""
    return [
        f"  {change.ranked_ms:4d} ms until the first feed was ranked under them (its ranked_at),",
        f"  {change.readable_ms:4d} ms until that feed was readable under read_committed.",
        f"  Both are counted from just before redis-cli was started. It took {change.command_ms} ms itself.",
    ]


def preview_lines(sent_again: int, check: PreviewCheck) -> list[str]:
    """Whether the feeds equal their preview."""
    result = verdict_text(f"{check.as_previewed} of {check.compared}", good=check.holds)
    partial = ""
    if check.compared < sent_again:
        partial = f" ({sent_again - check.compared} more are partial)"
    return [
        f"  {sent_again} previewed requests sent again: {result} feeds are as previewed{partial},",
        "  with the same order and the same final scores, bit for bit.",
    ]


def arms_lines(counts: ArmCounts) -> list[str]:
    """The feeds of each arm, and whether users stay in their arm."""
    shares = [
        f"{count:,} in {arm} ({counts.percent(arm):.1f} %)"
        for arm, count in sorted(counts.feeds.items())
    ]
    users = verdict_text(
        f"{counts.in_two_arms} of them in more than one arm", not counts.in_two_arms
    )
    return [
        f"  {counts.total:,} feeds since the canary's first: {', '.join(shares)}.",
        f"  {counts.returning:,} users have several of these feeds, {users}.",
    ]


def model_swap_lines(swap: ModelSwap, objective: str, version: int) -> list[str]:
    """Whether the pin holds."""
    others = verdict_text(f"{swap.others} by another version", good=swap.others == 0)
    return [f"  {swap.pinned:,} feeds since then, {others} than {objective}/{version}."]


def audit_lines(audit: Audit, weights: WeightsByArm) -> list[str]:
    """The counts, the feeds under each set of weights and by each model, and the first faults."""
    counts = f"{len(audit.lost)} lost, {len(audit.doubled)} doubled, {len(audit.torn)} torn"
    lines = [
        f"  {audit.requests:,} requests sent, {audit.feeds:,} feeds read under read_committed: "
        + verdict_text(counts, good=audit.clean)
    ]

    for arm, sets in weights.items():
        for weight_set in sets:
            feeds = audit.by_weights.get((arm, weight_set.version), 0)
            arm_text = "" if arm == CONTROL else f", arm {arm}"
            lines.append(f"  {feeds:7,} feeds under {weights_text(weight_set)}{arm_text}")
    for (objective, version), feeds in sorted(audit.by_model.items()):
        lines.append(f"  {feeds:7,} feeds by {objective}/{version}")

    if audit.partial:
        lines.append(f"  {len(audit.partial):,} feeds lack some of their posts (partial)")
    for request_id in audit.lost[:_SHOWN_FAULTS]:
        lines.append(f"    lost: {request_id}")
    for request_id in audit.doubled[:_SHOWN_FAULTS]:
        lines.append(f"    doubled: {request_id}")
    for request_id, reason in audit.torn[:_SHOWN_FAULTS]:
        lines.append(f"    torn: {request_id}: {reason}")
    return lines


def compared_lines(arms: Iterable[Compared]) -> list[str]:
    """What the report says of each arm beside what is true of it."""
    lines = [
        f"  {'arm':<10}{'take-rate':>10}{'true':>9}{'lift':>10}{'95 % interval':>20}{'true lift':>12}"
    ]
    for arm in arms:
        limits = f"{arm.low * 100:+.1f} to {arm.high * 100:+.1f} %"
        place = "inside" if arm.is_inside else "outside (at most 5 in 100)"
        lines.append(
            f"  {arm.arm:<10}{arm.take_rate * 100:>8.2f} %{arm.true_take_rate * 100:>7.2f} %"
            f"{arm.lift * 100:>+8.1f} %{limits:>20}{arm.true_lift * 100:>+10.1f} %  {place}"
        )
    lines += [
        "  True is what the taste of the readers gives for the posts of the same feeds under each set of",
        "  weights.",
    ]
    return lines


def fact_lines(facts: Iterable[Fact]) -> list[str]:
    """Each fact, and whether it holds."""
    lines: list[str] = []
    for fact in facts:
        first, *others = textwrap.wrap(fact.text, WIDTH - _MARK_WIDTH)
        mark = verdict_text("right" if fact.holds else "WRONG", fact.holds)
        lines.append(f"  {mark}  {first}")
        lines += [" " * _MARK_WIDTH + other for other in others]
    return lines


def look_lines(seconds: float, sentences: Sequence[str]) -> list[str]:
    """What a look found. `seconds`: how long after the start of the experiment."""
    lines: list[str] = []
    for sentence in sentences:
        start = "" if lines else f"{seconds:7.1f} s"
        lines += textwrap.wrap(
            sentence,
            WIDTH,
            initial_indent=f"{start:<11}",
            subsequent_indent=" " * 13,
            break_on_hyphens=False,
        )
    return lines


def verdict_text(text: str, good: bool) -> str:
    """A result in green or in red."""
    return click.style(text, fg="green" if good else "red", bold=True)
