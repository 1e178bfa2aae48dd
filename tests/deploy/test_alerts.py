"""The alerts by promtool: each fires by the series that must make it fire, and by no other."""

import subprocess
from pathlib import Path

import pytest

from tests.deploy.programs import Programs
from tests.docs.documents import ROOT

DEPLOY = ROOT / "deploy"


def promtool(programs: Programs, *words: str, folder: Path = DEPLOY) -> tuple[int, str]:
    """The exit code and what it said."""
    ended = subprocess.run(
        [programs.promtool, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_the_rules_are_valid(programs: Programs) -> None:
    code, said = promtool(programs, "check", "rules", "alerts.yaml")
    assert code == 0, said
    count = (DEPLOY / "alerts.yaml").read_text().count("- alert: ")
    assert f"SUCCESS: {count} rules found" in said


def test_each_alert_fires_by_its_series_and_by_no_others(programs: Programs) -> None:
    code, said = promtool(programs, "test", "rules", "alerts_test.yaml")
    assert code == 0, said
    assert "SUCCESS" in said


@pytest.mark.parametrize(
    ("line", "broken"),
    [
        ('trimtab_partitions{state="standing"} > 0', 'trimtab_partitions{state="standing"} > 9'),
        ('trimtab_partitions{state="standing"} > 0', "trimtab_partitions > 0"),
        ("trimtab_documents_refused > 0", "trimtab_documents_refused >= 0"),
    ],
)
def test_a_rule_that_is_wrong_is_noticed(
    programs: Programs, tmp_path: Path, line: str, broken: str
) -> None:
    rules = (DEPLOY / "alerts.yaml").read_text()
    assert line in rules
    (tmp_path / "alerts.yaml").write_text(rules.replace(line, broken))
    (tmp_path / "alerts_test.yaml").write_text((DEPLOY / "alerts_test.yaml").read_text())
    code, said = promtool(programs, "test", "rules", "alerts_test.yaml", folder=tmp_path)
    assert code == 1
    assert "FAILED" in said
