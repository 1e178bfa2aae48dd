"""The Markdown documents as tests see them: fenced blocks, tables, links. Also which files are
tracked.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block. `words` are the words of its info string, the language first."""

    document: Path
    words: tuple[str, ...]
    text: str

    @property
    def name(self) -> str:
        """For a test's name."""
        return f"{self.document.relative_to(ROOT)}:{self.text.splitlines()[0][:40]}"


def _is_ours(path: Path) -> bool:
    """Whether a file belongs to the checkout: not to .venv, .git or another hidden folder."""
    parts = path.relative_to(ROOT).parts
    return not any(part.startswith(".") or part == "node_modules" for part in parts)


def documents() -> list[Path]:
    """Every Markdown file of the checkout."""
    return sorted(path for path in ROOT.rglob("*.md") if _is_ours(path))


def blocks(document: Path, *words: str) -> list[Block]:
    """The fenced blocks of a document whose info string begins with these words, in order."""
    found: list[Block] = []
    for match in _FENCE.finditer(document.read_text(encoding="utf-8")):
        info = tuple(match["info"].split())
        if info[: len(words)] == words:
            found.append(Block(document, info, match["text"]))
    return found


def links(document: Path) -> list[str]:
    """The targets of a document's links, other than those in fenced blocks."""
    text = _FENCE.sub("", document.read_text(encoding="utf-8"))
    return [match["target"] for match in _LINK.finditer(text)]


def table(document: Path, first_heading: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading, without the heading."""
    lines = iter(document.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {first_heading} |"):
            next(lines)
            return list(_rows(lines))
    raise LookupError(f"{document}: no table begins with {first_heading!r}")


def _rows(lines: Iterator[str]) -> Iterator[list[str]]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def tracked_files() -> list[Path]:
    """Every file that is, or is about to be, under version control. Outside a repository: every
    file.
    """
    command = ["git", "-C", str(ROOT), "ls-files"]
    options = ["--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run([*command, *options], capture_output=True, text=True, check=False)

    if listed.returncode == 0:
        files = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        files = [path for path in ROOT.rglob("*") if _is_ours(path)]
    return sorted(path for path in files if path.is_file())
