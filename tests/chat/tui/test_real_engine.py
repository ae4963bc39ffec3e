"""The whole program on a real tiny model: streamed, stopped, killed, gone on with."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chat.tui.pseudo_terminal import CTRL_C, CTRL_D, ENTER, Terminal
from tests.processes import children_of, ends

Begin = Callable[..., Terminal]


@pytest.fixture
def begin(tmp_path: Path, tiny_model: Path) -> Iterator[Begin]:
    """A function that runs `mistral-chat -m MODEL FLAGS` in a terminal."""
    begun: list[Terminal] = []

    def run(*flags: str, model: Path = tiny_model) -> Terminal:
        command = [sys.executable, "-m", "chat", "-m", str(model), *flags]
        environment = {"MISTRAL_CHAT_HOME": str(tmp_path / "home"), "MISTRAL_CHAT_THREADS": "1"}
        terminal = Terminal(command, environment=environment, folder=tmp_path)
        begun.append(terminal)
        terminal.wait(">")
        return terminal

    yield run
    for terminal in begun:
        terminal.kill()


def ready(terminal: Terminal) -> None:
    """Wait for an empty prompt."""
    terminal.wait(lambda: terminal.lines()[terminal.screen.cursor.y] == ">")


def child_of(process: int) -> int:
    """The engine: the child of the program that is no helper of multiprocessing."""
    return children_of(process)[-1]


@pytest.mark.slow
def test_a_session_is_answered_stopped_killed_and_gone_on_with(begin: Begin) -> None:
    terminal = begin("--temperature", "0", "-n", "30")
    ready(terminal)
    terminal.say("hello there")
    terminal.wait("/continue goes on")
    terminal.wait("30 tokens · ")
    ready(terminal)
    terminal.say("/continue")
    terminal.wait(lambda: terminal.everything().count("30 tokens · ") == 2)
    terminal.send("/set max-tokens default", ENTER)
    terminal.wait("max-tokens       -  ")
    ready(terminal)
    engine = child_of(terminal.child.pid)
    os.kill(engine, signal.SIGSTOP)
    terminal.say("on and on")
    terminal.settle(0.2)
    os.kill(engine, signal.SIGKILL)
    terminal.wait("error: the engine")
    assert "Traceback" not in terminal.everything()
    terminal.say("/set max-tokens 5")
    terminal.say("/regen")
    terminal.wait(lambda: "5 tokens · " in terminal.everything().rsplit("/regen", 1)[-1])
    ready(terminal)
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    again = begin("-c")
    again.wait("on and on")
    ready(again)
    again.say("/sessions")
    again.wait("1 ▸ hello there")


@pytest.mark.slow
def test_ctrl_c_stops_decoding_at_once_and_the_next_turn_is_answered(begin: Begin) -> None:
    terminal = begin("--temperature", "0", "--stop", "never to be said")
    ready(terminal)
    terminal.say("count")
    terminal.wait(lambda: len(re.findall(r"\S", "".join(terminal.lines()[4:20]))) > 20)
    before = time.monotonic()
    terminal.send(CTRL_C)
    ready(terminal)
    assert time.monotonic() - before < 1.0
    terminal.say("/set max-tokens 4")
    ready(terminal)
    terminal.say("more")
    terminal.wait("4 tokens · ")


@pytest.mark.slow
def test_sigterm_in_an_answer_takes_the_engine_along(begin: Begin) -> None:
    terminal = begin("--temperature", "0")
    ready(terminal)
    terminal.say("count")
    terminal.wait(lambda: len(re.findall(r"\S", "".join(terminal.lines()[4:20]))) > 20)
    engine = child_of(terminal.child.pid)
    before = time.monotonic()
    terminal.child.kill(signal.SIGTERM)
    terminal.end(3)
    assert time.monotonic() - before < 2.0
    assert ends(engine, 2.0)


@pytest.mark.slow
def test_a_name_for_the_session_goes_on_with_it(begin: Begin) -> None:
    terminal = begin("--session", "talk", "-n", "3")
    ready(terminal)
    terminal.say("remember the lighthouse")
    terminal.wait(" · prompt ")
    ready(terminal)
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    again = begin("--session", "talk", "-n", "3")
    again.wait("remember the lighthouse")


@pytest.mark.slow
def test_a_file_that_is_no_model_ends_with_its_sentence(begin: Begin, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUX" + bytes(100))
    terminal = Terminal([sys.executable, "-m", "chat", "-m", str(bad)], folder=tmp_path)
    assert terminal.end() in (3, 6)
    assert "error: " in terminal.text() and "Traceback" not in terminal.everything()


@pytest.mark.slow
def test_a_stored_session_goes_on_under_its_model_without_naming_it(begin: Begin, tmp_path: Path) -> None:
    terminal = begin("-n", "3")
    ready(terminal)
    terminal.say("which model?")
    terminal.wait(" · prompt ")
    ready(terminal)
    terminal.say("/context")
    terminal.wait(" tokens · window 64, with what the format adds")
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    command = [sys.executable, "-m", "chat", "-c"]
    again = Terminal(command, environment={"MISTRAL_CHAT_HOME": str(tmp_path / "home")}, folder=tmp_path)
    again.wait("which model?")
    again.wait("mistral-v0.1 · ")
    again.kill()


@pytest.mark.parametrize("way", ["ctrl-c twice", "sigterm"])
@pytest.mark.slow
def test_an_engine_that_hangs_does_not_keep_the_program(begin: Begin, way: str) -> None:
    terminal = begin()
    ready(terminal)
    terminal.wait("window 64")
    engine = child_of(terminal.child.pid)
    os.kill(engine, signal.SIGSTOP)
    terminal.say("anybody there?")
    terminal.settle(0.3)
    before = time.monotonic()
    if way == "sigterm":
        terminal.child.kill(signal.SIGTERM)
    else:
        terminal.send(CTRL_C)
        terminal.settle(0.2)
        terminal.send(CTRL_C)
    assert terminal.end(6) == 130
    assert time.monotonic() - before < 2.0
    assert ends(engine, 2.0)


@pytest.mark.parametrize("delay", [0.0, 0.25])
@pytest.mark.slow
def test_what_is_typed_before_the_prompt_is_up_is_sent_as_it_was_typed(
    tmp_path: Path, tiny_model: Path, delay: float
) -> None:
    """Once a line break stood where Enter was pressed too early, and nothing was sent."""
    command = [sys.executable, "-m", "chat", "-m", str(tiny_model), "-n", "3"]
    terminal = Terminal(command, environment={"MISTRAL_CHAT_HOME": str(tmp_path / "home")}, folder=tmp_path)
    time.sleep(delay)  # into each half of the time that the program takes to come up
    terminal.send("tell me ", "more", ENTER, "/context", ENTER)
    terminal.wait("with what the format adds")
    assert "> tell me more\n" in terminal.everything()
    terminal.wait(lambda: terminal.lines()[terminal.screen.cursor.y] == ">")
    terminal.send(CTRL_D)
    assert terminal.end() == 0


@pytest.mark.slow
def test_a_session_goes_on_with_its_own_options_and_says_which(begin: Begin) -> None:
    terminal = begin("--temperature", "0", "-s", "You are a lighthouse.", "--session", "light")
    ready(terminal)
    terminal.say("/set max-tokens 4")
    ready(terminal)
    terminal.say("who are you?")
    terminal.wait("4 tokens · ")
    ready(terminal)
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    again = begin("-c", "--temperature", "0.5")
    again.wait("this session's own: max-tokens 4 · system prompt “You are a lighthouse.”")
    ready(again)
    again.say("and now?")
    again.wait(lambda: re.search(r"^[1-4] tokens? · ", again.everything(), re.MULTILINE) is not None)
    ready(again)
    again.say("/show temperature")
    again.wait("temperature      0.5  flag")
    again.send(CTRL_D)
    assert again.end() == 0
    begin("-c").wait("this session's own: temperature 0.0, max-tokens 4 · system prompt")


@pytest.mark.slow
def test_a_session_whose_model_is_gone_says_how_to_go_on(begin: Begin, tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "moved.gguf"
    model.hardlink_to(tiny_model)
    terminal = begin("-n", "3", model=model)
    ready(terminal)
    terminal.say("hello")
    terminal.wait("3 tokens · ")
    ready(terminal)
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    model.unlink()
    command = [sys.executable, "-m", "chat", "-c"]
    again = Terminal(command, environment={"MISTRAL_CHAT_HOME": str(tmp_path / "home")}, columns=120, folder=tmp_path)
    assert again.end() == 3
    assert "error: the session's model is gone: no model at " in again.text()
    assert "hint: `-m NAME` continues it with another model" in again.text()
    begin("-c").wait("hello")


@pytest.mark.slow
def test_the_context_names_the_turns_that_no_longer_fit(begin: Begin, tiny_v3_model: Path) -> None:
    """It listed all of them with their tokens, and `425 / 256`."""
    terminal = begin("--context", "256", "-n", "20", "--temperature", "0", model=tiny_v3_model)
    for number in range(5):
        ready(terminal)
        terminal.say(f"message {number} with some more words in it to fill the context of the model up")
        terminal.wait(lambda number=number: terminal.everything().count(" tokens · ") > number)
    ready(terminal)
    terminal.say("/context")
    terminal.wait("with what the format adds")
    ready(terminal)
    shown = terminal.text().rsplit("/context", 1)[1]
    left_out = re.search(r"the first (\d) turns no longer fit", " ".join(shown.split()))
    used = re.search(r"^(\d+) / 256, with what the format adds", shown, re.MULTILINE)
    assert left_out and used and 0 < int(used[1]) <= 256
    rows = re.findall(r"^ +(\d) user +(out|\d+) ", shown, re.MULTILINE)
    assert [number for number, tokens in rows if tokens == "out"] == [str(n + 1) for n in range(int(left_out[1]))]
    assert len(rows) == 5
