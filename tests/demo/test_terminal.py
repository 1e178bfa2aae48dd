"""What the demo prints fits and is safe to print, and its command lines work when they are pasted."""

import shlex

import pytest

from demo.terminal import Terminal, command_lines, export_lines, fit, moves, side_by_side_lines
from tests.demo.building import OTHER_WEIGHTS, POSTS, ranked


def test_of_empty_lines_in_a_row_one_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(use_stderr=False)
    terminal.print("a", "")
    terminal.print("", "b")
    terminal.print()
    terminal.heading("c")
    assert capsys.readouterr().out == "a\n\nb\n\nc\n\n"


def test_beside_json_everything_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(use_stderr=True)
    terminal.print("a")
    terminal.note("b")
    with terminal.step("c") as report:
        report("d")
    assert capsys.readouterr().out == ""


def test_an_export_that_is_too_wide_is_one_a_variable() -> None:
    assert export_lines(["A=1", "B=2"]) == ["  $ export A=1 B=2"]
    assert export_lines([f"A={'a' * 60}", f"B={'b' * 60}"]) == [
        f"  $ export A={'a' * 60}",
        f"  $ export B={'b' * 60}",
    ]


def test_moves_count_positions_and_up_is_positive() -> None:
    before = ranked("r")
    after = ranked("r", OTHER_WEIGHTS)
    assert [item.item_id for item in after.items] == ["b", "a", "c"]
    assert moves(before, after) == {"b": 1, "a": -1, "c": 0}


def test_everything_fits_into_a_hundred_columns() -> None:
    titles = dict.fromkeys(POSTS, "a title of\nmany words " * 20)
    lines = side_by_side_lines(ranked("r"), ranked("r", OTHER_WEIGHTS), titles)
    assert max(map(len, lines)) == 100
    command = [
        "/a/long/way/" * 4 + "redis-cli",
        "-u",
        "redis://127.0.0.1:6379/0",
        "HSET",
        "weights:home",
        "quality",
        "1",
    ]
    broken = command_lines(command)
    assert max(map(len, broken)) <= 100
    assert shlex.split("".join(broken).removeprefix("  $ ").replace("\\", "")) == command


def test_a_title_shows_nothing_that_a_terminal_would_act_on() -> None:
    assert fit("a\x1b[31m\nb", 8) == "a [31m b"
