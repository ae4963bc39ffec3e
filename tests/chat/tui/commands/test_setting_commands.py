"""`/model`, `/set`, `/show`, `/system`, `/preset` and `/raw` in a session."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copyfile
from types import SimpleNamespace
from typing import Any

import pytest

from chat.config.conflicts import has_effect
from chat.config.resolve import resolve_settings
from chat.core.backend import ModelInfo
from chat.system.paths import models_folder
from chat.tui.commands.model_commands import MODEL_HINT, model_facts, switch_model
from chat.tui.commands.session_options import (
    changeable_options,
    find_option,
    parse_value,
    session_hint,
    session_sentence,
)
from chat.tui.commands.setting_commands import show_options
from tests.folders import ROOT


@pytest.mark.parametrize(
    ("in_a_shell", "in_a_session"),
    [
        ("name a GGUF file with `-m FILE`", "name a GGUF file with `/model FILE`"),
        ("leave out `--draft off` or use `--mlock`", "use `/set draft default` or use `/set mlock on`"),
        ("`--remote-model NAME` chooses one", "`/model NAME` chooses one"),
        ("`--think-limit 9` ends it sooner", "`/think limit 9` ends it sooner"),
        ("`mistral-chat models list` shows what is here", "`/model` shows what is here"),
        ("leave out `--draft`, or close other programs", "use `/set draft default`, or close other programs"),
        (
            "use fewer `--gpu-layers`, a smaller `--context`, or `--kv-type q8_0`",
            "use fewer gpu-layers (`/set gpu-layers N`), a smaller context (`/set context N`), or `/set kv-type q8_0`",
        ),
        ("`-m` takes models, `--lora` adapters", "`/model` takes models, `/set lora` adapters"),
        ("`mistral-chat convert CHECKPOINT -t Q4_K_M`", "`mistral-chat convert CHECKPOINT -t Q4_K_M`"),
        ("`--no-history` keeps nothing", "`--no-history` keeps nothing"),
        ("use https, or add `--insecure`", "use https, or use `/set insecure on`"),
        ("`--no-markdown` shows the marks", "`/set markdown off` shows the marks"),
        ("`-n` allows more", "`/set max-tokens` allows more"),
        ("add `--overwrite`", "add `--overwrite`"),
        ("leave out `--tools` and `--run-tools`", "`/tools off` leaves them out"),
    ],
)
def test_a_hint_names_what_a_session_takes(in_a_shell: str, in_a_session: str) -> None:
    assert session_hint(in_a_shell) == in_a_session


@pytest.mark.parametrize(
    ("in_a_shell", "in_a_session"),
    [
        ("`--gpu-layers 4` has no effect", "`/set gpu-layers 4` has no effect"),
        ("it does not think, so `--think on` changes nothing", "it does not think, so `/think on` changes nothing"),
        ("--temperature must be a number, not 'x'", "`temperature` must be a number, not 'x'"),
        ("`--kv-type q8_0` needs it, but `--mlock` is off", "`/set kv-type q8_0` needs it, but `mlock` is off"),
        ("`convert F --window 64` gives it; `--window off` does without",
         "`convert F --window 64` gives it; `/set window off` does without"),
        ("--choice and --no-history are of a shell", "--choice and --no-history are of a shell"),
        ("a well-known name--context or a--seed", "a well-known name--context or a--seed"),
    ],
)  # fmt: skip
def test_a_note_or_an_error_names_options_as_a_session_lists_them(in_a_shell: str, in_a_session: str) -> None:
    """`/set temperature x` was answered with the flag of a shell."""
    assert session_sentence(in_a_shell) == in_a_session


def test_every_hint_of_the_list_names_commands_that_a_session_takes() -> None:
    """One named the same command twice, and another one `/set insecure`, which changes nothing."""
    sentences = (ROOT / "tests/sentences.txt").read_text(encoding="utf-8").splitlines()
    hints = [hint for text in sentences if (hint := session_hint(text)) != text]
    assert len(hints) > 20
    for hint in hints:
        commands = re.findall(r"`/set ([a-z-]+)(?: ([^`]+))?`", hint)
        assert len({*commands}) == len(commands), hint
        assert "add `/set" not in hint
        for name, value in commands:
            spec = find_option(name)
            assert spec.name in changeable_options()
            assert value or spec.kind is not bool, hint
            if value and not value.isupper() and "{" not in value:
                parse_value(spec, value)


def test_facts_are_readable_and_leave_out_details_for_reports() -> None:
    details = {
        "cells": 4608, "rolling": True, "batch": 256, "threads": 1, "repack": False, "cache_bytes": 603979776,
        "copied_bytes": 0, "prompt_format_reason": "the file names it",
    }  # fmt: skip
    path = str(Path.home() / "models" / "7b.gguf")
    info = ModelInfo(path, 4_370_000_000, "Q4_K_M", "granite_swa", 4096, 32768, 32768, "v1", details=details)
    assert model_facts(info) == {
        "file": "~/models/7b.gguf",
        "size": "4.4 GB",
        "type": "Q4_K_M, granite_swa",
        "context": "32,768 tokens (trained on 32,768)",
        "window": "4,096 tokens",
        "pictures": "none",
        "prompts": "v1 (the file names it)",
        "threads": "1",
        "repack": "off",
        "cache memory": "604 MB",
    }


@pytest.mark.slow
def test_the_model_is_switched_within_the_conversation(start: Any, tmp_path: Path) -> None:
    (tmp_path / "other.gguf").touch()
    (tmp_path / "bad.gguf").touch()
    others = {
        "other.gguf": {"scripts": [[["text", "other speaks"]]], "window": 64},
        "bad.gguf": {"load_error": "bad.gguf is no GGUF file"},
    }
    terminal = start(others=others)
    terminal.run("hello", "You said: hello")
    terminal.run("/model other.gguf", "Now using other (")
    terminal.run("and you?", "other speaks")
    terminal.run("/context", "You said: hello")
    terminal.run("/model missing.gguf", "error: there is no model `missing.gguf`")
    terminal.run("/model bad.gguf", "error: bad.gguf is no GGUF file")
    terminal.run("/model", "* other")
    terminal.run("/model info", "64 tokens")
    terminal.run("/set context 64", "context          64  /set")


def session_with_options(columns: int, **given: Any) -> tuple[Any, list[str]]:
    """What `/show` needs of a session whose engine has loaded a model, and the lines that it shows."""
    shown: list[str] = []
    details = {"threads": 8, "gpu_layers": 33, "repack": False, "flash_attention_used": True}
    state = SimpleNamespace(
        screen=SimpleNamespace(width=columns),
        resolved=resolve_settings(given, {}, None),
        config_file=None,
        session=SimpleNamespace(conversation=SimpleNamespace(system=given.get("system"))),
        backend=SimpleNamespace(
            info=ModelInfo("/7b.gguf", 1000, "Q8_0", "llama", 4096, 32768, 32768, "v1", details=details)
        ),
        show=lambda *lines: shown.extend("".join(span.text for span in line).rstrip() for line in lines),
        report=shown.append,
    )
    state.settings = state.resolved.settings
    return state, shown


def shown_options(state: Any) -> list[str]:
    """The options that have an effect in this session."""
    return [name for name in changeable_options() if has_effect(name, state.settings)]


def test_show_lists_what_is_not_at_its_default() -> None:
    state, shown = session_with_options(40, model="/home/me/models/mistral-7b-Q4_K_M.gguf", top_k=7, temperature=0.7)
    show_options(state, "")
    count = len(shown_options(state)) - 2
    assert shown == [
        "* model …ls/mistral-7b-Q4_K_M.gguf flag",
        "  top-k 7                          flag",
        f"{count} other options have their defaults; /show all lists them.",
    ]


def test_show_without_changes_is_one_line() -> None:
    state, shown = session_with_options(80)
    show_options(state, "")
    assert shown == [f"All {len(shown_options(state))} options have their defaults; /show all lists them."]


@pytest.mark.parametrize(("columns", "default"), [(80, "default"), (40, "defau…")])
def test_show_all_aligns_every_option_and_says_what_the_engine_chose(columns: int, default: str) -> None:
    state, shown = session_with_options(columns, model="/m/" + "x" * 90, system="Be brief. " * 9, gpu_layers="all")
    show_options(state, "all")
    lines = {line[2:].split()[0]: line for line in shown if line[:2] in ("* ", "  ")}
    assert {*lines} == {name.replace("_", "-") for name in shown_options(state)}
    assert max(map(len, shown[:-1])) < columns
    assert len({line.rindex(" ") for line in lines.values()}) == 1
    assert {name: line[2:].split(maxsplit=1)[1].rsplit(maxsplit=1) for name, line in lines.items() if "(" in line} == {
        "context": ["auto (32,768)", default],
        "window": ["auto (4,096)", default],
        "gpu-layers": ["all (33)", "flag"],
        "threads": ["auto (8)", default],
        "flash-attention": ["auto (on)", default],
        "repack": ["auto (off)", default],
    }


def session_with(model: Path, columns: int) -> tuple[Any, list[str]]:
    """What the commands for models need of a session, and the lines that they show."""
    shown: list[str] = []
    state = SimpleNamespace(
        screen=SimpleNamespace(width=columns),
        settings=SimpleNamespace(remote=None, remotes=()),
        model_path=str(model),
        backend=SimpleNamespace(options=SimpleNamespace(model_path=str(model))),
        model_name=model.stem,
        show=lambda *lines: shown.extend("".join(span.text for span in line) for line in lines),
        report=shown.append,
    )
    return state, shown


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (
            80,
            [
                "  NAME         SIZE  TYPE  WINDOW  WHERE",
                "* mine         8 MB  F32   64      elsewhere",
                "  here.gguf    8 MB  F32   64      current folder",
                "  other model  8 MB  F32   64      models",
            ],
        ),
        (
            40,
            [
                "  NAME         SIZE  TYPE  WINDOW",
                "* mine         8 MB  F32   64",
                "  here.gguf    8 MB  F32   64",
                "  other model  8 MB  F32   64",
            ],
        ),
    ],
)
def test_models_are_listed_the_present_one_first(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int, lines: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    models_folder().mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for path in (tmp_path / "elsewhere/mine.gguf", tmp_path / "here.gguf", models_folder() / "other model.gguf"):
        copyfile(tiny_model, path)
    (tmp_path / "broken.gguf").touch()
    state, shown = session_with(tmp_path / "elsewhere/mine.gguf", columns)
    switch_model(state, "")
    assert sorted(shown[: len(lines)]) == sorted(lines)
    assert (shown[:2], shown[len(lines) :]) == (lines[:2], ["", MODEL_HINT])


def test_a_model_that_cannot_be_used_does_not_end_a_session_without_answers(start: Any, tmp_path: Path) -> None:
    """Once the session ended, because a failed load before the first answer was taken for the first load."""
    (tmp_path / "bad.gguf").touch()
    terminal = start(others={"bad.gguf": {"load_error": "bad.gguf is no GGUF file"}})
    terminal.wait("/ 32,768")
    terminal.run("/model bad.gguf", "error: bad.gguf is no GGUF file")
    terminal.run("hello", "You said: hello")


@pytest.mark.slow
def test_settings_are_checked_shown_and_used(start: Any) -> None:
    terminal = start(lines=40)
    terminal.run("/set temperature 0.2", "temperature      0.2  /set")
    terminal.run("/set temp 900", "`temperature` must be a number from 0 to 100, not 900")
    terminal.run("/set tempratur 1", "did you mean `temperature`?")
    terminal.run("/set seed 99999999999", "`seed` must be a whole number from 0 to 4294967294, not 99999999999")
    terminal.run("/set top-k = 7", "top-k            7  /set")
    terminal.run("/set top_p=0.5", "top-p            0.5  /set")
    terminal.run("/set json on", "`--json` can only be given on the command line")
    terminal.run("/set stop '### '", "stop             '### '  /set")
    terminal.run("/show temperature", "Randomness; 0 takes the likeliest token each time.")
    terminal.run("/set temperature default", "temperature      0.7  /set")
    terminal.run("/set temperature 0.2", "temperature      0.2  /set")
    terminal.run("hello", "You said: hello")
    terminal.run("/stats", "temperature 0.2")
    terminal.run("/show", "other options have their defaults")
    terminal.run("/show all", "/set OPTION VALUE changes one")
    assert "kv-type          f16" in terminal.text()


@pytest.mark.slow
def test_the_system_prompt_is_shown_changed_and_removed(start: Any) -> None:
    terminal = start(flags={"system": "Be brief."})
    terminal.run("/system", "Be brief.")
    terminal.run("/system Be long.", "Be long.")
    terminal.run("hi", "You said: hi")
    terminal.run("/context", "Be long.")
    terminal.run("/system none", "There is no system prompt.")


@pytest.mark.slow
def test_raw_switches_markdown_off_and_on(start: Any) -> None:
    terminal = start([["text", "**bold**"]], [["text", "**bold**"]])
    terminal.run("/raw", "Answers are shown as they are written.")
    terminal.run("go", "**bold**")
    terminal.run("/raw off", "Answers are shown with Markdown styled.")
    terminal.run("go", "\nbold\n")


def test_a_preset_sets_its_values(start: Any, tmp_path: Path) -> None:
    config = tmp_path / "home" / "config"
    config.mkdir(parents=True)
    (config / "config.toml").write_text('[preset.code]\nsystem = "You write code."\ntemperature = 0.1\n')
    terminal = start()
    terminal.run("/preset", "Presets: code.")
    terminal.run("/preset code", "temperature      0.1  /preset code")
    terminal.run("/system", "You write code.")
    terminal.run("/preset cod", "no preset `cod`")


@pytest.mark.parametrize("columns", [80, 40])
def test_an_option_takes_one_line_for_every_origin_and_width(start: Any, tmp_path: Path, columns: int) -> None:
    config = tmp_path / "home" / "config"
    config.mkdir(parents=True)
    (config / "config.toml").write_text(f'top_k = 3\nstop = ["{"x" * 99}"]\n[preset.{"p" * 40}]\nmin_p = 0.5\n')
    terminal = start(columns=columns, lines=60, flags={"preset": "p" * 40})
    terminal.run("/show", "other options have their defaults")
    shown = {line[2:].split(" ")[0]: line for line in terminal.lines() if line[:1] in " *"}
    assert re.fullmatch(r"  top-k +3 +config.toml:1", shown["top-k"])
    assert re.fullmatch(r"  min-p +0\.5 +preset p+…?", shown["min-p"])
    assert re.fullmatch(r"  stop +'xx+… +config\.t\S*", shown["stop"])
    assert not [line for line in terminal.lines() if line.startswith(("ppp", "xxx"))]  # of the line before


def test_a_word_of_a_command_is_asked_back_once_and_the_model_is_remembered(start: Any, tmp_path: Path) -> None:
    """The model answered `exit`, and the next session knew no model."""
    terminal = start()
    terminal.wait("/ 32,768")
    terminal.run("exit", "Did you mean `/bye`? Enter `exit` again to send it as a message.")
    terminal.run("exit", "You said: exit")
    terminal.run("run mistral", "Did you mean `/model mistral`?")
    terminal.run("list the planets", "You said: list the planets")
    remembered = json.loads((tmp_path / "home/data/last-model.json").read_text())
    assert Path(remembered["model"]).name == "program.py"


def test_without_history_the_model_is_not_remembered(start: Any, tmp_path: Path) -> None:
    terminal = start(flags={"no_history": True})
    terminal.wait("/ 32,768")
    terminal.run("hello", "You said: hello")
    assert not (tmp_path / "home/data").exists()
