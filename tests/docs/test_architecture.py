"""ARCHITECTURE.md describes the code as it is: its layers, its code map, its invariants."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.documents import ROOT, documents, table

WORKERS = ROOT / "workers"
DEMO = ROOT / "demo"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
DECISIONS = ROOT / "docs" / "decisions.md"
# What a pure package may import beside itself: values, numbers and containers.
PURE = frozenset(
    {
        "bisect",
        "collections",
        "dataclasses",
        "decimal",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "json",
        "math",
        "operator",
        "re",
        "statistics",
        "struct",
        "typing",
    }
)
VENDORS = {
    "click": {"cli", "commands"},
    "confluent_kafka": {"streaming"},
    "google": {"codec"},
    "onnx": {"scoring"},
    "onnxruntime": {"scoring"},
    "prometheus_client": {"metrics"},
    "redis": {"steering"},
    "structlog": {"log"},
}


def modules(package: str = "") -> list[Path]:
    """The modules of a package, other than generated ones."""
    return [
        path for path in sorted((WORKERS / package).rglob("*.py")) if "generated" not in path.parts
    ]


def imports(module: Path) -> Iterator[str]:
    """The full names that a module imports from, wherever in it."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def top_imports(module: Path) -> set[str]:
    """The top-level packages that a module imports from."""
    return {name.split(".")[0] for name in imports(module)}


def called_names(module: Path) -> set[str]:
    """The names of the functions and methods that a module calls."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            names.add(node.func.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names.add(node.func.id)
    return names


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


# The layers


def test_the_table_of_layers_names_every_package() -> None:
    shown = " ".join(cells[1] for cells in table(ARCHITECTURE, "Layer"))
    for path in WORKERS.iterdir():
        if (path / "__init__.py").is_file():
            assert f"`workers/{path.name}/`" in shown
        elif path.suffix == ".py" and path.name != "__init__.py":
            assert f"`workers/{path.name}`" in shown


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendor_library_is_imported_in_one_package_only(vendor: str) -> None:
    users = [module for module in modules() if vendor in top_imports(module)]
    assert users
    packages = {module.relative_to(WORKERS).parts[0].removesuffix(".py") for module in users}
    assert packages <= VENDORS[vendor]


# The code map


def code_map() -> dict[str, set[str]]:
    """The files that each section of the code map names, by folder."""
    text = ARCHITECTURE.read_text(encoding="utf-8").split("\n## Code map\n")[1].split("\n## ")[0]
    sections = re.split(r"^### `([a-z_/]+)/`$", text, flags=re.MULTILINE)[1:]
    files: dict[str, set[str]] = {}
    for folder, section in zip(sections[::2], sections[1::2], strict=True):
        rows = re.findall(r"^\|.*\|(.*)\|$", section, re.MULTILINE)
        files[folder] = {name for cell in rows for name in re.findall(r"`([^`]+)`", cell)}
    return files


def test_the_code_map_has_a_section_for_every_package() -> None:
    packages = {path.parent for path in WORKERS.glob("*/__init__.py")} | {WORKERS, DEMO}
    assert set(code_map()) == {relative(package) for package in packages}


@pytest.mark.parametrize("folder", code_map())
def test_the_code_map_names_every_module_of_a_package_and_no_other(folder: str) -> None:
    package = ROOT / folder
    here = package.glob("*.py") if package == WORKERS else package.rglob("*.py")
    expected = {str(path.relative_to(package)) for path in here}
    expected |= {path.name for path in package.glob("*.lua")}
    expected |= {path.name for path in package.glob("*.c")}
    expected = {
        name for name in expected if not name.endswith("__init__.py") and "generated" not in name
    }
    assert code_map()[folder] == expected


PRESENT = [path for path in documents() if path.name != "CHANGELOG.md"]  # which names the past


@pytest.mark.parametrize("document", PRESENT, ids=relative)
def test_a_file_of_the_code_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`((?:workers|tests|demo|schemas|deploy)/[\w/.-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


# The invariants


PURE_PACKAGES = ("ranking", "assembly", "outcomes")


@pytest.mark.parametrize(
    "module", [path for package in PURE_PACKAGES for path in modules(package)], ids=relative
)
def test_a_pure_package_knows_no_clock_no_environment_no_log_and_no_wire(module: Path) -> None:
    assert top_imports(module) - PURE <= {"numpy", "workers"}

    pure_modules = set()
    for package in PURE_PACKAGES:
        pure_modules |= {f"workers.{package}.{path.stem}" for path in modules(package)}
    ours = {name for name in imports(module) if name.startswith("workers")}
    assert ours <= pure_modules


@pytest.mark.parametrize("module", [*modules(), *sorted(DEMO.glob("*.py"))], ids=relative)
def test_the_environment_is_read_only_through_options(module: Path) -> None:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
    assert not names & {"environ", "getenv", "environb"}


def test_no_transaction_spans_a_poll_of_the_consumer() -> None:
    publisher = WORKERS / "streaming" / "publisher.py"
    transacting = [module for module in modules() if "begin_transaction" in called_names(module)]
    assert transacting == [publisher]
    assert not called_names(publisher) & {"consume", "subscribe", "unsubscribe"}


# The decisions


def decisions() -> list[int]:
    """The numbers of the decisions, in the order of the document."""
    text = DECISIONS.read_text(encoding="utf-8")
    return [int(number) for number in re.findall(r"^### (\d+)\. ", text, re.MULTILINE)]


def test_the_decisions_are_numbered_without_a_gap() -> None:
    assert sorted(decisions()) == list(range(1, len(decisions()) + 1))


def test_the_table_of_decisions_lists_each_under_its_subject() -> None:
    shown = [cells[1] for cells in table(DECISIONS, "Subject")]
    assert [int(number) for row in shown for number in row.split(", ")] == decisions()


def test_a_decision_that_the_code_refers_to_exists() -> None:
    known = decisions()
    for path in [*modules(), ARCHITECTURE, *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        for number in re.findall(r"\bdecision (\d+)", text):
            assert int(number) in known, relative(path)
