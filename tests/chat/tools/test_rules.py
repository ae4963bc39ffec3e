"""Rules for calls: what they allow, what they deny, and how they are written."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from chat import platform
from chat.errors import UsageError
from chat.tools.built_in import TOOLS, BuiltInTools
from chat.tools.rules import ToolRule, ToolRules, read_rule, read_rules
from chat.tools.tool import CallControl, RunnableTool, ToolError
from tests.chat.tools.fake_source import FakeSource

READ = RunnableTool("read_file", TOOLS[0], BuiltInTools(Path("/")))
LOG = RunnableTool("git_log", FakeSource("git", git_log=lambda *_: "").tools()[0], FakeSource("git"))


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


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_rule_counts_for_what_a_path_leads_to(tmp_path: Path) -> None:
    """`src/*` allowed what a link in src leads to, and the file's absolute path went by a rule that denies."""
    (tmp_path / "src").mkdir()
    (tmp_path / "keys").mkdir()
    (tmp_path / ".github").mkdir()
    (tmp_path / "src" / "link").symlink_to(tmp_path / "keys" / "a")
    (tmp_path / ".github" / "link").symlink_to(tmp_path / ".env")
    tool = RunnableTool("read_file", TOOLS[0], BuiltInTools(tmp_path))
    assert verdict({"path": "src/link"}, "read_file(path=src/*)", tool=tool) == "ask"
    assert verdict({"path": ".github/link"}, "read_file(path=.github/*)", tool=tool) == "ask"
    assert verdict({"path": f"{tmp_path}/src/b"}, "read_file(path=src/*)", tool=tool) == "allow"
    assert verdict({"path": "src/b"}, f"read_file(path={tmp_path}/src/*)", tool=tool) == "allow"
    for path in ("keys/a", "./keys/a", "src/../keys/a", f"{tmp_path}/keys/a", "src/link"):
        assert verdict({"path": path}, "*", "read_file(path=keys/*)", tool) == "deny"
    listing = RunnableTool("list_files", TOOLS[1], BuiltInTools(tmp_path))
    assert verdict({}, "*", "list_files(path=.)", listing) == "deny"


def test_a_pattern_for_a_path_may_be_written_as_the_system_writes_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows `src\\*` allowed nothing, as paths are compared with slashes."""
    assert verdict({"path": "src/b"}, "read_file(path=src\\*)") == ("allow" if sys.platform == "win32" else "ask")
    monkeypatch.setattr(os, "sep", "\\")
    assert verdict({"path": "src/b"}, "read_file(path=src\\*)") == "allow"
    assert verdict({"path": "src/b"}, "git_log(path=src\\*)", tool=LOG) == "ask"


def test_what_the_paths_of_a_server_mean_is_not_known_so_none_goes_up() -> None:
    assert verdict({"path": "../x"}, "git_log(path=*)", tool=LOG) == "ask"
    assert verdict({"path": "../x"}, "git_log(path=../x)", tool=LOG) == "allow"


def test_a_hidden_file_needs_a_pattern_for_its_path() -> None:
    search = RunnableTool("search_files", TOOLS[2], BuiltInTools(Path("/")))
    assert verdict({"path": ".env", "text": ".x"}, "search_files(path=*, text=.x)", tool=search) == "ask"


def test_a_whole_number_is_one_value_in_both_spellings() -> None:
    assert verdict({"path": "a", "first_line": 5.0}, "*", "read_file(first_line=5)") == "deny"


@pytest.mark.skipif(sys.platform == "win32", reason="no name of a file has a colon there")
def test_a_stream_of_a_file_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows `keys/a::$DATA` is the file `keys/a`, whatever a rule says about that."""
    (tmp_path / "a:more").write_text("secret")
    monkeypatch.setattr(platform, "names_stream", lambda path: ":" in path.name)
    with pytest.raises(ToolError, match="no file has such a name"):
        BuiltInTools(tmp_path).call("read_file", {"path": "a:more"}, CallControl())


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


