"""Functions that the model calls in a one-shot run: which run, what is shown where, and what the model is told."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chat.cli.main import run as run_program
from chat.core.conversation import Message
from chat.history.store import open_history
from chat.system.environment import Environment
from tests.chat.tui.scripted import Scripted

CALL = [["text", "Let me look."], ["call", "calculate", '{"expression": "6 * 7"}', "abcdefghi"]]
ANSWER = [["text", "It is 42."]]
SEEN = 'tool call 1 of at most 10: calculate(expression="6 * 7") · '


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass
class Run:
    """One run of the program in this process, with a scripted engine."""

    code: int
    out: str
    err: str
    requests: list[Any] = field(default_factory=list)

    def said_to_model(self, step: int) -> list[Message]:
        """The messages of a request that followed the question."""
        return [message for message in self.requests[step].prompt.messages if message.role in ("assistant", "tool")]


Ask = Callable[..., Run]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path) -> Ask:
    """Runs the program with scripts for the engine; `answers` are typed at a terminal."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, scripts: Sequence[Any], answers: Sequence[str] | None = None) -> Run:
        engine = Scripted(scripts)
        monkeypatch.setattr("chat.worker.client.LocalBackend", lambda options, **_: engine)
        streams = [io.StringIO(), io.StringIO()] if answers is None else [Tty(), Tty()]
        stdin: Any = (
            io.TextIOWrapper(io.BytesIO(b"")) if answers is None else Tty("".join(f"{each}\n" for each in answers))
        )
        variables = {"MISTRAL_CHAT_HOME": str(own_home / "mistral-chat"), "TERM": "dumb"}
        environment = Environment(stdin, streams[0], streams[1], variables)
        code = run_program(["-m", __file__, *arguments], environment)
        err = re.sub(r" · [\d.:]+( s)?$", "", streams[1].getvalue(), flags=re.MULTILINE)  # of a slow machine
        return Run(code, streams[0].getvalue(), err, engine.requests)

    return run


def test_a_call_that_a_rule_allows_runs_and_stdout_holds_the_last_answer_only(ask: Ask) -> None:
    done = ask("--run-tools", "--allow-tool", "calculate", "What?", scripts=[CALL, ANSWER])
    assert (done.code, done.out) == (0, "It is 42.\n")
    assert done.err == f"{SEEN}done · 1 line\n"
    answer, result = done.said_to_model(1)
    assert (answer.content, answer.tool_calls[0].name, answer.ids) == ("Let me look.", "calculate", (0,))
    assert result == Message("tool", "42", tool_call_id="abcdefghi", name="calculate")
    names = [tool["function"]["name"] for tool in done.requests[0].prompt.tools]
    assert names == ["read_file", "list_files", "search_files", "calculate", "current_date"]


def test_in_a_pipe_nothing_runs_that_no_rule_allows(ask: Ask) -> None:
    done = ask("--run-tools", "--allow-tool", "read_file", "What?", scripts=[CALL, ANSWER])
    assert (done.code, done.out) == (0, "It is 42.\n")
    note = "note: calculate was not run, as there is no terminal to ask on; `--allow-tool calculate` allows it\n"
    assert done.err.startswith(f"{note}{SEEN}refused · The user's rules do not allow this call.")
    assert "do not allow this call" in done.said_to_model(1)[1].content


def test_quiet_shows_no_calls(ask: Ask) -> None:
    assert ask("--run-tools", "--allow-tool", "*", "-q", "What?", scripts=[CALL, ANSWER]).err == ""


def test_json_lists_the_calls_and_their_results(ask: Ask) -> None:
    wrong = [["call", "calculate", "{", "000000001"], ["call", "current_date", "", "000000002"]]
    done = ask("--run-tools", "--allow-tool", "calculate", "--json", "What?", scripts=[CALL, wrong, ANSWER])
    plain = json.loads(done.out)
    assert plain["text"] == "It is 42." and "tool_calls" not in plain
    results = plain["tool_results"]
    assert [
        (each["name"], each["arguments"], each["id"], each["outcome"], each["result"][:20]) for each in results
    ] == [
        ("calculate", {"expression": "6 * 7"}, "abcdefghi", "done", "42"),
        ("calculate", "{", "000000001", "failed", "error: the arguments"),
        ("current_date", {}, "000000002", "refused", "The user's rules do "),
    ]
    assert all(isinstance(each["seconds"], float) for each in results)


def test_a_rule_that_denies_wins_and_the_settings_file_has_rules_too(ask: Ask, own_home: Path) -> None:
    config = own_home / "mistral-chat" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('run_tools = true\n[tools]\nallow = ["*"]\n')
    assert ask("What?", scripts=[CALL, ANSWER]).err == f"{SEEN}done · 1 line\n"
    assert "refused" in ask("--deny-tool", "calc*", "What?", scripts=[CALL, ANSWER]).err


