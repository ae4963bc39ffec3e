"""The session as the user sees it, with a scripted engine, in a pseudo-terminal or in a pipe."""

from __future__ import annotations

import io
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chat.config.resolve import resolve_settings
from chat.core.conversation import Conversation
from chat.history.store import open_store
from chat.system.environment import Environment
from chat.tui.commands.table import COMMANDS
from chat.tui.repl import Opening, run_session
from chat.tui.tty_modes import TtyModes
from tests.chat.tui.pseudo_terminal import ALT_ENTER, CTRL_C, CTRL_D, CTRL_J, ENTER
from tests.chat.tui.scripted import Scripted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.core.backend import Rendered
    from chat.core.request import Request


def transcript(
    *lines: str,
    scripts: Sequence[Any] = (),
    make: Callable[[Any], Scripted] | None = None,
    config_file: Path | None = None,
    **flags: Any,
) -> tuple[int, str]:
    """The exit code and the output of a session in this process, whose stdin and stdout are no terminals.

    Args:
        lines: what is typed.
        scripts: of the engine.
        make: makes an engine for options, in place of one that has these scripts.
        config_file: the settings file.
        flags: of the command line.
    """
    stdin = io.StringIO("".join(f"{line}\n" for line in lines))
    environment = Environment(stdin=stdin, stdout=io.StringIO(), variables={})
    resolved = resolve_settings({"model": __file__, "quiet": True, **flags}, {}, config_file)
    opening = Opening(open_store(None), None, Conversation(), config_file=config_file, environment=environment)
    with TtyModes(environment).raw_between_prompts() as modes:
        code = run_session(make or (lambda _: Scripted(scripts)), resolved, opening, modes)
    return code, environment.stdout.getvalue()


def test_wrong_arguments_are_answered_with_the_right_ones() -> None:
    _, shown = transcript(
        "/undo 0", "/edit x", "/continue", "/help xyzzy", "/xyzzy", "/set temperature hot", "/model guid"
    )
    assert shown == (
        "> error: `/undo` takes a number from 1 on, not `0`\n\n"
        "> error: `/edit` takes a number from 1 on, not `x`\n\n"
        "> error: there is no answer that was cut off\n\n"
        "> error: there is no command `/xyzzy`\nhint: `/help` lists them\n\n"
        "> error: there is no command `/xyzzy`\nhint: `/help` lists them (`//` sends a slash)\n\n"
        "> error: `temperature` must be a number from 0 to 100, not 'hot'\n\n"
        "> error: there is no model `guid`\nhint: did you mean `guide`?\n\n"
        "> \n"
    )


def test_model_list_lists_the_models() -> None:
    """`list` was looked for as the name of a model."""
    assert transcript("/model list") == transcript("/model ls") == transcript("/model")


def test_a_file_that_is_attached_again_is_sent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("one")
    _, shown = transcript("/file a.txt", "/file *.txt", "and?")
    assert shown.count("a.txt · 3 characters") == 2 and "They go" not in shown
    assert shown.count("File `a.txt`") == 1


def test_an_answer_that_a_fault_broke_off_can_be_continued() -> None:
    """Only the message was said to be kept, and to be asked again."""
    scripts = [[["text", "begun"], ["die"]], [["text", " and ended"]]]
    _, shown = transcript("one", "/continue", "/context", scripts=scripts)
    assert "\n\nThe answer so far is kept. /continue resumes it, /regen asks again.\n\n> " in shown
    assert "begun and ended\n" in shown


def test_a_branch_of_several_turns_has_them_in_the_plural() -> None:
    _, shown = transcript("one", "two", "/undo 2", "other", "/branches")
    assert "  1   turns 1 to 2: “one” → “You said: two”\n" in shown


def test_a_session_in_a_pipe_is_a_plain_transcript() -> None:
    scripts = [[["text", "# First\n"]], [["text", "sec"], ["length"]], [["text", "ond"]], [["die"]]]
    assert transcript("one", '"""two', 'lines"""', "/continue", "/undo 9", "", "//three", scripts=scripts) == (
        0,
        "> # First\n\n"
        "> sec\n\n"
        "> ond\n\n"
        "> There are only 2 turns to undo.\n\n"
        "> > error: the engine stopped: SIGSEGV\nhint: `/regen` asks again\n\n"
        "Your message is kept. /regen asks again, /undo removes it.\n\n"
        "> \n",
    )


