"""Every command in the session, typed into a pseudo-terminal, with what the person sees."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from chat.tui.commands.table import COMMANDS, HELP_CELLS, NAME_CELLS, NAMES
from tests.chat.tui.pseudo_terminal import CTRL_C, CTRL_D, ENTER, TAB, Terminal


def do(terminal: Terminal, line: str, answer: str) -> None:
    """Type a line at a prompt that is ready, and wait for an answer and the next prompt."""
    terminal.wait(lambda: terminal.lines()[terminal.screen.cursor.y] == ">")
    terminal.send(line, ENTER)
    terminal.wait(lambda: answer in terminal.text().rsplit(f"> {line}", 1)[-1])
    terminal.wait(lambda: terminal.lines()[terminal.screen.cursor.y].startswith(">"))


def test_every_command_of_the_design_is_there_and_explained() -> None:
    wanted = (
        "help new clear system model set show file undo edit regen continue branches save load sessions search export"
    )
    wanted += " copy context stats bye raw preset result"
    assert set(COMMANDS) == set(wanted.split())
    assert {"?", "exit", "quit", "read"} <= set(NAMES)
    assert len(NAMES) == sum(1 + len(command.aliases) for command in COMMANDS.values()), "an alias stands for two"
    for command in COMMANDS.values():
        assert len(command.help) <= HELP_CELLS and len(command.name) + 1 < NAME_CELLS, command.name
        assert command.details.endswith("."), command.name


def test_help_lists_all_and_explains_one(start: Any) -> None:
    terminal = start()
    do(terminal, "/?", "Ctrl+D leaves")
    for command in COMMANDS.values():  # all of it stands on a screen of 80x24 at once
        assert f"/{command.name}" in terminal.text() and command.help in terminal.text()
    do(terminal, "/help undo", "also /u")
    assert "Goes back to before the last turn, or the last n." in terminal.text()


@pytest.mark.slow
def test_unknown_commands_name_the_nearest_and_slashes_can_be_sent(start: Any) -> None:
    terminal = start()
    do(terminal, "/regn", "did you mean `/regen`?")
    do(terminal, "/temperature 0.3", "did you mean `/set temperature`?")
    do(terminal, "/xyzzy", "`/help` lists them")
    do(terminal, "/clear the last one", "`/clear` takes nothing behind it, not `the last one`")
    do(terminal, "//regen", "You said: /regen")
    do(terminal, "/etc/hosts is what?", "You said: /etc/hosts is what?")


@pytest.mark.slow
def test_undo_edit_regen_and_branches_keep_what_they_replace(start: Any) -> None:
    terminal = start([["text", "A1"]], [["text", "B1"]], [["text", "B2"]], [["text", "C1"]])
    do(terminal, "first", "A1")
    do(terminal, "second", "B1")
    do(terminal, "/regen", "B2")
    do(terminal, "/undo 2", "undone: 2 turns, back before “first”")
    do(terminal, "/undo", "there is nothing to undo")
    do(terminal, "/branches 1", "B1")
    terminal.send("/edit", ENTER)
    terminal.wait(lambda: terminal.lines()[terminal.screen.cursor.y] == "> second")
    terminal.send(" again", ENTER)
    terminal.wait("C1")
    do(terminal, "/branches", "/branches NUMBER switches")
    shown = [line for line in terminal.lines() if re.match(r" +\d", line)]
    assert shown == [
        "  1   turn 2: “second” → “B1”",
        "  2   turn 2: “second” → “B2”",
        "  3 ▸ here: “second again” → “C1”",
    ]
    do(terminal, "/branches 2", "on branch 2")
    assert "B2" in terminal.text().split("on branch 2")[1]
    do(terminal, "/branches 9", "there is no branch 9")
    do(terminal, "/branches x", "needs the number of a branch, not `x`")


@pytest.mark.slow
def test_a_message_of_many_lines_comes_back_unfolded_to_be_edited(start: Any) -> None:
    terminal = start([["text", "ok"]], lines=60)
    terminal.wait("/ 32,768")
    terminal.paste("\n".join(f"row {number}" for number in range(20)))
    terminal.send(ENTER)
    terminal.wait("ok")
    terminal.wait(lambda: terminal.lines()[terminal.screen.cursor.y] == ">")
    terminal.send("/edit", ENTER)
    terminal.wait("row 19")
    terminal.send("!", ENTER)
    terminal.wait("You said: row 0")
    terminal.wait(lambda: terminal.text().count("row 19!") == 2)


def test_leaving_an_edit_changes_nothing(start: Any) -> None:
    terminal = start()
    do(terminal, "first", "You said: first")
    terminal.send("/edit", ENTER)
    terminal.wait(lambda: terminal.lines()[terminal.screen.cursor.y] == "> first")
    terminal.send(CTRL_C)
    do(terminal, "", "left as it was")
    do(terminal, "second", "You said: second")
    terminal.say("/context")
    terminal.wait(lambda: "You said: first" in "".join(terminal.text().split("/context")[1:]))


def test_continue_goes_on_with_a_cut_answer_as_one_message(start: Any) -> None:
    terminal = start([["text", "Half a sen"], ["length"]], [["text", "tence."]])
    do(terminal, "go", "cut at the limit, /continue goes on")
    do(terminal, "/continue", "Half a sentence.")
    do(terminal, "/continue", "there is no answer that was cut off")
    do(terminal, "/context", "/ 32,768, with")
    context = terminal.text().rsplit("/context", 1)[1]
    assert context.count("assistant") == 1 and "Half a sentence." in context


@pytest.mark.slow
def test_settings_are_checked_shown_and_used(start: Any) -> None:
    terminal = start(lines=40)
    do(terminal, "/set temperature 0.2", "temperature      0.2  /set")
    do(terminal, "/set temp 900", "--temperature is at most 100, not 900")
    do(terminal, "/set tempratur 1", "did you mean `temperature`?")
    do(terminal, "/set seed 99999999999", "--seed is at most 4294967294, not 99999999999")
    do(terminal, "/set top-k = 7", "top-k            7  /set")
    do(terminal, "/set top_p=0.5", "top-p            0.5  /set")
    do(terminal, "/set json on", "`--json` belongs to the command line, not to a session")
    do(terminal, "/set stop '### '", "stop             '### '  /set")
    do(terminal, "/show temperature", "Randomness; 0 takes the likeliest token each time.")
    do(terminal, "/set temperature default", "temperature      0.7  /set")
    do(terminal, "/set temperature 0.2", "temperature      0.2  /set")
    do(terminal, "hello", "You said: hello")
    do(terminal, "/stats", "temperature 0.2")
    do(terminal, "/show", "/set OPTION VALUE changes one")
    assert "kv-type          f16  default" in terminal.text()


@pytest.mark.slow
def test_the_system_prompt_is_shown_changed_and_taken_away(start: Any) -> None:
    terminal = start(flags={"system": "Be brief."})
    do(terminal, "/system", "Be brief.")
    do(terminal, "/system Be long.", "Be long.")
    do(terminal, "hi", "You said: hi")
    do(terminal, "/context", "Be long.")
    do(terminal, "/system none", "no system prompt")


@pytest.mark.slow
def test_the_model_is_switched_within_the_conversation(start: Any, tmp_path: Path) -> None:
    (tmp_path / "other.gguf").touch()
    (tmp_path / "bad.gguf").touch()
    others = {
        "other.gguf": {"scripts": [[["text", "other speaks"]]], "window": 64},
        "bad.gguf": {"load": "bad.gguf is no GGUF file"},
    }
    terminal = start(others=others)
    do(terminal, "hello", "You said: hello")
    do(terminal, "/model other.gguf", "64 tokens")
    do(terminal, "and you?", "other speaks")
    do(terminal, "/context", "You said: hello")
    do(terminal, "/model missing.gguf", "error: no model at missing.gguf")
    do(terminal, "/model bad.gguf", "error: bad.gguf is no GGUF file")
    do(terminal, "/model", "other.gguf")
    do(terminal, "/set context 64", "context          64  /set")


def test_a_model_that_cannot_be_used_does_not_end_a_session_without_answers(start: Any, tmp_path: Path) -> None:
    """Once the session ended, because a failed load before the first answer was taken for the first load."""
    (tmp_path / "bad.gguf").touch()
    terminal = start(others={"bad.gguf": {"load": "bad.gguf is no GGUF file"}})
    terminal.wait("/ 32,768")
    do(terminal, "/model bad.gguf", "error: bad.gguf is no GGUF file")
    do(terminal, "hello", "You said: hello")


@pytest.mark.slow
def test_files_are_attached_to_the_next_message_only(start: Any, tmp_path: Path) -> None:
    (tmp_path / "my notes.txt").write_text("line one\nline two\n")
    (tmp_path / "latin.txt").write_bytes("na\xefve\n".encode("latin-1"))
    (tmp_path / "image.png").write_bytes(b"\x89PNG\0\0")
    terminal = start()
    do(terminal, "/file", "no files attached")
    do(terminal, "/file my notes.txt", "my notes.txt · 49 characters, 12 tokens")
    do(terminal, "/file latin.txt", "note: latin.txt is not UTF-8 from byte 2 on")
    do(terminal, "/file clear", "no files attached")
    do(terminal, "/read 'my notes.txt'", "goes with the next message")
    do(terminal, "/file image.png", "image.png: is binary, not text")
    do(terminal, "/file nowhere.txt", "nowhere.txt: cannot be read: No such file or directory")
    do(terminal, "/file latin.txt nowhere.txt", "nowhere.txt: cannot be read: No such file or directory")
    os.mkfifo(tmp_path / "pipe")
    do(terminal, "/file pipe", "pipe: is not a file")
    do(terminal, "/file .", "hint: `/file *.txt` attaches what is in it")
    do(terminal, "/file -", "-: cannot be read: No such file or directory")
    do(terminal, f"/file {'n' * 300}", "File name too long")
    do(terminal, "/file ~no-user/x", "~no-user/x: cannot be read: No such file or directory")
    do(terminal, "/set draft ~no-user/x", "~no-user/x: no such file")
    do(terminal, "/file *.rs", "no file matches `*.rs`")
    do(terminal, "/file", "goes with the next message")  # the notes, and nothing of what failed
    assert "latin.txt" not in terminal.text().rsplit("> /file", 1)[1]
    do(terminal, "What is it?", "line two")
    do(terminal, "And now?", "You said: And now?")
    do(terminal, "/sessions", "▸ What is it?")
    do(terminal, f"/export {'n' * 300}.md", ".md: File name too")
    do(terminal, "/export ~no-user/x.md", "~no-user/x.md: cannot be written: No such file or directory")


@pytest.mark.slow
def test_a_pattern_attaches_what_it_matches(start: Any, tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "[x].py", "other.txt"):
        (tmp_path / name).write_text(f"# {name}\n")
    (tmp_path / "folder.py").mkdir()
    terminal = start()
    do(terminal, "/file *.py", "goes with the next message")
    shown = terminal.text().rsplit("/file *.py", 1)[1]
    assert re.findall(r"^(\S+) · \d+ characters", shown, re.MULTILINE) == ["[x].py", "a.py", "b.py"]
    do(terminal, "/file clear", "no files attached")
    do(terminal, "/file [x].py", "goes with the next message")
    assert "a.py · " not in terminal.text().rsplit("/file [x].py", 1)[1]


@pytest.mark.slow
def test_a_long_question_is_shown_without_its_middle_when_a_session_is_opened(start: Any) -> None:
    terminal = start([["text", "short"]])
    terminal.wait("/ 32,768")
    terminal.paste("\n".join(f"row {number}" for number in range(100)))
    terminal.send(ENTER)
    terminal.wait("short")
    do(terminal, "/load 1", "there is no session `1`")
    do(terminal, "/sessions", "/load NUMBER opens one")
    do(terminal, "/load 1", "short")
    shown = terminal.text().rsplit("/load 1", 1)[1].split("short")[0].split()
    assert " ".join(shown) == ("session row 0 > row 0 row 1 row 2 row 3 … 92 more lines row 96 row 97 row 98 row 99")


@pytest.mark.slow
def test_sessions_are_saved_listed_searched_and_opened(start: Any) -> None:
    terminal = start(lines=60)
    do(terminal, "the needle is here", "You said: the needle")
    do(terminal, "/save hay stack", "`mistral-chat --session 'hay stack'` goes on")
    do(terminal, "/save haystack", "saved as `haystack`")
    do(terminal, "/new", "new session")
    do(terminal, "something else", "You said: something else")
    do(terminal, "/sessions", "/load NUMBER opens one")
    assert "  1 ▸ something else  2 msg · just now\n  2   haystack · the needle is here  2 msg" in terminal.text()
    do(terminal, "/search needle", "/load NUMBER opens one there")
    do(terminal, "/load 1", "session haystack")
    do(terminal, "more", "You said: more")
    do(terminal, "/search needle", "/load NUMBER opens one there")
    do(terminal, "/load 1", "… 2 later messages; what you say goes after the last one")
    shown = terminal.text().rsplit("/load 1", 1)[1]
    assert "> the needle is here" in shown and "You said: more" not in shown
    do(terminal, "/load nosuch", "there is no session `nosuch`")
    do(terminal, "/load model.gguf", "is a model, not a session")
    do(terminal, "/search", "needs words to search for")
    do(terminal, "/search unfindable", "nothing found for unfindable")
    do(terminal, "/new haystack", "error: ")
    do(terminal, "/clear", "cleared")
    assert "needle" not in terminal.text()
    do(terminal, "/branches 1", "You said: more")
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    again = start(resume="haystack")
    again.wait("You said: more")
    again.wait("… 2 earlier messages")


@pytest.mark.slow
def test_a_session_without_a_file_is_not_said_to_be_saved(start: Any) -> None:
    terminal = start(flags={"no_history": True})
    do(terminal, "hello", "You said: hello")
    do(terminal, "/save greeting", "this session is `greeting` in memory only, and gone at the end")
    assert "saved" not in terminal.text()


@pytest.mark.slow
def test_names_may_stand_between_quotes(start: Any, tmp_path: Path) -> None:
    terminal = start()
    do(terminal, "hello", "You said: hello")
    do(terminal, '/save "two words"', "saved as `two words`")
    do(terminal, "/load 'two words'", "session two words")
    do(terminal, f"/export '{tmp_path}/a b.md'", "wrote")
    assert (tmp_path / "a b.md").exists()
    do(terminal, "/model 'no such'", "no model at no such")


@pytest.mark.parametrize("suffix", ["md", "json", "html", "jsonl"])
@pytest.mark.slow
def test_export_writes_by_the_name_and_replaces_nothing_unasked(start: Any, tmp_path: Path, suffix: str) -> None:
    terminal = start()
    do(terminal, f"/export talk.{suffix}", "nothing was said yet")
    do(terminal, "question?", "You said: question?")
    do(terminal, f"/export talk.{suffix}", f"wrote talk.{suffix}, ")
    written = (tmp_path / f"talk.{suffix}").read_text()
    assert "question?" in written and "You said: question?" in written
    if suffix.startswith("json"):
        json.loads(written)
    do(terminal, f"/export talk.{suffix}", f"talk.{suffix} exists")
    do(terminal, f"/export talk.{suffix} --overwrite", "wrote talk")
    do(terminal, "/export talk.doc", "`.doc` is not the suffix of a format")


@pytest.mark.slow
def test_copy_speaks_to_the_terminal(start: Any) -> None:
    terminal = start([["text", "Text\n\n```py\nx = 1\n```\n"]], environment={"DISPLAY": "", "WAYLAND_DISPLAY": ""})
    do(terminal, "/copy", "there is no answer to copy yet")
    do(terminal, "go", "x = 1")
    do(terminal, "/copy code", "copied 6 characters to the terminal (OSC 52)")
    do(terminal, "/copy", "copied 22 characters to the terminal (OSC 52)")
    copied = [base64.b64decode(found) for found in re.findall(rb"\x1b\]52;c;([^\x07]*)\x07", terminal.output)]
    assert copied == [b"x = 1\n", b"Text\n\n```py\nx = 1\n```\n"]


@pytest.mark.slow
def test_raw_shows_answers_as_they_are(start: Any) -> None:
    terminal = start([["text", "**bold**"]], [["text", "**bold**"]])
    do(terminal, "/raw", "answers are shown as they are written")
    do(terminal, "go", "**bold**")
    do(terminal, "/raw off", "answers are shown with Markdown styled")
    do(terminal, "go", "\nbold\n")


def test_presets_bring_their_values(start: Any, tmp_path: Path) -> None:
    config = tmp_path / "home" / "config"
    config.mkdir(parents=True)
    (config / "config.toml").write_text('[preset.code]\nsystem = "You write code."\ntemperature = 0.1\n')
    terminal = start()
    do(terminal, "/preset", "presets: code")
    do(terminal, "/preset code", "temperature      0.1  /preset code")
    do(terminal, "/system", "You write code.")
    do(terminal, "/preset cod", "no preset `cod`")


@pytest.mark.parametrize("columns", [80, 40])
def test_an_option_stands_on_one_line_wherever_its_value_comes_from(start: Any, tmp_path: Path, columns: int) -> None:
    config = tmp_path / "home" / "config"
    config.mkdir(parents=True)
    (config / "config.toml").write_text(f'top_k = 3\nstop = ["{"x" * 99}"]\n[preset.{"p" * 40}]\nmin_p = 0.5\n')
    terminal = start(columns=columns, lines=60, flags={"preset": "p" * 40})
    do(terminal, "/show", "/set OPTION VALUE changes one")
    shown = {line[2:].split(" ")[0]: line for line in terminal.lines() if line[:1] in " *"}
    assert shown["top-k"] == "  top-k            3  config.toml:1"
    assert re.fullmatch(r"  min-p            0\.5  preset p+…?", shown["min-p"])
    assert re.fullmatch(r"  stop             'xx+…  config\.t\S*", shown["stop"])
    assert not [line for line in terminal.lines() if line.startswith(("ppp", "xxx"))]  # of the line before


def test_commands_options_paths_and_sessions_are_completed(start: Any, tmp_path: Path) -> None:
    (tmp_path / "chapter.txt").write_text("x")
    terminal = start()
    terminal.wait("/ 32,768")
    for typed, completed in (
        ("/bra", "> /branches"),
        ("/set temp", "> /set temperature"),
        ("/file cha", "> /file chapter.txt"),
    ):
        terminal.send(typed)
        terminal.wait(typed)
        terminal.send(TAB)
        terminal.wait(completed)
        terminal.send(CTRL_C)
        terminal.wait(lambda: terminal.lines()[terminal.screen.cursor.y] == ">")


@pytest.mark.slow
def test_names_and_titles_with_escapes_are_shown_not_obeyed(start: Any) -> None:
    terminal = start([["text", "ok"]])
    terminal.wait("/ 32,768")
    terminal.paste("a\x1b[31mb\x07c \u202e d")
    terminal.send(ENTER)
    terminal.wait("ok")
    do(terminal, "/sessions", "a␛[31mb␇c")
    do(terminal, "/search ok", "/load NUMBER opens one there")
    do(terminal, "/load 1", "a␛[31mb␇c")
    do(terminal, "/context", "a␛[31mb␇c")
    do(terminal, "/branches", "one branch")
    assert b"\x1b[31mb" not in terminal.output and "\u202e".encode() not in terminal.output


def test_a_dumb_terminal_and_a_log_see_plain_text_in_order(start: Any, tmp_path: Path) -> None:
    terminal = start([["text", "# Head\n\n**bold** text"]], environment={"TERM": "dumb"})
    terminal.say("go")
    terminal.wait("**bold** text")
    terminal.wait("prompt 3")
    terminal.send('"""one\r', 'two"""\r')
    terminal.wait("You said: one\ntwo")
    terminal.say("/bye")
    assert terminal.end() == 0
    assert b"\x1b" not in terminal.output


@pytest.mark.slow
def test_no_color_drops_colours(start: Any) -> None:
    terminal = start([["text", "`code` **bold**\n```py\ndef f(): 1\n```"]], environment={"NO_COLOR": "1"})
    do(terminal, "go", "def f(): 1")
    colours = re.findall(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|4[0-7]|9[0-7]|38|48)[;0-9]*m", terminal.output)
    assert colours == []


@pytest.mark.slow
def test_sentences_break_between_words_in_a_narrow_terminal(start: Any, tmp_path: Path) -> None:
    (tmp_path / "a-file-with-a-name.txt").write_text("word " * 900)
    terminal = start([["text", ""]], columns=30)
    do(terminal, "/file a-file-with-a-name.txt", "/file clear drops it")
    terminal.say("go")
    terminal.wait("the answer is empty, /regen\nasks again")
    terminal.say("/edit")
    terminal.wait("edit and send; an empty\nmessage leaves all as it is")
    assert "a-file-with-a-name.txt · 4,542\ncharacters, 1,135 tokens" in terminal.everything()