def test_the_model_is_told_of_the_limit_and_answers_with_what_it_has(ask: Ask) -> None:
    two = [CALL[1], ["call", "calculate", '{"expression": "1"}', "000000002"]]
    done = ask("--run-tools", "--allow-tool", "*", "--tool-steps", "2", "What?", scripts=[CALL, two, ANSWER])
    assert (done.code, done.out) == (0, "It is 42.\n")
    assert "note: the limit of 2 calls is reached; `--tool-steps` allows more\n" in done.err
    last = [message.content for message in done.said_to_model(2)][-2:]
    assert last == ["42", "Not run: the limit of 2 calls for one question is reached. Answer with what you know."]


def test_a_model_that_calls_on_after_the_limit_is_an_error(ask: Ask) -> None:
    done = ask("--run-tools", "--allow-tool", "*", "--tool-steps", "1", "What?", scripts=[CALL] * 5)
    assert (done.code, done.out, len(done.requests)) == (1, "", 3)
    assert "error: the model still calls functions after 1 call\nhint: `--tool-steps` allows more\n" in done.err


def test_functions_that_are_only_described_are_answered_by_hand_as_before(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text('[{"name": "mine", "inputSchema": {"type": "object"}}]')
    call = [["call", "mine", "{}", "abcdefghi"]]
    done = ask("--run-tools", "--tools", "own.json", "What?", scripts=[call])
    assert (done.code, json.loads(done.out)) == (0, {"name": "mine", "arguments": "{}", "id": "abcdefghi"})
    assert done.requests[0].prompt.tools[-1]["name"] == "mine"


def test_a_key_that_no_client_writes_is_refused(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text('[{"name": "mine", "paramters": {}}]')
    done = ask("--tools", "own.json", "What?", scripts=[])
    assert (done.code, done.err) == (
        6, "error: own.json, tool 1: unknown key `paramters`\nhint: did you mean `parameters`?\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "outcome", "told"),
    [
        (["y"], "done", "42"),
        (["YES"], "done", "42"),
        (["s"], "done", "42"),
        (["n"], "refused", "The user refused this call. Do not make it again; continue without it, or ask."),
        (["", "x", "n"], "refused", "The user refused this call. Do not make it again; continue without it, or ask."),
        (["use your head"], "refused", "The user did not run this call, and says: use your head"),
        (["a expression=9*", "s expression=6*"], "done", "42"),
        ([], "refused", "The user refused this call. Do not make it again; continue without it, or ask."),
    ],
)
def test_a_terminal_is_asked(ask: Ask, answers: list[str], outcome: str, told: str) -> None:
    done = ask("--run-tools", "What?", scripts=[CALL, ANSWER], answers=answers)
    assert (done.code, done.out) == (0, "Let me look.\nIt is 42.\n")
    assert f"{SEEN}".removesuffix(" · ") in done.err and outcome in done.err.replace("\n", " ")
    assert done.err.count("Run it? ") == max(1, len(answers))
    assert done.said_to_model(1)[1].content == told
    if "a expression=9*" in answers:
        assert "error: `calculate(expression=9*)` does not allow this call\n" in done.err


def test_a_screen_reader_hears_words_for_the_signs_of_the_question(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCESSIBLE", "1")  # which --accessible sets for child processes, too
    done = ask("--run-tools", "--accessible", "What?", scripts=[CALL, ANSWER], answers=["y"])
    assert "y yes, s yes in this session, a always, n no, or say what to do instead\nRun it? " in done.err
    assert "calculate, done, 1 line\n" in done.err and "·" not in done.err


def test_a_rule_for_the_session_counts_for_the_next_call_and_one_for_good_is_stored(ask: Ask, own_home: Path) -> None:
    config = own_home / "mistral-chat" / "config" / "config.toml"
    done = ask("--run-tools", "What?", scripts=[CALL, CALL, ANSWER], answers=["s"])
    assert (done.code, done.err.count("Run it?")) == (0, 1) and not config.exists()
    done = ask("--run-tools", "What?", scripts=[CALL, CALL, ANSWER], answers=["a expression=6*"])
    assert done.err.count("Run it?") == 1
    assert config.read_text() == '[tools]\nallow = [\n  "calculate(expression=6*)",\n]\n'
    assert "Run it?" not in ask("--run-tools", "What?", scripts=[CALL, ANSWER], answers=[]).err


def test_a_session_stores_each_answer_and_each_result(ask: Ask) -> None:
    done = ask("--session", "s", "--run-tools", "--allow-tool", "*", "What?", scripts=[CALL, ANSWER])
    assert done.out == "It is 42.\n"
    with open_history(enabled=True) as store:
        record = store.find_named("s")
        assert record is not None
        path = [node.message for node in store.load(record.id)[1].path()]
    assert [(message.role, message.content) for message in path] == [
        ("user", "What?"), ("assistant", "Let me look."), ("tool", "42"), ("assistant", "It is 42."),
    ]  # fmt: skip


def test_a_new_question_refuses_a_call_that_was_left(ask: Ask) -> None:
    by_hand = ask("--session", "s", "What?", scripts=[CALL])
    assert by_hand.code == 0 and '"name": "calculate"' in by_hand.out
    assert "no result yet" in ask("--session", "s", "And?", scripts=[]).err
    done = ask("--session", "s", "--run-tools", "And?", scripts=[ANSWER])
    assert done.out == "It is 42.\n"
    assert done.said_to_model(0)[1].content == "The user stopped before this call was run."


def test_a_dry_run_shows_a_prompt_with_the_functions(ask: Ask) -> None:
    done = ask("--run-tools", "--dry-run", "What?", scripts=[])
    assert json.loads(done.out)["text"] == "[user]What?"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--allow-tool", "x"], "--allow-tool needs --run-tools"),
        (["--deny-tool", "x"], "--deny-tool needs --run-tools"),
        (["--tool-steps", "3"], "--tool-steps needs --run-tools"),
        (["--tool-timeout", "3"], "--tool-timeout needs --run-tools"),
        (["--tool-output", "300"], "--tool-output needs --run-tools"),
        (["--mcp-config", "x"], "--mcp-config needs --run-tools"),
        (["--run-tools", "--allow-tool", "a b"], "--allow-tool: `a b` is not a rule for functions"),
        (["--run-tools", "--raw"], "--run-tools and --raw cannot be used together"),
        (["--run-tools", "--schema", "x"], "--run-tools and --schema cannot be used together"),
        (["--run-tools", "--tool-steps", "0"], "--tool-steps must be a whole number from 1 to 1000, not 0"),
    ],
)
def test_options_that_would_do_nothing_are_refused(ask: Ask, arguments: list[str], message: str) -> None:
    done = ask(*arguments, "What?", scripts=[])
    assert (done.code, done.err.splitlines()[0]) == (2, f"error: {message}")


@pytest.mark.slow
def test_the_functions_of_a_python_file_are_offered_and_run_only_on_request(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text('def add(a: int, b: int = 2):\n    """Add."""\n    return a + b\n')
    call = [["call", "add", '{"a": 40}', "abcdefghi"]]
    done = ask("--tools", "own.py", "What?", scripts=[call])
    assert json.loads(done.out) == {"name": "add", "arguments": '{"a": 40}', "id": "abcdefghi"}
    done = ask("--tools", "own.py", "--run-tools", "--allow-tool", "own/add", "-q", "What?", scripts=[call, ANSWER])
    assert (done.out, done.said_to_model(1)[1].content) == ("It is 42.\n", "42")


@pytest.mark.slow
def test_a_yes_for_good_ends_where_the_function_changes(ask: Ask, tmp_path: Path, own_home: Path) -> None:
    """The rule names the version that the user saw; a new yes replaces it."""
    config = own_home / "mistral-chat" / "config" / "config.toml"
    call = [["call", "add", '{"a": 40}', "abcdefghi"]]
    flags = ("--tools", "own.py", "--run-tools", "What?")
    for words, answers, note in [
        ("Add.", ["a"], ""),
        ("Add.", [], ""),
        ("Send.", ["a"], "own/add has changed since you allowed it: Send. (arguments: a)\n"),
        ("Send.", [], ""),
    ]:
        (tmp_path / "own.py").write_text(f'def add(a: int):\n    """{words}"""\n    return a + 2\n')
        done = ask(*flags, scripts=[call, ANSWER], answers=answers)
        assert (done.said_to_model(1)[1].content, "Run it?" in done.err) == ("42", bool(answers))
        assert note in done.err and config.read_text().count("own/add#") == 1
    (tmp_path / "own.py").write_text('def add(a: int):\n    """Delete."""\n    return a + 2\n')
    done = ask(*flags, scripts=[call, ANSWER])
    assert "note: own/add was not run, as it has changed since it was allowed; `--allow-tool own/add`" in done.err
    assert "do not allow this call" in done.said_to_model(1)[1].content


@pytest.mark.slow
def test_a_python_file_that_cannot_be_used_is_an_error_where_nothing_else_is_offered(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def add(")
    done = ask("--tools", "own.py", "What?", scripts=[])
    assert (done.code, done.out) == (6, "")
    assert done.err.startswith("error: `own` cannot be used: SyntaxError: '(' was never closed (own.py, line 1)")


def test_a_call_that_the_user_wanted_is_wanted_once(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """To force it again after its result would never end."""
    engine = Scripted([CALL, ANSWER])
    monkeypatch.setattr("chat.app.backends._remote", lambda options: engine)
    arguments = ["--remote", "http://localhost:1", "--tool-choice", "calculate", "--run-tools", "--allow-tool", "*"]
    streams = (io.TextIOWrapper(io.BytesIO(b"")), io.StringIO(), io.StringIO())
    assert run_program([*arguments, "What?"], Environment(*streams, {"MISTRAL_CHAT_HOME": str(Path.cwd())})) == 0
    assert [request.prompt.tool_choice for request in engine.requests] == ["calculate", "auto"]
