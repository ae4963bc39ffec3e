"""The commands that print, create and edit the settings file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from stat import S_IMODE

import pytest

from chat.cli.main import run
from chat.config.option_types import option_specs
from chat.config.options import Settings
from chat.config.resolve import resolve_settings
from chat.config.settings_file import initial_text, toml_value
from chat.system.paths import config_folder
from tests.environments import pipes


def test_the_initial_file_changes_nothing_and_names_every_persistent_setting(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(initial_text())
    assert resolve_settings({}, {}, file).settings == Settings()
    for name, each in option_specs().items():
        assert (f"\n# {name} = " in initial_text()) == (each.option.persistent and name != "preset")


def test_every_commented_line_is_valid_toml_without_its_mark() -> None:
    lines = [line[2:] for line in initial_text().splitlines() if line.startswith("# ") and " = " in line]
    for line in lines:
        tomllib.loads(line)


@pytest.mark.parametrize("value", ['a"b\\c\n\x01\x7fé', 3, 0.5, True, ["a", "b"], []])
def test_a_written_value_is_read_back(value: object) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}") == {"x": value}


def test_init_writes_once_and_edit_checks_what_was_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = config_folder() / "config.toml"
    assert run(["config", "init"]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    assert [S_IMODE(place.stat().st_mode) for place in (file, file.parent)] == [0o600, 0o700]
    assert run(["config", "init"]) == 2
    assert capsys.readouterr().err == f"error: {file} exists\nhint: `mistral-chat config edit` opens it\n"
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "sed -i 's/^# top_k = 40/top_k = many/'")
    assert run(["config", "edit"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {file}: ")


def test_show_prints_each_value_and_its_origin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config_folder().mkdir(parents=True)
    (config_folder() / "config.toml").write_text("\ntemperature = 0.1\n")
    monkeypatch.setenv("MISTRAL_CHAT_TOP_K", "7")
    assert run(["config", "show", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["temperature"] == {"value": 0.1, "origin": f"{config_folder() / 'config.toml'}, line 2"}
    assert plain["top_k"] == {"value": 7, "origin": "$MISTRAL_CHAT_TOP_K"}
    assert plain["top_p"] == {"value": 0.95, "origin": "default"}


def test_an_editor_that_fails_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "no-such-editor")
    assert run(["config", "edit"]) == 2
    assert capsys.readouterr().err == "error: the editor `no-such-editor` failed\nhint: set $EDITOR to yours\n"


def change(*arguments: str) -> tuple[int, str]:
    """Exit code and error of `config set`."""
    environment = pipes()
    return run(["config", "set", *arguments], environment), environment.err


def test_set_changes_one_line_and_keeps_the_rest() -> None:
    file = config_folder() / "config.toml"
    assert change("model", 'mine "x"') == (0, "")
    assert file.read_text() == 'model = "mine \\"x\\""\n'
    before = '# mine\ntemperature = 0.5 # warm\n# model = ""\nmax-tokens = 5\n[preset.a]\nmodel = "b"\n# top_k = 1'
    file.write_text(before)
    assert [change("model", "m.gguf"), change("temp", "0.2"), change("temperature", "0.2")][::2] == [(0, ""), (0, "")]
    assert [change("max_tokens", "default"), change("seed", "7"), change("top-k", "default")] == [(0, "")] * 3
    assert file.read_text() == (
        '# mine\ntemperature = 0.2\nmodel = "m.gguf"\nseed = 7\n[preset.a]\nmodel = "b"\n# top_k = 1'
    )


def test_set_appends_to_a_file_without_a_last_line_break() -> None:
    file = config_folder() / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("seed = 7")
    assert change("quiet", "true") == (0, "")
    assert file.read_text() == "seed = 7\nquiet = true\n"


def test_set_changes_a_file_with_servers_and_presets() -> None:
    """Once a file named a server, every change was refused as one that spans several lines."""
    file = config_folder() / "config.toml"
    file.parent.mkdir(parents=True)
    tables = '[remote.lab]\nurl = "http://localhost:8000"\nmodel = "m"\n[preset.a]\ntop_k = 3\n'
    file.write_text(tables)
    assert [change("model", "m.gguf"), change("seed", "7"), change("model", "n.gguf")] == [(0, "")] * 3
    assert file.read_text() == f'model = "n.gguf"\nseed = 7\n{tables}'
    assert [change("model", "default"), change("seed", "default"), change("remote", "default")] == [(0, "")] * 3
    assert file.read_text() == tables


@pytest.mark.parametrize(
    ("text", "arguments", "error"),
    [
        (
            '[remote.lab]\nurl = "http://localhost:8000"\n',
            ("remote", "lab"),
            "error: {}, line 1: `remote` cannot be set in a file with [remote.lab]\n"
            "hint: `export MISTRAL_CHAT_REMOTE=NAME` names it for good\n",
        ),
        ("", ("modle", "x"), "error: config set: unknown setting `modle`\nhint: did you mean `model`?\n"),
        ("", ("json", "true"), "error: config set: `json` can only be given on the command line\nhint: use `--json`\n"),
        ("", ("temperature", "900"), "error: --temperature must be a number from 0 to 100, not 900\n"),
        ("", ("stop", "x"), "error: `stop` takes several values\nhint: `mistral-chat config edit` opens the file\n"),
        (
            'model = """\nmine"""\n',
            ("model", "x"),
            "error: {}: `model` spans several lines\nhint: `mistral-chat config edit` opens it\n",
        ),
        (
            'model = """\nmine"""\n',
            ("model", "default"),
            "error: {}: `model` spans several lines\nhint: `mistral-chat config edit` opens it\n",
        ),
        (  # without its first line the rest is a server
            'model = """\n[remote.lab]\nurl = "http://localhost:8000" #"""\n',
            ("model", "x"),
            "error: {}: `model` spans several lines\nhint: `mistral-chat config edit` opens it\n",
        ),
        ("modle = 1", ("model", "x"), "error: {}, line 1: unknown setting `modle`\nhint: did you mean `model`?\n"),
    ],
)
def test_set_refuses_what_the_file_may_not_hold(text: str, arguments: tuple[str, ...], error: str) -> None:
    file = config_folder() / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert change(*arguments) == (2, error.format(file))
    assert file.read_text() == text
