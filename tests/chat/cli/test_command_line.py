"""What the arguments make the program do: answer, run a command, print a page, or report what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chat import __version__
from chat.cli import main
from chat.cli.command_tree import commands
from tests import program
from tests.environments import pipes, terminal

TRACEBACK = "Traceback (most recent call last):\n"


def run(*arguments: str) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a run in this process, with an empty stdin."""
    environment = pipes()
    code = main.run(arguments, environment)
    return code, environment.out, environment.err


def test_the_value_of_an_option_in_a_bundle_is_no_command(tiny_model: Path) -> None:
    """It was taken for one, and refused: `error: options of `convert` come after its name`."""
    done = program.run("-m", tiny_model, "-qs", "convert", "--dry-run", "hello")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "convert" in json.loads(done.stdout)["text"] and "hello" in json.loads(done.stdout)["text"]


def test_a_models_name_in_a_bundle_is_no_command() -> None:
    done = program.run("-qm", "models", "hi")
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, b"error: there is no model `models`")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["-q", "convert", "x"], "convert"),
        (["-qs", "x", "models", "list"], "models"),
        (["--help", "doctor"], "doctor"),
        (["-q", "completion", "bash"], "completion"),
    ],
)
def test_options_before_a_command_are_refused(arguments: list[str], name: str) -> None:
    said = (
        f"error: options of `{name}` come after its name\nhint: `mistral-chat -- {name} ...` asks a question instead\n"
    )
    assert run(*arguments) == (2, "", said)


def test_a_commands_name_behind_two_dashes_is_a_question(tiny_model: Path) -> None:
    done = program.run("-m", tiny_model, "--dry-run", "--", "convert", "-v", "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "convert -v --help" in json.loads(done.stdout)["text"]


@pytest.mark.parametrize("arguments", [["-h"], ["-qh"], ["hi", "--help"], ["--no-such", "-h"], ["--help", "--temp"]])
def test_help_is_printed_wherever_it_is_an_option(arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out.partition("\n")[0], err) == (0, "Usage: mistral-chat [OPTIONS] [PROMPT]...", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temp", "--help", "hi"], "--temperature must be a number from 0 to 100, not '--help'"),
        (["--temp", "-V", "hi"], "--temperature must be a number from 0 to 100, not '-V'"),
        (
            ["bench", "--contexts", "--help"],
            "--contexts must be numbers of at least 16, such as 512,1024,2048, not '--help'",
        ),
    ],
)
def test_the_value_of_an_option_prints_no_page(arguments: list[str], message: str) -> None:
    """As in Typer, which reads the options of the last of these lines, whatever follows an option is its value."""
    assert run(*arguments) == (2, "", f"error: {message}\n")


@pytest.mark.parametrize("arguments", [["-V"], ["-qV"], ["hi", "--version"], ["--no-such", "-V"]])
def test_the_version_is_printed_wherever_it_is_an_option(arguments: list[str]) -> None:
    assert run(*arguments) == (0, f"mistral-chat {__version__}\n", "")


NO_MODEL = ["-m", "/no/such.gguf"]


@pytest.mark.parametrize(
    "arguments",
    [
        [*NO_MODEL, "-v", "hi"],
        [*NO_MODEL, "hi", "--verbose"],
        ["-xvm", "/no/such.gguf", "hi"],
        ["convert", "/no/such", "-v"],
        ["convert", "--verbose", "/no/such"],
        ["convert", "-qv", "/no/such"],
        ["convert", "-vo", "out.gguf", "/no/such"],
    ],
)
def test_verbose_shows_where_an_error_comes_from(arguments: list[str]) -> None:
    """In a bundle it did not."""
    code, out, err = run(*arguments)
    assert (code, out, err.startswith(TRACEBACK)) == (3, "", True)
    assert "\nerror: " in err


