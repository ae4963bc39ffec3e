"""The help page: every option once, within the terminal, with what it is if not given."""

from __future__ import annotations

import pytest

from chat.cli.help import help_text
from chat.cli.main import COMMANDS, run
from chat.config.option_types import option_specs

ROWS = {name: words for name, (_, words) in COMMANDS.items()}


@pytest.mark.parametrize("columns", [42, 60, 80, 100, 300])
def test_no_line_is_wider_than_the_terminal_and_the_page_ends_its_last_line(columns: int) -> None:
    lines = help_text(ROWS, columns).split("\n")
    assert lines[-1] == ""
    assert [line for line in lines if len(line) > columns] == []


def test_the_page_lists_every_option_and_command_once() -> None:
    lines = help_text(ROWS, 300).splitlines()
    shown = [word for line in lines if line.startswith("  -") for word in line.split("  ")[1].split()]
    for each in option_specs().values():
        assert shown.count(each.option.flag) == 1, each.name
    assert [line.split()[0] for line in lines[lines.index("Commands:") + 1 :][: len(ROWS)]] == list(ROWS)


def test_the_page_shows_defaults() -> None:
    page = " ".join(help_text(ROWS, 300).split())
    assert "--temperature X Randomness; 0 takes the likeliest token each time. [default: 0.7] " in page
    assert "--kv-type f16|f32|q8_0|q4_0 Type of the KV cache; q8_0 halves it. [default: f16] " in page
    assert "--seed N Get the same answer again; random and reported if not given. --stop TEXT" in page


@pytest.mark.parametrize("command", ["models", "sessions", "config", "templates"])
def test_no_summary_of_a_command_is_cut(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([command, "-h"]) == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]
