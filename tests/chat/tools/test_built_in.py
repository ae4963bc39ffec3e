"""The program's own functions see the working folder alone, and calculate within limits."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chat.prompts.tools_json import dumps, loads
from chat.tools.built_in import MOST_FILE_BYTES, MOST_MATCHES, TOOLS, BuiltInTools
from chat.tools.calculator import calculate
from chat.tools.rules import ToolRules, read_rules
from chat.tools.tool import CallControl, CallLimits, RunnableTool, ToolError, check_arguments, result_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / "src" / "deep").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".gitignore").write_text("build/\n*.log\n")
    (root / "build").mkdir()
    (root / "build" / "out.txt").write_text("Needle")
    (root / "a.log").write_text("needle")
    (root / "src" / "a.py").write_text("one\nthe NEEDLE\nthree\n")
    (root / "src" / "deep" / "b.txt").write_text("needle here\n")
    (root / "data.bin").write_bytes(b"\0\1needle")
    (root / ".env").write_text("KEY=1")
    (tmp_path / "secret.txt").write_text("needle outside")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "env.txt").symlink_to(root / ".env")
    (root / "inner.txt").symlink_to(root / "src" / "a.py")
    return root


def call(folder: Path, name: str, control: CallControl | None = None, **arguments: Any) -> str:
    tool = next(tool for tool in TOOLS if tool.name == name)
    check_arguments(arguments, tool.parameters)
    return BuiltInTools(folder).call(name, arguments, control or CallControl())


def test_files_are_listed_without_hidden_ignored_and_linked_ones(folder: Path) -> None:
    assert call(folder, "list_files") == "data.bin (8 bytes)\nsrc/"
    assert call(folder, "list_files", path="src", depth=2) == "a.py (21 bytes)\ndeep/\ndeep/b.txt (12 bytes)"
    assert call(folder, "list_files", depth=3, pattern="*.py") == "src/\nsrc/a.py (21 bytes)\nsrc/deep/"
    assert call(folder, "list_files", path="build") == "there are no files but hidden or ignored ones"


def test_a_text_is_found_in_text_files_in_any_case(folder: Path) -> None:
    found = "src/a.py:2: the NEEDLE\nsrc/deep/b.txt:1: needle here\n[not searched: 1 file, binary or too large]"
    assert call(folder, "search_files", text="needle") == found
    assert call(folder, "search_files", text="needle", path="src", pattern="*.py") == "src/a.py:2: the NEEDLE"
    assert call(folder, "search_files", text="nowhere", path="src") == "no line contains it"
    (folder / "many.txt").write_text("needle\n" * (MOST_MATCHES + 1))
    assert call(folder, "search_files", text="needle").count("\n") == MOST_MATCHES


def test_what_a_rule_denies_is_not_found_in_a_folder_either(folder: Path) -> None:
    tool = RunnableTool("search_files", TOOLS[2], BuiltInTools(folder))
    rules = ToolRules(deny=read_rules(["*(path=*.py)", "*(path=data*)"], "test"))
    control = CallControl(forbids=partial(rules.forbids, tool))
    assert call(folder, "search_files", control, text="needle") == "src/deep/b.txt:1: needle here"


def test_a_walk_ends_with_the_time_of_a_call(folder: Path) -> None:
    with pytest.raises(ToolError, match="it took longer than 0 s and was ended"):
        call(folder, "search_files", CallControl(CallLimits(seconds=0)), text="needle")


def test_a_file_is_read_whole_or_in_part(folder: Path) -> None:
    assert call(folder, "read_file", path="src/a.py") == "one\nthe NEEDLE\nthree\n"
    assert call(folder, "read_file", path="src/a.py", first_line=2, last_line=2) == "the NEEDLE\n"
    assert call(folder, "read_file", path="inner.txt").startswith("one")
    assert call(folder, "read_file", path=str(folder / "src" / "a.py")).startswith("one")
    assert call(folder, "read_file", path=".env") == "KEY=1"  # the rules ask for it by its own


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../secret.txt", "../secret.txt is not under the working folder"),
        ("/etc/passwd", "/etc/passwd is not under the working folder"),
        ("~/x", "~/x is not under the working folder"),
        ("src/../../secret.txt", "src/../../secret.txt is not under the working folder"),
        ("link.txt", "link.txt is not under the working folder"),
        ("env.txt", "env.txt is a link to a hidden file"),
        ("missing", "missing: there is no such file"),
        ("src", "src is a folder; list_files lists it"),
        ("data.bin", "data.bin is binary"),
        ("pipe", "pipe is not a file"),
        ("huge", "huge has 4 MB, and the limit is 4 MB"),
        ("a\0b", "'a\\x00b': no file has such a name"),
        ("paper", "paper is a document, not text; the user can attach it"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(folder: Path, path: str, message: str) -> None:
    os.mkfifo(folder / "pipe")
    with (folder / "huge").open("wb") as file:
        file.truncate(MOST_FILE_BYTES + 1)
    (folder / "paper").write_bytes(b"%PDF-1.7")
    with pytest.raises(ToolError, match=f"^{re.escape(message)}$"):
        call(folder, "read_file", path=path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "the argument `path` is missing"),
        ({"path": 3}, "the argument `path` must be of the type string"),
        ({"path": "a", "first_line": True}, "the argument `first_line` must be of the type integer"),
        ({"path": "a", "line": 1}, "there is no argument `line`; arguments: path, first_line, last_line"),
    ],
)
def test_wrong_arguments_are_refused(folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ToolError, match=f"^{re.escape(message)}$"):
        call(folder, "read_file", **arguments)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 * (3 + 4) ** 2", "98"),
        ("2^10", "1024"),
        ("-7 // 2", "-4"),
        ("7 % 3 + 1.5", "2.5"),
        ("sqrt(2) * pi", "4.442882938158366"),
        ("round(10 / 3, 2)", "3.33"),
        ("factorial(20)", "2432902008176640000"),
        ("max(1, 2, 3)", "3"),
    ],
)
def test_arithmetic(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        *("9**9**9", "factorial(10**6)", "1/0", "(-1)**0.5", "'a'*10**9", "[1]*10**9", "__import__('os')"),
        *("(1).bit_length()", "x", "lambda: 1", "1 if 1 else 2", "sqrt(-1)", "sqrt(1, 2, 3)", "1+" * 600 + "1", ""),
        *("(" * 300 + "1" + ")" * 300, "2**" * 20 + "2", "True", "1j", "10.0**400", "1 << 9"),
        "round(1, -10**9)",
    ],
)
def test_what_is_no_arithmetic_or_too_large_is_refused_at_once(expression: str) -> None:
    with pytest.raises(ToolError):
        calculate(expression)


def test_a_result_is_cut_and_can_be_part_of_any_prompt() -> None:
    assert result_text("x" * 300, 100) == "x" * 100 + "\n[cut after 100 of 300 characters; ask for less]"
    assert result_text("a\ud800b", 100) == "a\ufffdb"
    for text in ("[" * 5000, "[" * 5000 + "]" * 5000):  # how deep Python reads and writes differs by its version
        dumps(loads(result_text(text, 10_000), "result"), "result")
    assert result_text("9" * 5000, 10_000).startswith("The result is text:\n")
