"""README.md begins with the two commands, and shows an event that a worker accepts."""

import json
from pathlib import Path

from tests.commands.running import trimtab
from tests.docs.documents import ROOT, blocks
from tests.docs.test_configuration import CONFIGURATION

README = ROOT / "README.md"


def test_the_two_commands_come_first() -> None:
    first = blocks(README, "bash")[0]
    assert first.text.splitlines() == ["make demo", "make test"]


def test_the_event_shown_is_accepted_under_the_surfaces_shown(tmp_path: Path) -> None:
    surfaces = tmp_path / "surfaces.toml"
    surfaces.write_text(blocks(CONFIGURATION, "toml")[0].text)

    (shown,) = blocks(README, "json")
    event = json.dumps(json.loads(shown.text)).encode()
    ended = trimtab("validate", "-", given=event, TRIMTAB_SURFACES=str(surfaces))
    assert ended == (0, "1 events of 1 requests: 0 refused\n", "")


def test_the_readme_links_to_every_document_in_docs() -> None:
    text = README.read_text(encoding="utf-8")
    missing = [
        path.name for path in (ROOT / "docs").glob("*.md") if f"(docs/{path.name})" not in text
    ]
    assert missing == []
