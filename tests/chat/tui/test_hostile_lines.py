"""Generated lines, typed in a session: none is lost, none ends it, and no command shows an unexpected error."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chat.config.resolve import resolve_settings
from chat.core.conversation import Conversation
from chat.history.store import open_store
from chat.tui.commands.table import NAMES
from chat.tui.repl import Opening, run_session
from chat.tui.tty_modes import TtyModes
from tests.chat.tui.scripted import Scripted
from tests.environments import pipes
from tests.grids import FULL

if TYPE_CHECKING:
    from collections.abc import Sequence

SESSIONS, SESSION_LINES = (50, 400) if FULL else (1, 100)
ENDING = {"bye", "exit", "quit", "q"}
PARTS = [
    *("", " ", "\t", "\0", "\x1b[2J", "\x1b]0;x\x07", "\x9b", "\u202e", "\ud800", "\ufeff", "\U0010ffff"),
    *("0", "1", "-1", "2", "99", "1" * 400, "1e999", "nan", "inf", "0x10", "١", "½", "true", "none", "default", "all"),
    *("~nobody-here", "*", "[", "{a,b}", "/dev/null", "/dev/full", "/dev/zero", "/proc/self/mem", "a" * 300),
    *("x.md", "x.json", "no/such/x.html", "x.gguf", "hf:a/b", "ollama:x", "http://[::1", "https://user:pw@h:99999/v1"),
    *('"', "'", '"""', "\\", "`", "$HOME", "$(id)", ";", "|", "%s", "{}", "{0.__class__}", "[INST]", "</s>"),
    *('" OR "1"="1', "NEAR(", "a AND", "*", "^", "word", "滑动窗口", "🎉👨‍👩‍👧", "--overwrite", "--paths", "--"),
    *("temperature", "temperature=2", "context", "model", "system", "stop", "seed", "think", "limit", "keys vi"),
]  # fmt: skip


def generated(number: int, dice: random.Random) -> str:
    """A command with hostile arguments, or a message with a number that finds it again."""
    words = dice.choice(("", " ", "  ")).join(dice.choices(PARTS, k=dice.randint(0, 4)))
    words = words.encode("utf-8", "replace").decode().replace("\n", " ").replace("\r", " ")
    if dice.random() < 0.6:
        name = dice.choice([*NAMES, "se", "", "/", "né", "HELP", "?", "a" * 100])
        return "" if name in ENDING else f"/{name} {words}"
    return f"{dice.choice(('', ' ', '//', '#'))}m{number}x {words}".replace('"""', "")


def session(lines: Sequence[str], folder: Path) -> tuple[int, str, list[str]]:
    """The exit code, what was shown, and the questions that were stored."""
    environment = pipes("\n".join([*lines, "/bye", ""]).encode())
    resolved = resolve_settings({"model": __file__}, {}, folder / "config.toml")
    with open_store(folder / "history.db") as store, TtyModes(environment).raw_between_prompts() as modes:
        opening = Opening(store, None, Conversation(), environment=environment, config_file=folder / "config.toml")
        code = run_session(lambda _: Scripted(), resolved, opening, modes)
        stored = [
            node.message.content
            for record in store.list(None)
            for node in store.load(record.id)[1].nodes.values()
            if node.message.role == "user"
        ]
    return code, environment.out + environment.err, stored


@pytest.mark.parametrize("part", range(SESSIONS))
def test_no_generated_line_is_lost_or_unexpected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    dice = random.Random(part)
    lines = [generated(number, dice) for number in range(SESSION_LINES)]
    code, shown, stored = session(lines, tmp_path)
    assert code == 0
    assert "Traceback" not in shown and "unexpected" not in shown
    marks = [mark for line in lines for mark in re.findall(r"^ ?(?://|#)?(m\d+x) ", line)]
    assert len(marks) > SESSION_LINES / 4
    assert [mark for mark in marks if not re.search(rf"\b{mark} ", "\n".join(stored))] == []
