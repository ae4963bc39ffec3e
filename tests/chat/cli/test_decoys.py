"""No file of the user is imported for its name, `chat.py` or `convert.py`, by the program or a process it starts.

Only `python -m chat` is left out: there Python itself looks for `chat` in the working folder and in PYTHONPATH first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pexpect
import pytest

from chat.cli.first_run import choose_model
from chat.core.request import Constraint
from chat.doctor.checks import examine
from chat.inference.grammar_sandbox import checked_grammar
from chat.system.python_child import FROZEN_CHILD, ROOT, python_child
from tests.conftest import CHECKPOINTS
from tests.environments import terminal

SCRIPT = str(Path(sys.executable).with_name("mistral-chat"))
DECOY = "from pathlib import Path\nPath(__file__).with_suffix('.imported').touch()\nraise SystemExit('a decoy')\n"
PLACES = ("the working folder", "PYTHONPATH", "the working folder by an empty part of PYTHONPATH")
OFFLINE = "error: HF_HUB_OFFLINE forbids asking the hub for mistralai/Mistral-7B-Instruct-v0.3"


@pytest.fixture(autouse=True)
def new_interpreters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each child as the program does: one that is forked imports nothing more, so no file of the user either."""
    monkeypatch.setattr("chat.worker.process.subprocess", subprocess)


@pytest.fixture
def decoys(tmp_path: Path) -> Path:
    """A folder of the user with two programs named like our packages."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("chat", "convert"):
        (folder / f"{name}.py").write_text(DECOY)
    return folder


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Our packages as a wheel lays them out."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("chat", "convert"):
        (folder / name).symlink_to(Path(ROOT) / name)
    (folder / "mistral_chat_launcher").symlink_to(Path(ROOT) / "chat" / "launcher" / "mistral_chat_launcher")
    return folder


def imported(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.imported")]


def run(
    *command: object, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | (environment or {})
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder, env=variables)


def arguments(call: str, model: Path) -> Sequence[object]:
    if call == "convert":
        return ("convert", "--dry-run", CHECKPOINTS / "mistral-v0.1")
    return ("-m", model, "-n", "3", "hello", "--regex", "a|b")  # by the engine's process, which starts another


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("call", ["constrained answer", "convert"])
def test_the_installed_command_imports_its_own_packages(
    decoys: Path, tmp_path: Path, tiny_model: Path, place: str, call: str
) -> None:
    """With a `chat.py` on PYTHONPATH the script ended in a traceback before its first line of ours."""
    path = {PLACES[0]: {}, PLACES[1]: {"PYTHONPATH": str(decoys)}, PLACES[2]: {"PYTHONPATH": f"{os.pathsep}/opt"}}
    folder = tmp_path if place == "PYTHONPATH" else decoys
    done = run(SCRIPT, *arguments(call, tiny_model), folder=folder, environment=path[place])
    assert (imported(decoys), done.returncode) == ([], 0), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout


def test_a_package_on_the_python_path_does_not_replace_ours(tmp_path: Path) -> None:
    for name in ("chat", "convert"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(DECOY)
    done = run(SCRIPT, "convert", "--help", folder=tmp_path, environment={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: mistral-chat convert")


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES[:2])
def test_converting_by_the_module_takes_our_own_package(decoys: Path, tmp_path: Path, place: str) -> None:
    """`python -m chat` has the working folder on its import path: its `convert.py` ran."""
    (decoys / "chat.py").unlink()
    environment = {"PYTHONPATH": str(decoys)} if place == "PYTHONPATH" else None
    folder = tmp_path if place == "PYTHONPATH" else decoys
    command = [sys.executable, "-m", "chat", "convert", "--dry-run", CHECKPOINTS / "mistral-v0.1"]
    done = run(*command, folder=folder, environment=environment)
    assert (imported(decoys), done.returncode) == ([], 0), done.stderr


@pytest.mark.slow
def test_the_download_of_the_first_start_runs_no_file_of_the_folder(decoys: Path) -> None:
    """It was started with `-m chat` and ran the `chat.py` of the folder."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(decoys), "TERM": "dumb", "COLUMNS": "120"}
    program = pexpect.spawn(SCRIPT, cwd=decoys, env=environment, dimensions=(24, 120), encoding="utf-8", timeout=60)
    program.expect_exact("Choice [1]: ")
    program.sendline("2")
    program.expect_exact(OFFLINE)
    program.expect_exact("Nothing was downloaded")
    program.expect_exact("Choice [1]: ")
    program.sendeof()
    program.expect(pexpect.EOF)
    program.close()
    assert (program.exitstatus, imported(decoys)) == (0, [])