@pytest.mark.parametrize(
    ("deny", "path", "is_denied"),
    [
        ("secret.txt", "link.txt", True),
        ("s*.txt", "link.txt", True),
        ("secret.txt", "other/link.txt", True),  # by its identity, in another folder
        ("{root}/secret.txt", "link.txt", True),
        ("secret.txt", "free.txt", False),
        ("secret.txt", "missing.txt", False),
        ("missing.txt", "secret.txt", False),
        ("secret.txt", "nul\0", False),
    ],
)
def test_a_rule_that_denies_a_file_holds_for_its_other_names(
    tmp_path: Path, deny: str, path: str, is_denied: bool
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "free.txt").write_text("y")
    for name in ("link.txt", "other/link.txt"):
        (tmp_path / name).hardlink_to(tmp_path / "secret.txt")
    tool = RunnableTool("read_file", TOOLS[0], BuiltInTools(tmp_path))
    rule = f"read_file(path={deny.format(root=tmp_path)})"
    assert verdict({"path": path}, "*", rule, tool) == ("deny" if is_denied else "allow")


def test_a_file_that_a_rule_denies_is_not_listed_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("a word")
    (tmp_path / "link.txt").hardlink_to(tmp_path / "secret.txt")
    (tmp_path / "free.txt").write_text("a word")
    source = BuiltInTools(tmp_path)
    rules = ToolRules((), read_rules(["*(path=secret.txt)"], "test"))
    for name, arguments in (("list_files", {}), ("search_files", {"text": "word"})):
        own = next(tool for tool in TOOLS if tool.name == name)
        tool = RunnableTool(name, own, source)
        control = CallControl(forbids=lambda others, tool=tool: rules.forbids(tool, others))  # type: ignore[misc]
        shown = source.call(name, arguments, control)
        assert "free.txt" in shown and "secret" not in shown and "link" not in shown


@pytest.mark.parametrize(
    ("deny", "path"),
    [
        ("secret.txt", "SECRET.TXT"),
        ("Secret.*", "sECRET.pem"),
        ("keys/*", "KEYS/a"),
        ("stra\u00dfe.txt", "STRASSE.TXT"),
        ("caf\u00e9.txt", "CAFE\u0301.TXT"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="there names are always folded")
def test_a_rule_that_denies_holds_in_any_case_where_names_are_folded(
    deny: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS and Windows `SECRET.TXT` opened the file of a rule that denies `secret.txt`; so for a server's paths."""
    arguments = {"path": path}
    for folds, expected in ((False, "allow"), (True, "deny")):
        monkeypatch.setattr("chat.platform.posix.FOLDS_NAMES", folds)
        assert verdict(arguments, "*", f"*(path={deny})") == expected
        assert verdict(arguments, "*", f"git_log(path={deny})", LOG) == expected
    assert verdict(arguments, f"*(path={deny})") == "ask"  # a rule that allows is not widened


@pytest.mark.skipif(sys.platform == "win32", reason="one name in two spellings is one file there")
def test_the_spelling_on_the_disk_counts_where_a_folder_finds_names_in_any_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux has such folders, too: a USB stick, or `chattr +F`. Here a hard link stands for the other spelling."""
    (tmp_path / "keys.d").mkdir()
    (tmp_path / "keys.d" / "A.PEM").write_text("x")
    (tmp_path / "keys.d" / "a.pem").hardlink_to(tmp_path / "keys.d" / "A.PEM")
    tool = RunnableTool("read_file", TOOLS[0], BuiltInTools(tmp_path))
    assert verdict({"path": "keys.d/A.PEM"}, "*", "*(path=*.pem)", tool) == "deny"
    (tmp_path / "keys.d" / "a.pem").rename(tmp_path / "keys.d" / "b.key")  # what was listed before is not kept
    assert verdict({"path": "keys.d/A.PEM"}, "*", "*(path=*.pem)", tool) == "allow"
    assert verdict({"path": "keys.d/A.PEM"}, "*", "*(path=*.key)", tool) == "deny"
