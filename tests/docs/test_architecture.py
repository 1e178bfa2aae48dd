"""What ARCHITECTURE.md says is deliberately not there, is not there."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.documents import ROOT, table

WORKERS = ROOT / "workers"
DEMO = ROOT / "demo"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
# What a pure room may know of the world: values, numbers and containers.
PURE = frozenset(
    {
        "bisect",
        "collections",
        "dataclasses",
        "decimal",
        "enum",
        "hashlib",
        "heapq",
        "json",
        "math",
        "operator",
        "re",
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


def named(module: Path) -> str:
    return str(module.relative_to(ROOT))


@pytest.mark.parametrize("module", [*modules("ranking"), *modules("assembly")], ids=named)
def test_a_pure_room_knows_no_clock_no_environment_no_log_and_no_wire(module: Path) -> None:
    tops = {name.split(".")[0] for name in imports(module)}
    assert tops - PURE <= {"numpy", "workers"}
    assert {name for name in imports(module) if name.startswith("workers")} <= {
        f"workers.{package}.{inner.stem}"
        for package in ("ranking", "assembly")
        for inner in modules(package)
    }


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendor_library_is_imported_in_one_package_only(vendor: str) -> None:
    users = [
        module for module in modules() if vendor in {name.split(".")[0] for name in imports(module)}
    ]
    assert users
    strangers = [
        named(m)
        for m in users
        if m.relative_to(WORKERS).parts[0].removesuffix(".py") not in VENDORS[vendor]
    ]
    assert strangers == []


@pytest.mark.parametrize("module", [*modules(), *sorted(DEMO.glob("*.py"))], ids=named)
def test_the_environment_is_read_only_through_options(module: Path) -> None:
    read = {"environ", "getenv", "environb"}
    tree = ast.parse(module.read_text(encoding="utf-8"))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert not names & read


def calls(module: Path) -> set[str]:
    """The names of what a module calls."""
    called = (
        node.func for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)
    )
    return {
        call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in called
    }


def test_no_transaction_spans_a_poll_of_the_consumer() -> None:
    transacting = [named(module) for module in modules() if "begin_transaction" in calls(module)]
    assert transacting == ["workers/streaming/publisher.py"]
    assert not calls(WORKERS / "streaming" / "publisher.py") & {
        "consume",
        "subscribe",
        "unsubscribe",
    }


def test_the_table_of_floors_names_every_package() -> None:
    shown = " ".join(cells[1] for cells in table(ARCHITECTURE, "Floor"))
    packages = {path.name for path in WORKERS.iterdir() if (path / "__init__.py").is_file()}
    assert packages == {name for name in packages if f"`workers/{name}/`" in shown}
    assert "`workers/settings.py`" in shown
    assert "`workers/cli.py`" in shown