@pytest.mark.parametrize(
    "arguments",
    [
        [*NO_MODEL, "-s", "-v", "hi"],
        [*NO_MODEL, "--system", "--verbose", "hi"],
        [*NO_MODEL, "--", "-v", "--verbose"],
        ["convert", "/no/such", "-o", "-v"],
        ["convert", "/no/such", "--imatrix", "--verbose"],
        ["convert", "--", "-v"],
        ["models", "show", "--", "-v"],
    ],
)
def test_a_value_or_a_word_enables_no_traceback(arguments: list[str]) -> None:
    """Any `-v` on the line did, wherever it stood."""
    code, out, err = run(*arguments)
    assert (code, out, err.partition(" ")[0]) == (3, "", "error:")
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["doctor", "-v"], ["models", "list", "-v"], ["completion", "bash", "-v"]])
def test_a_command_without_verbose_refuses_it(arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out, err.partition(" ")[0]) == (2, "", "error:")


def test_verbose_is_an_option_of_whole_commands_only() -> None:
    """It is looked for among the parameters of a command as `mistral-chat` names it; those of a part are not seen."""
    parts = [part for each in commands(main.COMMANDS) for part in each.parts]
    assert len(parts) > 10
    assert [
        part.name for part in parts if {"-v", "--verbose"} & {each for flag in part.flags for each in flag.spellings}
    ] == []


@pytest.mark.parametrize(
    ("module", "arguments", "hint"),
    [
        ("chat.app.oneshot.answer_once", ["hi"], "hint: `-v` shows where\n"),
        ("convert.source_resolver.find_source", ["convert", "x"], "hint: `-v` shows where\n"),
        ("chat.doctor.checks.examine", ["doctor"], ""),
        ("chat.models.inventory.found_files", ["models", "list"], ""),
    ],
)
def test_a_hint_at_verbose_appears_only_with_commands_that_have_it(
    module: str, arguments: list[str], hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mistral-chat doctor` gave a hint that it then refused."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(module, fail)
    assert run(*arguments) == (1, "", f"error: unexpected: RuntimeError: no\n{hint}")
    if hint:
        with pytest.raises(RuntimeError):
            main.run([*arguments, "-v"])


@pytest.mark.parametrize(
    ("arguments", "code", "first"),
    [
        (["-h"], 0, "Usage: mistral-chat completion bash|zsh|fish|powershell"),
        (["bash", "--help"], 0, "Usage: mistral-chat completion bash|zsh|fish|powershell"),
        (["--", "presets"], 0, ""),
        (["--", "--help"], 2, "error: `completion` needs a shell"),
        (["bash", "zsh"], 2, "error: `completion` needs a shell"),
        (["bash", "-q"], 2, "error: `completion` needs a shell"),
        ([], 2, "error: `completion` needs a shell"),
    ],
)
def test_completion_reads_its_arguments_by_the_same_rules(arguments: list[str], code: int, first: str) -> None:
    done, out, err = run("completion", *arguments)
    assert (done, (out + err).partition("\n")[0]) == (code, first)


@pytest.mark.parametrize("columns", [50, 100])
def test_help_fits_the_terminal_and_is_the_same_text(columns: int) -> None:
    environment = terminal(columns=columns)
    assert main.run(["--help"], environment) == 0
    assert max(map(len, environment.out.splitlines())) <= columns
    assert environment.out.split() == run("--help")[1].split()


def test_an_error_on_a_terminal_breaks_between_words_and_is_not_obeyed() -> None:
    environment = terminal(columns=40, lines=6)
    assert main.run(["--remote-model", "x\x1b[2J"], environment) == 2
    assert (
        environment.err == "error: --remote-model needs --remote\nhint: `mistral-chat --help` shows what\neach does\n"
    )
    environment = terminal()
    assert main.run(["--temp", "\x1b[2J\n", "hi"], environment) == 2
    assert environment.err == "error: --temperature must be a number from 0 to 100, not '\\x1b[2J\\n'\n"


def test_commands_print_tables_on_a_terminal_and_records_in_a_pipe() -> None:
    environment = terminal(columns=60)
    assert main.run(["templates", "list"], environment) == 0
    assert environment.screen()[0].split() == ["NAME", "KIND", "VARIABLES"]
    code, out, _ = run("templates", "list")
    assert (code, {line.count("\t") for line in out.splitlines()}) == (0, {2})
    assert [line.split("\t")[0] for line in out.splitlines()] == [row.split()[0] for row in environment.screen()[1:]]