def test_a_fault_that_nobody_expected_ends_a_turn_or_a_command_and_not_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a fault of a server's answer ended the session with exit code 1."""
    monkeypatch.setitem(COMMANDS, "stats", replace(COMMANDS["stats"], handler=lambda state, text: 1 // 0))
    log = tmp_path / "log"
    kept = "Your message is kept. /regen asks again, /undo removes it."
    assert transcript("one", "/stats", "/regen", scripts=[[["nonsense"]], [["text", "Yes."]]], log_file=log) == (
        0,
        f"> error: unexpected: AssertionError: nonsense\n\n{kept}\n\n"
        "> error: unexpected: ZeroDivisionError: integer division or modulo by zero\n\n> Yes.\n\n> \n",
    )
    written = log.read_text()
    assert written.count("Traceback (most recent call last):") == 2 and "\nAssertionError: nonsense\n" in written
    assert "Traceback" in transcript("one", scripts=[[["nonsense"]]], quiet=False, verbose=True)[1]


def test_stats_has_each_figure_once() -> None:
    figures = [["figures", 1234, 34, 5, 2.0, 0.5], ["text", "Yes."]]
    output = transcript("Is it?", "/stats", scripts=[figures])[1]
    assert output.partition("Yes.\n\n> ")[2] == (
        "last prompt  1,234 tokens, 34 from the cache, 2.0 s\n"
        "last answer  5 tokens, 0.5 s, 10.0/s\n"
        "sampling     temperature 0.7\n"
        "answers      1\n"
        "read         1,200 tokens, 600/s; 34 more from the cache\n"
        "generated    5 tokens, 10.0/s\n"
        "\n> \n"
    )


def test_an_edited_message_that_is_stopped_leaves_the_conversation_as_before() -> None:
    """The conversation ended before the edited message then, and a message that was sent next lost that turn."""
    stopped = [["kill", signal.SIGINT], ["wait"]]
    scripts = [[["text", "First."]], stopped, stopped, [["text", "Second."]]]
    output = transcript("one", "/edit", "uno", "un", "", "two", "/context", scripts=scripts)[1]
    assert output == (
        "> First.\n\n"
        "> Edit and send. An empty message changes nothing.\none\n"
        "> Stopped before the answer began. Your message is back in the editor.\n\nuno\n"
        "> Stopped before the answer began. Your message is back in the editor.\n\nun\n"
        "> Nothing was changed.\n\n"
        "> Second.\n\n"
        ">   1 user            0  one\n    assistant       1  First.\n  2 user            0  two\n"
        "    assistant       1  Second.\n\n"
        "13 / 32,768, including the prompt format\n\n> \n"
    )


def test_a_model_that_is_loaded_again_counts_the_conversation_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reload rendered the conversation twice, and looked twice which model is remembered."""
    other = tmp_path / "other.gguf"
    other.touch()
    counts: list[int] = []

    class Counted(Scripted):
        def render(self, request: Request) -> Rendered:
            counts[-1] += 1
            return super().render(request)

    def make(_options: Any) -> Scripted:
        counts.append(0)
        return Counted()

    remembered: list[Path] = []
    monkeypatch.setattr("chat.tui.state.remember_model", remembered.append)
    transcript("one", "/set context 4096", f"/model {other}", make=make)
    assert counts[1:] == [1, 1]  # the first load may end before there is a conversation
    assert remembered == [Path(__file__), Path(__file__), other]


@pytest.mark.slow
def test_several_turns_are_answered_and_bye_leaves(start: Any) -> None:
    terminal = start([["text", "First *answer*."]], [["text", "Second."]])
    terminal.say("one")
    terminal.wait("1 token ")
    terminal.say("two")
    terminal.wait("Second.")
    terminal.say("/bye")
    assert terminal.end() == 0
    lines = [line for line in terminal.everything().splitlines() if line.strip()]
    assert [line for line in lines if "·" not in line] == [
        "> one", "First answer.", "> two", "Second.", "> /bye"
    ]  # fmt: skip


@pytest.mark.slow
def test_ctrl_d_leaves_with_0_and_ctrl_c_twice_with_130(start: Any) -> None:
    terminal = start()
    terminal.wait("/ 32,768")
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    terminal = start(seconds={"TWICE_SECONDS": 3600})
    terminal.wait("/ 32,768")
    terminal.send(CTRL_C)
    terminal.wait("Ctrl+C again quits")
    terminal.send(CTRL_C)
    assert terminal.end() == 130


@pytest.mark.slow
def test_ctrl_c_at_the_prompt_clears_the_line(start: Any) -> None:
    terminal = start()
    terminal.wait("/ 32,768")
    terminal.send("unwanted", CTRL_C, "wanted", ENTER)
    terminal.wait("You said: wanted")


@pytest.mark.slow
def test_ctrl_c_stops_an_answer_and_keeps_it(start: Any) -> None:
    terminal = start([["text", "half an ans"], ["wait"], ["text", "NEVER"]])
    terminal.say("go")
    terminal.wait("half an ans")
    terminal.send(CTRL_C)
    terminal.wait("Stopped. /continue resumes.")
    terminal.say("more")
    terminal.wait("You said: more")
    assert "NEVER" not in terminal.everything()


@pytest.mark.slow
def test_a_second_ctrl_c_ends_the_program_if_the_engine_does_not_stop(start: Any) -> None:
    terminal = start([["text", "begun"], ["hang"]])
    terminal.say("go")
    terminal.wait("begun")
    terminal.send(CTRL_C)
    terminal.wait("stopping · Ctrl+C again quits")
    terminal.send(CTRL_C)
    assert terminal.end() == 130


@pytest.mark.slow
def test_alt_enter_ctrl_j_and_pastes_break_the_line_without_sending(start: Any) -> None:
    terminal = start()
    terminal.wait("/ 32,768")
    terminal.send("a", ALT_ENTER, "b", CTRL_J, "c")
    terminal.paste("d\r\ne\n")
    terminal.send("f", ENTER)
    terminal.wait("You said: a\nb\ncd\ne\nf")


@pytest.mark.slow
def test_typing_is_possible_while_the_model_loads(start: Any, tmp_path: Path) -> None:
    terminal = start(loads_when="typed")
    terminal.wait("loading program")
    terminal.send("early")
    terminal.wait("> early")
    terminal.send(ENTER)
    (tmp_path / "typed").touch()
    terminal.wait("You said: early")
    terminal.wait("/ 32,768")


def test_a_model_that_cannot_be_used_ends_the_session_with_an_error(start: Any) -> None:
    terminal = start(load_error="broken.gguf is no GGUF file", ready="error")
    assert terminal.end() == 3
    assert "error: broken.gguf is no GGUF file" in terminal.text()


def test_a_dead_engine_ends_one_answer_but_not_the_session(start: Any) -> None:
    terminal = start([["text", "half"], ["die"]])
    terminal.say("go")
    terminal.wait("error: the engine stopped: SIGSEGV")
    terminal.wait("The answer so far is kept. /continue resumes it, /regen asks again.")
    assert "half" in terminal.text() and "Traceback" not in terminal.everything()
    terminal.say("again")
    terminal.wait("You said: again")


@pytest.mark.slow
def test_the_rest_of_an_answer_wraps_at_a_changed_width(start: Any, tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(60)]
    terminal = start([["chars", "# Head\n\n" + " ".join(words[:30]) + "\n\n", 0.002], ["until", "resized"],
                      ["chars", " ".join(words[30:]) + "\n", 0.002]], columns=80)  # fmt: skip
    terminal.say("go")
    terminal.wait("word29")
    terminal.resize(40, 24)
    (tmp_path / "resized").touch()
    terminal.wait(" tokens · ")
    rest = [
        line for line in terminal.everything().splitlines() if "word3" in line or "word4" in line or "word5" in line
    ]
    assert " ".join(rest).split()[-30:] == words[30:]
    assert max(len(line) for line in rest) <= 40


def test_a_dumb_terminal_gets_plain_text(start: Any, tmp_path: Path) -> None:
    terminal = start([["text", "# Head\n\n**bold** text"]], environment={"TERM": "dumb"})
    terminal.say("go")
    terminal.wait("**bold** text")
    terminal.wait("prompt 3 tokens")
    terminal.send('"""one\r', 'two"""\r')
    terminal.wait("You said: one\ntwo")
    terminal.say("/bye")
    assert terminal.end() == 0
    assert b"\x1b" not in terminal.output


@pytest.mark.slow
def test_no_color_drops_colours(start: Any) -> None:
    terminal = start([["text", "`code` **bold**\n```py\ndef f(): 1\n```"]], environment={"NO_COLOR": "1"})
    terminal.run("go", "def f(): 1")
    colours = re.findall(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|4[0-7]|9[0-7]|38|48)[;0-9]*m", terminal.output)
    assert colours == []


def test_no_argument_of_a_command_is_a_fault_that_nobody_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/load` with 5,000 digits, and `/file` with a NUL in the path, were."""
    monkeypatch.chdir(tmp_path)
    values = ("inf", "nan", "-1", "9" * 5000, "0x10", "\u0663", "\u00b2", "\udcff", "\0", "1e300")
    options = ("temperature", "top_k", "context", "window", "gpu_layers", "state_cache", "seed", "think_limit")
    left_out = {"bye", "save", "new", "system", "edit", "regen"}
    commands = [*(set(COMMANDS) - left_out), *(f"set {option}" for option in options), "think limit", "file", "load"]
    lines = [f"/{command} {value}" for command in sorted(commands) for value in values]
    code, output = transcript("one", *lines, "two")
    assert (code, output.count("unexpected")) == (0, 0)
    assert output.endswith("You said: two\n\n> \n")
