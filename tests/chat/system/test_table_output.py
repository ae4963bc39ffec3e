"""Rows are records in a pipe, and on a terminal never wider than it."""

from __future__ import annotations

import pytest

from chat.system.table_output import print_table, table_lines

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
def test_cells_without_room_follow_indented(width: int, lines: list[str]) -> None:
    assert table_lines(ROWS, width) == lines


def test_one_long_cell_moves_no_other_row() -> None:
    rows = [["SETTING", "FROM"], ["model = " + "x" * 40, "flag"], ["top_k = 40", "default"]]
    assert table_lines(rows, 40) == ["SETTING     FROM", "model = " + "x" * 40, "    flag", "top_k = 40  default"]


def test_a_pipe_gets_tabs_and_no_head_and_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "B"), [("x\x1b[31m", "y\tz"), ("", "")])
    assert capsys.readouterr().out.split("\n") == ["x␛[31m\ty z", "\t", ""]
