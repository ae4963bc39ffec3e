"""Every option for loading or sampling arrives unchanged in the engine's options or the request."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from chat.app import request_builder
from chat.app.request_builder import schema_of
from chat.cli.argv import read_command_line
from chat.config.options import Settings
from chat.config.resolve import resolve_settings
from chat.core.request import EngineOptions, Prompt, Request
from chat.errors import UsageError

MODEL = Path("model.gguf")


def settings_of(flags: list[str]) -> Settings:
    return resolve_settings(read_command_line(flags).flags, {}).settings


def loaded(flags: list[str], *, session: bool = False) -> dict[str, object]:
    options: EngineOptions = request_builder.engine_options(
        settings_of(flags), MODEL, session=session, state_folder=None
    )
    return asdict(options)


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        (["--context", "99"], {"context": 99}),
        (["--window", "off"], {"window": "off"}),
        (["--kv-type", "q8_0"], {"kv_type": "q8_0"}),
        (["--gpu-layers", "7"], {"gpu_layers": "7"}),
        (["--threads", "3"], {"threads": 3}),
        (["--flash-attention", "on"], {"flash_attention": "on"}),
        (["--repack", "off"], {"repack": "off"}),
        (["--mlock"], {"mlock": True}),
        (["--lora", "a.gguf:0.5", "--lora", "b.gguf"], {"lora": (("a.gguf", 0.5), ("b.gguf", 1.0))}),
        (["--draft", "off"], {"draft": "off"}),
        (["--prompt-format", "v3"], {"prompt_format": "v3"}),
        (["--overflow", "drop"], {"overflow": "drop"}),
        (["--dry-run"], {"vocab_only": True}),
        (["--state-cache", "0.5"], {"state_cache_bytes": 1 << 29}),
    ],
)
def test_a_flag_changes_its_part_of_the_engines_options_and_no_other(
    flags: list[str], changed: dict[str, object]
) -> None:
    assert loaded(flags) == {**loaded([]), **changed}


def test_a_session_drops_old_turns_unless_told_otherwise() -> None:
    assert [loaded([], session=session)["overflow"] for session in (True, False)] == ["drop", "error"]
    assert loaded(["--overflow", "error"], session=True)["overflow"] == "error"


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--temperature", "0.1"], "temperature", 0.1),
        (["--top-p", "0.2"], "top_p", 0.2),
        (["--top-k", "3"], "top_k", 3),
        (["--min-p", "0.4"], "min_p", 0.4),
        (["--repeat-penalty", "1.5"], "repeat_penalty", 1.5),
        (["--seed", "6"], "seed", 6),
    ],
)
def test_a_flag_changes_its_part_of_the_sampling_and_no_other(flags: list[str], name: str, value: float) -> None:
    def asked(flags: list[str]) -> Request:
        return request_builder.build_request(Prompt(text="x"), settings_of(flags))

    assert asdict(asked(flags).sampling) == {**asdict(asked([]).sampling), name: value}


def test_functions_are_read_from_their_file(tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    file.write_text('[{"name": "now"}]')
    tools = request_builder.read_tools(settings_of(["--tools", str(file)]))
    assert tools == ({"name": "now"},)
    assert request_builder.build_request(Prompt(text="x"), settings_of([]), tools=tools).prompt.tools == tools


def test_fields_become_properties_in_their_order() -> None:
    assert schema_of("name, age int, tags [str], mood good|bad, note? str, grid [[float]], ok bool,") == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "mood": {"enum": ["good", "bad"]},
            "note": {"type": "string"},
            "grid": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            "ok": {"type": "boolean"},
        },
        "required": ["name", "age", "tags", "mood", "grid", "ok"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age integer", "--schema: no type `integer` in the field 'age integer'"),
        ("1a", "--schema: cannot read the field '1a'"),
        ("", "--schema: cannot read the field ''"),
        ("a,,b", "--schema: cannot read the field ''"),
        ("a, a", "--schema: the field `a` occurs twice"),
        ("a []", "--schema: no type `[]` in the field 'a []'"),
        ("a [str", "--schema: no type `[str` in the field 'a [str'"),
    ],
)
def test_what_is_no_field_is_refused_with_the_field(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        schema_of(text)
    assert caught.value.message == message
