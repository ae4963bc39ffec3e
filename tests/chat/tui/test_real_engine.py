"""The whole program with a real tiny model."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chat.tui.pseudo_terminal import CTRL_C, CTRL_D, ENTER, PASTES_MARKED, Terminal
from tests.processes import children_of, ends

Begin = Callable[..., Terminal]


def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a session; its figures show that an answer has ended."""
    return {"MISTRAL_CHAT_HOME": str(tmp_path / "home"), "MISTRAL_CHAT_STATS": "1"}


@pytest.fixture
def begin(tmp_path: Path, tiny_model: Path) -> Iterator[Begin]:
    """A function that runs `mistral-chat -m MODEL FLAGS` in a terminal."""
    begun: list[Terminal] = []

    def run(*flags: str, model: Path = tiny_model) -> Terminal:
        command = [sys.executable, "-m", "chat", "-m", str(model), *flags]
        environment = {"MISTRAL_CHAT_THREADS": "1", **home(tmp_path)}
        terminal = Terminal(command, environment=environment, folder=tmp_path)
        begun.append(terminal)
        terminal.wait(">")
        return terminal

    yield run
    for terminal in begun:
        terminal.kill()


def child_of(process: int) -> int:
    """The engine: the child of the program that is not a helper of multiprocessing."""
    return children_of(process)[-1]


@pytest.mark.slow
def test_a_session_survives_the_death_of_its_engine_and_is_continued_later(begin: Begin) -> None:
    terminal = begin("--temperature", "0", "-n", "30")
    terminal.wait_for_prompt()
    terminal.say("hello there")
    terminal.wait("/continue resumes it")
    terminal.wait("30 tokens · ")
    terminal.wait_for_prompt()
    terminal.say("/continue")
    terminal.wait(lambda: terminal.everything().count("30 tokens · ") == 2)
    terminal.send("/set max-tokens default", ENTER)
    terminal.wait("max-tokens       -  ")
    terminal.wait_for_prompt()
    engine = child_of(terminal.child.pid)
    os.kill(engine, signal.SIGSTOP)
    terminal.say("on and on")
    terminal.wait("no token for ")
    os.kill(engine, signal.SIGKILL)
    terminal.wait("error: the engine")
    assert "Traceback" not in terminal.everything()
    terminal.say("/set max-tokens 5")
    terminal.say("/regen")
    terminal.wait(lambda: "5 tokens · " in terminal.everything().rsplit("/regen", 1)[-1])
    terminal.wait_for_prompt()
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    again = begin("-c")
    again.wait("on and on")
    again.wait_for_prompt()
    again.say("/sessions")
    again.wait("1 ▸ hello there")


@pytest.mark.slow
def test_ctrl_c_stops_decoding_at_once_and_the_next_turn_is_answered(begin: Begin) -> None:
    """The answer cannot end by itself before Ctrl+C: a fast processor once needed 0.7 s for all 664 tokens of it."""
    terminal = begin("--temperature", "0", "--regex", "[a-z]{20000,}")
    terminal.wait_for_prompt()
    terminal.say("count")
    terminal.wait(lambda: len(re.findall(r"\S", "".join(terminal.lines()[4:20]))) > 20)
    terminal.send(CTRL_C)
    terminal.wait("Stopped. /continue resumes.")
    terminal.wait_for_prompt()
    terminal.say("/set max-tokens 4")
    terminal.wait_for_prompt()
    terminal.say("more")
    terminal.wait("4 tokens · ")


@pytest.mark.slow
def test_sigterm_during_an_answer_ends_the_engine_too(begin: Begin) -> None:
    terminal = begin("--temperature", "0")
    terminal.wait_for_prompt()
    terminal.say("count")
    terminal.wait(lambda: len(re.findall(r"\S", "".join(terminal.lines()[4:20]))) > 20)
    engine = child_of(terminal.child.pid)
    terminal.child.kill(signal.SIGTERM)
    assert terminal.end() == 130
    assert ends(engine)


@pytest.mark.slow
def test_a_session_is_continued_by_its_name(begin: Begin) -> None:
    terminal = begin("--session", "talk", "-n", "3")
    terminal.wait_for_prompt()
    terminal.say("remember the lighthouse")
    terminal.wait(" · prompt")
    terminal.wait_for_prompt()
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    again = begin("--session", "talk", "-n", "3")
    again.wait("remember the lighthouse")


