"""The papers as tests see them: fenced blocks, tables, links, and which files are tracked."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_NOT_WRITTEN_HERE = {".venv", ".git", "node_modules"}


class Block(NamedTuple):
    """A fenced block; `words` are its info string's: the language first."""

    paper: Path
    words: tuple[str, ...]
    text: str

    @property
    def name(self) -> str:
        """For a test's name."""
        return f"{self.paper.relative_to(ROOT)}:{self.text.splitlines()[0][:40]}"


def papers() -> list[Path]:
    """Every Markdown file of the checkout."""
    found = (
        path
        for path in ROOT.rglob("*.md")
        if not _NOT_WRITTEN_HERE & set(path.relative_to(ROOT).parts)
    )
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    )


def blocks(paper: Path, *words: str) -> list[Block]:
    """The fenced blocks of a paper whose info string begins with these words, in order."""
    text = paper.read_text(encoding="utf-8")
    found = [
        Block(paper, tuple(match["info"].split()), match["text"]) for match in _FENCE.finditer(text)
    ]
    return [block for block in found if block.words[: len(words)] == words]


def links(paper: Path) -> list[str]:
    """The targets of a paper's links."""
    return [
        match["target"]
        for match in _LINK.finditer(_FENCE.sub("", paper.read_text(encoding="utf-8")))
    ]


def table(paper: Path, first_heading: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading, without the heading."""
    lines = iter(paper.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {first_heading} |"):
            next(lines)
            return list(_rows(lines))
    raise LookupError(f"{paper}: no table begins with {first_heading!r}")


def _rows(lines: Iterator[str]) -> Iterator[list[str]]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def tracked_files() -> list[Path]:
    """Every file that is, or is about to be, under version control; where there is none, every
    file.
    """
    command = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [
            path
            for path in ROOT.rglob("*")
            if not any(p.startswith(".") for p in path.relative_to(ROOT).parts)
        ]
    return sorted(path for path in found if path.is_file())
