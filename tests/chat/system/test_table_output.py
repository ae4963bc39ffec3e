"""Rows are records in a pipe, and never wider than a terminal."""

from __future__ import annotations

import pytest

from chat.system.table_output import print_table, table_lines
from tests.environments import pipes, terminal

ROWS = [["NAME", "SIZE", "GOOD FOR"], ["large", "14.5 GB", "code, mathematics, tools"], ["s", "1 GB", ""]]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (80, ["NAME   SIZE     GOOD FOR", "large  14.5 GB  code, mathematics, tools", "s      1 GB"]),
        (40, ["NAME   SIZE     GOOD FOR", "large  14.5 GB  code, mathematics, tools", "s      1 GB"]),
        (39, ["NAME   SIZE     GOOD FOR", "large  14.5 GB", "    code, mathematics, tools", "s      1 GB"]),
        (25, ["NAME   SIZE     GOOD FOR", "large  14.5 GB", "    code, mathematics,", "    tools", "s      1 GB"]),
        (
            16,
            [
                "NAME   SIZE",
                "    GOOD FOR",
                "large  14.5 GB",
                "    code,",
                "    mathematics,",
                "    tools",
                "s      1 GB",
            ],
        ),
    ],
)
def test_cells_that_do_not_fit_follow_indented(width: int, lines: list[str]) -> None:
    assert table_lines(ROWS, width) == lines
    environment = terminal(columns=width)
    print_table(ROWS[0], ROWS[1:], environment)
    assert environment.screen() == lines


def test_one_long_cell_does_not_widen_its_column() -> None:
    rows = [["SETTING", "FROM"], ["model = " + "x" * 40, "flag"], ["top_k = 40", "default"]]
    assert table_lines(rows, 40) == ["SETTING     FROM", "model = " + "x" * 40, "    flag", "top_k = 40  default"]


def test_a_pipe_gets_tabs_and_no_head_and_no_control_characters() -> None:
    environment = pipes()
    print_table(("A", "B"), [("x\x1b[31m", "y\tz"), ("", "")], environment)
    assert environment.out == "x␛[31m\ty z\n\t\n"


def test_wide_characters_take_two_columns() -> None:
    rows = [["NAME", "SIZE"], ["日本語.gguf", "1 GB"], ["model.gguf", "2 GB"]]
    assert table_lines(rows, 40) == ["NAME         SIZE", "日本語.gguf  1 GB", "model.gguf   2 GB"]
