"""Rules for calls: what they allow, what they deny, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chat.errors import UsageError
from chat.tools.built_in import TOOLS, BuiltInTools
from chat.tools.rules import ToolRule, ToolRules, read_rule, read_rules
from chat.tools.tool import RunnableTool
from tests.chat.tools.fake_source import FakeSource

READ = RunnableTool("read_file", TOOLS[0], BuiltInTools(Path("/")))
LOG = RunnableTool("git_log", FakeSource("git", git_log=lambda *_: "").tools(1)[0], FakeSource("git"))


def verdict(arguments: dict[str, Any], allow: str = "", deny: str = "", tool: RunnableTool = READ) -> str:
    rules = (read_rules(filter(None, text.split("; ")), "test") for text in (allow, deny))
    return ToolRules(*rules).verdict(tool, arguments)


@pytest.mark.parametrize(
    ("rule", "path", "expected"),
    [
        ("read_file", "a.txt", "allow"),
        ("read_*", "a.txt", "allow"),
        ("*", "a.txt", "allow"),
        ("write_file", "a.txt", "ask"),
        ("read_file(path=src/*)", "src/a/b.py", "allow"),
        ("read_file(path=src/*)", "srcs/b.py", "ask"),
        ("read_file(path=src/*)", "src/../secret", "ask"),
        ("read_file(path=src/*)", "src\\..\\secret", "ask"),
        ("read_file(path=*)", "../x", "ask"),
        ("read_file(path=../x)", "../x", "allow"),
        ("read_file", ".env", "ask"),
        ("read_file", "src/.ssh/id", "ask"),
        ("*", ".env", "ask"),
        ("read_file(path=*)", ".env", "ask"),
        ("read_file(path=src/*)", "src/.env", "ask"),
        ("read_file(path=.env)", ".env", "allow"),
        ("read_file(path=src/.*)", "src/.env", "allow"),
        ("read_file(path=a.txt, first_line=1)", "a.txt", "ask"),
    ],
)
def test_a_rule_allows_what_it_names_and_no_more(rule: str, path: str, expected: str) -> None:
    assert verdict({"path": path}, rule) == expected


def test_a_rule_that_denies_counts_before_all_that_allow() -> None:
    assert verdict({"path": "src/key.pem"}, "*; read_file(path=src/*)", "*(path=*.pem)") == "deny"
    assert verdict({"path": "x/../src/a"}, "*", "read_file(path=src/*)") == "deny"
    assert verdict({"path": "src/a.py"}, "*", "read_file(path=*.pem)") == "allow"


def test_patterns_match_the_json_of_values_that_are_no_texts() -> None:
    assert verdict({"path": "a", "first_line": 10}, "read_file(path=a, first_line=1?)") == "allow"
    assert verdict({"path": "a", "first_line": 10}, "read_file(path=a, first_line=2?)") == "ask"


def test_a_name_with_a_server_is_of_that_server_alone() -> None:
    assert verdict({}, "git/git_log", tool=LOG) == verdict({}, "git/*", tool=LOG) == "allow"
    assert verdict({}, "hub/git_log", tool=LOG) == "ask"
    assert verdict({}, "git_log", tool=LOG) == "allow"


@pytest.mark.parametrize(
    "rule",
    [
        ToolRule("read_file"),
        ToolRule("read_file", (("path", "src/*"),)),
        ToolRule("git/log", (("path", "a, b (c)"), ("text", 'say "x"\n'), ("empty", ""), ("space", " x "))),
    ],
)
def test_a_rule_is_read_as_it_is_written(rule: ToolRule) -> None:
    assert read_rule(str(rule), "test") == rule


@pytest.mark.parametrize("text", ["", "a b", "f(", "f(x", "f(x)", "f(=y)", 'f(x="a" y=b)', "(x=y)", 'f(x="\\u12")'])
def test_what_is_no_rule_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(UsageError, match=r"--allow-tool: `.*` is not a rule for functions"):
        read_rule(text, "--allow-tool")