@pytest.mark.parametrize("place", PLACES[:2])
@pytest.mark.slow
def test_no_child_imports_a_file_of_the_user(
    decoys: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: str
) -> None:
    if place == "PYTHONPATH":
        monkeypatch.setenv("PYTHONPATH", str(decoys))
    else:
        monkeypatch.chdir(decoys)
    assert "grammars" in checked_grammar(Constraint("regex", "a+"), space=False)
    found = {each.check: each for each in examine(None, online=False)}
    assert found["build"].words.startswith("llama.cpp")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EOFError):
        choose_model(terminal("2\n"))
    assert OFFLINE in capfd.readouterr().err
    assert imported(decoys) == []


def test_the_installed_command_finds_the_package_beside_it(decoys: Path, installed: Path, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); sys.argv[1:] = ['--version']\n"
        "import mistral_chat_launcher\n"
        "try: mistral_chat_launcher.main()\n"
        "finally: import chat, convert; print(chat.__file__, convert.__file__)\n"
    )
    done = run(sys.executable, "-c", code, folder=tmp_path, environment={"PYTHONPATH": str(decoys)})
    files = [str(installed / name / "__init__.py") for name in ("chat", "convert")]
    assert (done.stdout.splitlines()[1:], done.stderr) == ([" ".join(files)], "")


def test_nothing_beside_our_packages_hides_a_module_of_the_standard_library(
    installed: Path, tmp_path: Path, tiny_model: Path
) -> None:
    """The folder of our packages stood first on PYTHONPATH of the engine: a backport installed there broke it."""
    (installed / "queue.py").write_text(DECOY)
    code = (
        f"import sys; path = sys.path[:]; sys.path[:] = [{str(installed)!r}]; import chat; sys.path[:] = path\n"
        "from chat.__main__ import main; main()\n"
    )
    done = run(sys.executable, "-c", code, *arguments("constrained answer", tiny_model), folder=tmp_path)
    assert (imported(installed), done.returncode) == ([], 0), done.stderr


def test_a_child_finds_libraries_that_are_beside_our_packages_alone(installed: Path, tmp_path: Path) -> None:
    (installed / "a_library_of_this_test.py").write_text("import sys; print(__name__, sys.argv[1:])")
    file = Path(python_child("")[-2]).relative_to(ROOT)
    done = run(sys.executable, "-P", installed / file, "a_library_of_this_test", "-x", folder=tmp_path)
    assert (done.stdout, done.stderr) == ("__main__ ['-x']\n", "")


@pytest.mark.parametrize(("flag", "passed_on"), [("-P", "-P"), ("-s", "-s -P"), ("-E", "-E -P"), ("-I", "-E -s -P")])
def test_a_child_gets_the_import_options_of_the_program(tmp_path: Path, flag: str, passed_on: str) -> None:
    code = (
        f"import sys; sys.path.insert(0, {ROOT!r}); from chat.system.python_child import python_child\n"
        "print(*python_child('a.module', 'word')[1:])"
    )
    done = run(sys.executable, flag, "-c", code, folder=tmp_path)
    assert done.stdout == f"{passed_on} {python_child('')[-2]} a.module word\n"


def test_a_program_in_one_file_is_its_own_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert python_child("a.module", "word") == [sys.executable, FROZEN_CHILD, "a.module", "word"]


@pytest.mark.parametrize(
    ("name", "text", "arguments"),
    [
        ("numpy", "", ("-m", "guide", "hello")),
        ("llama_cpp", "x = = 1\n", ("-m", "guide", "hello")),
        ("typer", "raise SystemExit(5)\n", ("models", "list")),
        ("token", "x = = 1\n", ("--help",)),
    ],
)
def test_a_file_that_hides_a_library_is_named(name: str, text: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    """It was an unexpected error, a traceback, or an exit without a word."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / f"{name}.py").write_text(text)
    path = os.pathsep.join((ROOT, str(folder)))
    done = run(sys.executable, "-m", "chat", *arguments, folder=tmp_path, environment={"PYTHONPATH": path})
    assert (done.returncode, done.stderr.splitlines()[-2:]) == (
        2,
        [
            f"error: {folder / name}.py hides a library that this program needs",
            "hint: take its folder out of PYTHONPATH",
        ],
    )
