"""What can go wrong with the local stack, said to the person who runs it."""

import re

from workers.errors import Failure

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_JAVA_FRAME = re.compile(r"\s+(at \S+\(.*\)|\.\.\. \d+ more)")


class StackError(Failure):
    """The stack cannot do what was asked; the message says why and what helps."""


def tail(output: str, lines: int = 15) -> str:
    """The last lines of a program's output that say something, without colours and frames of Java's
    stack.
    """
    all_lines = _COLOUR.sub("", output).splitlines()
    said = [line for line in all_lines if line.strip() and not _JAVA_FRAME.match(line)]
    return "\n".join(f"    {line}" for line in said[-lines:]) or "    (it is empty)"
