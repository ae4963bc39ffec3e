"""What `doctor` says of the sources of functions in the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.config.options import Settings
from chat.config.tool_table import ToolServer, ToolTable
from chat.doctor.tool_checks import check_tools


@pytest.mark.slow
def test_each_source_is_started_and_one_at_an_address_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("".join(f"def f{number}(): 'Do.'\n" for number in range(10)))
    servers = (
        ToolServer("own", "config.toml, line 2", file=str(tmp_path / "own.py")),
        ToolServer("gone", "config.toml, line 4", file=str(tmp_path / "gone.py")),
        ToolServer("web", "config.toml, line 6", url="https://example.org/mcp"),
    )
    found = list(check_tools(Settings(tool_table=ToolTable(servers=servers)), online=False))
    assert [(each.check, each.state) for each in found] == [
        ("functions", "ok"), ("functions", "problem"), ("functions", "note"),
    ]  # fmt: skip
    own, gone, web = (each.words for each in found)
    assert own.startswith("own: 10 functions after ") and own.endswith(" s: f0, f1, f2, f3, f4, f5, f6, f7 and 2 more")
    assert gone == "config.toml, line 4: there is no such file"
    assert (web, found[2].hint) == ("web: a server at an address was not asked", "`--online` asks it")


def test_a_rule_that_is_none_and_a_variable_that_is_not_set_are_problems() -> None:
    table = ToolTable(allow=("a b",), place="config.toml, line 1")
    (found,) = check_tools(Settings(tool_table=table), online=False)
    assert (found.state, found.words) == ("problem", "config.toml, line 1: `a b` is not a rule for functions")
    server = ToolServer("x", "config.toml, line 2", command="y", env=(("KEY", "${env:NO_SUCH_VARIABLE}"),))
    (found,) = check_tools(Settings(tool_table=ToolTable(servers=(server,))), online=False)
    assert (found.state, found.words) == ("problem", "config.toml, line 2: $NO_SUCH_VARIABLE is not set")
