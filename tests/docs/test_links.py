"""Links lead somewhere, and nothing of the machine that a file was written on stays in it."""

import re
from pathlib import Path

import pytest

from tests.docs.documents import ROOT, documents, links, tracked_files

_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
# Where package indexes live, and how pip and Maven are pointed at one.
_REGISTRY = re.compile(
    r"https?://[^\s/\"']*(pypi|pythonhosted|nexus|artifactory|registry|mirror|repo1\.maven|repo\.maven)"
    r"|(?<!no-emit-)index-url\s*[= ]\s*\S|--find-links[= ]\S|--trusted-host",
    re.IGNORECASE,
)
_SOMEONES_FOLDER = re.compile(r"(?<![\w.$}~/-])/(home|Users|root|work|workspace|mnt)/[\w.-]+")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = _HEADING.findall(document.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=named)
def test_every_link_between_documents_leads_somewhere(document: Path) -> None:
    for link in links(document):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), link
        assert path.is_relative_to(ROOT), link
        if path.is_dir():
            path = path / "README.md"
        assert not anchor or anchor in anchors(path), link


def texts() -> list[tuple[Path, str]]:
    """Every tracked file that is text."""
    contents: list[tuple[Path, str]] = []
    for path in tracked_files():
        raw = path.read_bytes()
        if b"\0" not in raw:
            contents.append((path, raw.decode("utf-8", "replace")))
    return contents


def matches(pattern: re.Pattern[str]) -> list[str]:
    """Where a pattern occurs in tracked files, other than in this one."""
    here = Path(__file__).resolve()
    places: list[str] = []
    for path, text in texts():
        if path.resolve() == here:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            match = pattern.search(line)
            if match:
                places.append(f"{named(path)}:{number}: {match[0]}")
    return places


def test_no_file_names_a_package_index() -> None:
    assert matches(_REGISTRY) == []


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    assert matches(_SOMEONES_FOLDER) == []


def test_no_file_names_the_folder_of_this_checkout() -> None:
    # A checkout in a folder like /app would be found in the paths of any container.
    needle = ROOT if len(ROOT.parts) > 2 else ROOT / "workers"
    assert matches(re.compile(re.escape(str(needle)) + r"(?![\w-])")) == []


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "X" * 3])
def test_nothing_is_left_for_later(word: str) -> None:
    assert matches(re.compile(rf"\b{word}\b")) == []
