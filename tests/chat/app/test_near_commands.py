"""Words that are meant as commands are recognized, and questions never are."""

from __future__ import annotations

import pytest

from chat.app.near_commands import meant_in_session, meant_in_shell
from chat.cli.main import run
from tests.environments import pipes, terminal

COMMANDS = ("convert", "models", "sessions", "config", "templates", "doctor", "bench", "completion")
QUESTIONS = (
    "list the planets", "help me", "Help me with my homework", "exit strategy", "run away", "run a marathon",
    "run python3", "pull request", "show me mistral", "what is mistral", "get localhost:8080", "use cases",
    "load data1",
    "ls -la", "model", "clear sky", "history of Rome", "models of the atom", "Hello", "hi", "q", "list", "yes", "beach",
    "llama facts", "mistral", "run", "chat", "show", "who are you?", "/usr/bin/ls", "download music", "", " ", "a\0b",
)  # fmt: skip


@pytest.mark.parametrize("text", [each for each in QUESTIONS if each not in ("list", "model")])
def test_a_question_is_no_command(text: str) -> None:
    assert meant_in_session(text) == ()
    assert meant_in_shell(text.split(" "), COMMANDS) == ()


@pytest.mark.parametrize("text", [*QUESTIONS, "exit ", "run mistral", "modles list"])
def test_quoted_words_with_a_space_are_a_question(text: str) -> None:
    assert " " not in text or meant_in_shell([text], COMMANDS) == ()


@pytest.mark.parametrize(
    ("text", "session", "shell"),
    [
        ("exit", "/bye", ""),
        ("QUIT", "/bye", ""),
        (":q", "/bye", ""),
        ("ls", "/model or /sessions", "models list or sessions list"),
        ("list", "/model or /sessions", "models list or sessions list"),
        ("help", "/help", "--help"),
        ("models", "/model", "models list"),
        ("model list", "/model", "models list"),
        ("list models", "/model", "models list"),
        ("session list", "/sessions", "sessions list"),
        ("run mistral", "/model mistral", "-m mistral"),
        ("run llama3.2:1b", "/model llama3.2:1b", "-m llama3.2:1b"),
        ("pull nemo", "/model nemo", "models pull nemo"),
        ("ollama run mistral", "/model mistral", "-m mistral"),
        ("ollama ls", "/model or /sessions", "models list or sessions list"),
        ("show mistral", "/model info", "models show mistral"),
        ("run ./my.gguf", "/model ./my.gguf", "-m ./my.gguf"),
    ],
)
def test_words_of_commands_are_recognized(text: str, session: str, shell: str) -> None:
    assert " or ".join(meant_in_session(text)) == session
    wanted = tuple(f"mistral-chat {each}".strip() for each in shell.split(" or "))
    assert meant_in_shell(text.split(), COMMANDS) == wanted


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("modles list", "models list"),
        ("sesions show x", "sessions show x"),
        ("docter", "doctor"),
        ("complection", "completion"),
        ("/help", "--help"),
        ("/bye", ""),
    ],
)
def test_a_command_of_the_program_is_recognized_with_a_typing_error(words: str, meant: str) -> None:
    assert meant_in_shell(words.split(), COMMANDS) == (f"mistral-chat {meant}".strip(),)


def test_a_shell_gets_a_question_back_instead_of_an_answer() -> None:
    """The model answered `ls`."""
    environment = terminal()
    assert run(["ls"], environment) == 2
    assert environment.err == (
        "error: did you mean `mistral-chat models list` or `mistral-chat sessions list`?\n"
        "hint: `mistral-chat -- ls` sends it to the model\n"
    )
    environment = terminal()
    assert run(["-m", "x", "exit"], environment) == 2
    assert environment.err.splitlines()[0] == "error: `exit` is for a session, which `mistral-chat` starts"


@pytest.mark.parametrize("arguments", [["--", "ls"], ["ls "], ["--dry-run", "ls"], ["run mistral"]])
def test_marked_and_quoted_words_and_those_with_other_options_are_sent(arguments: list[str]) -> None:
    environment = terminal()
    assert run(["-m", "/nowhere.gguf", *arguments], environment) == 3
    assert "did you mean" not in environment.err


def test_a_script_sends_what_it_sends() -> None:
    environment = pipes()
    assert run(["-m", "/nowhere.gguf", "ls"], environment) == 3