@pytest.mark.slow
def test_a_file_that_is_no_model_ends_the_program_with_an_error(begin: Begin, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUX" + bytes(100))
    terminal = Terminal([sys.executable, "-m", "chat", "-m", str(bad)], folder=tmp_path)
    assert terminal.end() in (3, 6)
    assert "error:" in terminal.text() and "Traceback" not in terminal.everything()


@pytest.mark.slow
def test_a_stored_session_is_continued_with_its_model(begin: Begin, tmp_path: Path) -> None:
    terminal = begin("-n", "3")
    terminal.wait_for_prompt()
    terminal.say("which model?")
    terminal.wait(" · prompt")
    terminal.wait_for_prompt()
    terminal.say("/context")
    terminal.wait(" tokens · window 64, including the prompt format")
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    command = [sys.executable, "-m", "chat", "-c"]
    again = Terminal(command, environment=home(tmp_path), folder=tmp_path)
    again.wait("which model?")
    again.wait("mistral-v0.1 · ")
    again.kill()


@pytest.mark.parametrize("way", ["ctrl-c twice", "sigterm"])
@pytest.mark.slow
def test_the_program_ends_although_its_engine_hangs(begin: Begin, way: str) -> None:
    terminal = begin()
    terminal.wait_for_prompt()
    terminal.wait("window 64")
    engine = child_of(terminal.child.pid)
    os.kill(engine, signal.SIGSTOP)
    terminal.say("anybody there?")
    terminal.wait("no token for ")
    if way == "sigterm":
        terminal.child.kill(signal.SIGTERM)
    else:
        terminal.send(CTRL_C)
        terminal.wait("stopping · Ctrl+C again quits")
        terminal.send(CTRL_C)
    assert terminal.end() == 130
    assert ends(engine)


WAYS_TO_LEAVE = {"/bye": ("/bye", ENTER), "ctrl-d": (CTRL_D,), "hangup": (), "hangup in a command": ("/context", ENTER)}


@pytest.mark.parametrize("way", WAYS_TO_LEAVE)
@pytest.mark.slow
def test_the_program_leaves_within_seconds_although_its_engine_is_stopped(
    begin: Begin, tmp_path: Path, tiny_v3_model: Path, way: str
) -> None:
    """Once it waited for the engine to save its cache until Ctrl+C; a command that waits ignored the hangup."""
    terminal = begin("-n", "3", model=tiny_v3_model)
    terminal.wait_for_prompt()
    terminal.say("remember the lighthouse " * 40)  # enough that the cache is saved
    terminal.wait(" · prompt")
    terminal.wait_for_prompt()
    engine = child_of(terminal.child.pid)
    os.kill(engine, signal.SIGSTOP)
    shown = terminal.everything()
    terminal.send(*WAYS_TO_LEAVE[way])
    if way.startswith("hangup"):
        if way != "hangup":
            terminal.wait(terminal.sends_signals)
        terminal.hang_up()
        assert ends(terminal.child.pid)
    else:
        assert terminal.end() == 0
        assert "error" not in terminal.everything().removeprefix(shown)
    assert ends(engine)
    again = begin("-c", "-n", "3", model=tiny_v3_model)
    again.wait("remember the lighthouse")


@pytest.mark.parametrize("is_taken", [False, True], ids=["terminal not yet taken", "terminal taken"])
@pytest.mark.slow
def test_keys_typed_before_the_first_prompt_are_sent(tmp_path: Path, tiny_model: Path, is_taken: bool) -> None:
    """Once Enter, pressed too early, became a line break, and nothing was sent."""
    command = [sys.executable, "-m", "chat", "-m", str(tiny_model), "-n", "3"]
    terminal = Terminal(command, environment=home(tmp_path), folder=tmp_path)
    if is_taken:
        terminal.wait(lambda: PASTES_MARKED in terminal.output)
    terminal.send("tell me ", "more", ENTER, "/context", ENTER)
    terminal.wait("including the prompt format")
    assert "> tell me more\n" in terminal.everything()
    terminal.wait_for_prompt()
    terminal.send(CTRL_D)
    assert terminal.end() == 0


@pytest.mark.slow
def test_a_continued_session_uses_and_shows_its_own_options(begin: Begin) -> None:
    terminal = begin("--temperature", "0", "-s", "You are a lighthouse.", "--session", "light")
    terminal.wait_for_prompt()
    terminal.say("/set max-tokens 4")
    terminal.wait_for_prompt()
    terminal.say("who are you?")
    terminal.wait("4 tokens · ")
    terminal.wait_for_prompt()
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    again = begin("-c", "--temperature", "0.5")
    again.wait("Settings of this session: max-tokens 4 · system prompt “You are a lighthouse.”")
    again.wait_for_prompt()
    again.say("and now?")
    again.wait(lambda: re.search(r"^[1-4] tokens? · ", again.everything(), re.MULTILINE) is not None)
    again.wait_for_prompt()
    again.say("/show temperature")
    again.wait("temperature      0.5  flag")
    again.send(CTRL_D)
    assert again.end() == 0
    begin("-c").wait("Settings of this session: temperature 0.0, max-tokens 4 · system prompt")


@pytest.mark.slow
def test_a_session_whose_model_is_missing_names_a_way_to_continue(
    begin: Begin, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "moved.gguf"
    model.hardlink_to(tiny_model)
    terminal = begin("-n", "3", model=model)
    terminal.wait_for_prompt()
    terminal.say("hello")
    terminal.wait("3 tokens · ")
    terminal.wait_for_prompt()
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    model.unlink()
    command = [sys.executable, "-m", "chat", "-c"]
    again = Terminal(command, environment=home(tmp_path), columns=120, folder=tmp_path)
    assert again.end() == 3
    assert "error: the session's model is gone: there is no model" in again.text()
    assert "hint: `-m NAME` continues it with another model" in again.text()
    begin("-c").wait("hello")


@pytest.mark.slow
def test_context_shows_which_turns_no_longer_fit(begin: Begin, tiny_v3_model: Path) -> None:
    """Once `/context` listed all of them with their tokens, and `425 / 256`."""
    terminal = begin("--context", "256", "-n", "20", "--temperature", "0", model=tiny_v3_model)
    for number in range(5):
        terminal.wait_for_prompt()
        terminal.say(f"message {number} with some more words in it to fill the context of the model up")
        terminal.wait(lambda number=number: terminal.everything().count(" tokens · ") > number)
    terminal.wait_for_prompt()
    terminal.say("/context")
    terminal.wait("including the prompt format")
    terminal.wait_for_prompt()
    shown = terminal.text().rsplit("/context", 1)[1]
    left_out = re.search(r"the (\d) oldest turns no longer fit", " ".join(shown.split()))
    used = re.search(r"^(\d+) / 256, including the prompt format", shown, re.MULTILINE)
    assert left_out and used and 0 < int(used[1]) <= 256
    rows = re.findall(r"^ +(\d) user +(out|\d+) ", shown, re.MULTILINE)
    assert [number for number, tokens in rows if tokens == "out"] == [str(n + 1) for n in range(int(left_out[1]))]
    assert len(rows) == 5
