"""`--accessible`: a session for a screen reader only ever adds lines, and says every state in words."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pyte
import pytest

from chat.cli.main import run
from chat.config.resolve import CommonSettings, common_settings, resolve_settings
from chat.core.conversation import Conversation
from chat.history.store import open_store
from chat.system import progress
from chat.system.paths import config_folder
from chat.system.table_output import print_table
from chat.tui.commands.table import COMMANDS
from chat.tui.repl import Opening, run_session
from chat.tui.tty_modes import TtyModes
from tests.chat.tui.pseudo_terminal import ENTER
from tests.chat.tui.scripted import Scripted
from tests.environments import FakeEnvironment, rows_of, terminal

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def session(*lines: str, scripts: Any = ()) -> str:
    """What a session in this process writes to a terminal where these lines are typed."""
    environment = terminal("".join(f"{line}\n" for line in lines), ACCESSIBLE="1")
    resolved = resolve_settings({"model": __file__, "stats": True}, {}, None)
    opening = Opening(open_store(None), None, Conversation(), environment=environment)
    with TtyModes(environment).raw_between_prompts() as modes:
        run_session(lambda _: Scripted(scripts), resolved, opening, modes)
    return environment.out


def test_every_command_only_adds_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = sorted(set(COMMANDS) - {"bye"})
    scripts = [[["think", "Hm."], ["text", "**One**, two\n\n- three"]], [["text", "cut"], ["length"]]]
    lines = [line for name in commands for line in (f"/help {name}", f"/{name}")]
    shown = session("count", "again", *lines, "/bye", scripts=scripts)
    assert not CONTROL.findall(shown)
    assert not re.findall(r"[·▸━─│]", shown)
    screen = pyte.HistoryScreen(80, 24, history=5000)
    stream = pyte.Stream(screen)
    seen: list[str] = []
    for line in shown.splitlines(keepends=True):
        stream.feed(line.replace("\n", "\r\n"))
        now = ["".join(row[x].data for x in range(80)).rstrip() for row in screen.history.top]
        now += [row.rstrip() for row in rows_of(screen)[: screen.cursor.y]]
        assert now[: len(seen)] == seen  # what was written stays as it was
        seen = now
    assert "You: count" in seen and "Thinking:" in seen and "Answer:" in seen and "**One**, two" in seen


def test_a_call_that_waits_for_a_yes_is_said_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words for signs stood in paths, too: `a · b` was said, and approved, as `a, b`."""
    monkeypatch.chdir(tmp_path)
    name = "a · b │ c ▸ d …━━ e" + " long" * 30
    (tmp_path / name).write_text("one · two │ three")
    call = [["call", "read_file", json.dumps({"path": name}), "abcdefghi"]]
    shown = session("/tools on", "Read.", "y", scripts=[call, [["text", "Done."]]])
    assert f'tool call 1 of at most 10: read_file(path="{name}")\n' in shown
    assert "y yes, s yes in this session, a always" in shown and "  one · two │ three\n" in shown
    shown = session("/tools on", "/set allow-tool *", "Read.", scripts=[call, [["text", "Done."]]])
    assert f'read_file(path="{name}"), allowed by a rule\n' in shown


def test_a_real_terminal_gets_no_sequence_and_hears_of_a_wait(start: Any, tmp_path: Path) -> None:
    scripts = [["read", 0, 100, 0.0], ["until", "ready"], ["read", 100, 100, 1.0], ["text", "done"]]
    session = start(scripts, environment={"ACCESSIBLE": "1"}, ready="You:")
    session.send("hello", ENTER)
    session.wait("Reading 0 of 100 tokens")
    (tmp_path / "ready").touch()
    session.wait("Answer:")
    session.wait(lambda: session.cursor_line() == "You:")
    session.send("/bye", ENTER)
    assert session.end() == 0
    assert not CONTROL.findall(session.output.decode().replace("\r\n", "\n"))


def test_the_flag_the_setting_and_the_variable_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert common_settings({}, None) == CommonSettings(None, False)
    for variables in ({"ACCESSIBLE": "1"}, {"MISTRAL_CHAT_ACCESSIBLE": "on"}, {"ACCESSIBLE": "please"}):
        assert common_settings(variables, None).accessible
        assert resolve_settings({}, variables).settings.accessible
    for word in ("0", "no", "false", ""):
        assert not common_settings({"ACCESSIBLE": word}, None).accessible
    file = config_folder() / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("accessible = true\n")
    assert common_settings({}, file).accessible
    assert not common_settings({"MISTRAL_CHAT_ACCESSIBLE": "off"}, file).accessible
    assert terminal(ACCESSIBLE="yes").is_accessible


def test_a_one_shot_says_its_figures_in_words(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCESSIBLE", "")  # set by what runs here, and restored after it
    environment = terminal()
    assert run(["--accessible", "--stats", "-m", str(tiny_model), "-n", "3", "hello"], environment) == 0
    assert "3 tokens, " in environment.err
    assert not CONTROL.findall(environment.out + environment.err)


def test_a_table_is_read_row_by_row() -> None:
    environment = terminal(ACCESSIBLE="1")
    print_table(("NAME", "SIZE", "WINDOW"), [("a", "4 GB", "-"), ("b", "", "4,096")], environment)
    assert environment.out == "name a, size 4 GB\nname b, window 4,096\n"


def test_progress_is_said_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    environment = terminal(ACCESSIBLE="1", columns=200)
    with progress.byte_bar("writing model.gguf", 1000, environment=environment) as bar:
        for _ in range(100):
            now[0] += 1
            bar.advance(10)
    with progress.count_bar("counting", None, environment=environment) as bar:
        now[0] += 20
        bar.advance(3)
    assert environment.err.splitlines() == [
        "writing model.gguf: 15% done, 85 seconds left",
        "writing model.gguf: 30% done, 70 seconds left",
        "writing model.gguf: 45% done, 55 seconds left",
        "writing model.gguf: 60% done, 40 seconds left",
        "writing model.gguf: 75% done, 25 seconds left",
        "writing model.gguf: 90% done, 10 seconds left",
        "counting: 3 done",
    ]


def test_commands_of_the_shell_write_no_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCESSIBLE", "")  # set by what runs here, and restored after it
    monkeypatch.setenv("MISTRAL_CHAT_ACCESSIBLE", "1")
    for command in ("models list", "config show", "templates list", "sessions list", "models list --official"):
        environment = terminal()
        assert isinstance(environment, FakeEnvironment)
        assert run(command.split(), environment) == 0
        assert not CONTROL.findall(environment.out + environment.err)
