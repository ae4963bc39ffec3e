"""Every option for loading or sampling arrives unchanged in the engine's options or the request."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from chat.app import request_builder
from chat.app.request_builder import schema_of, unwrapped_schema
from chat.batch.records import RecordReader
from chat.cli.argv import read_command_line
from chat.config.options import Settings
from chat.config.resolve import resolve_settings
from chat.core.request import EngineOptions, Prompt, Request
from chat.errors import UsageError
from chat.prompts.tools_json import tools_text

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


def test_a_local_model_takes_no_choice_of_functions_but_to_offer_them_or_not() -> None:
    tools = ({"name": "now"},)

    def offered(choice: str) -> tuple[Any, ...]:
        settings = settings_of(["--tools", "f.json", "--tool-choice", choice])
        return request_builder.build_request(Prompt(text="x"), settings, tools=tools).prompt.tools

    assert (offered("auto"), offered("none")) == (tools, ())
    for choice in ("required", "now"):
        with pytest.raises(UsageError, match=f"takes no --tool-choice {choice}$"):
            offered(choice)
    settings = settings_of(["--remote", "http://localhost:1", "--tools", "f.json", "--tool-choice", "now"])
    assert request_builder.build_request(Prompt(text="x"), settings, tools=tools).prompt.tool_choice == "now"


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
        ("age integer", "--schema: unknown type `integer` in the field 'age integer'"),
        ("1a", "--schema: cannot read the field '1a'"),
        ("", "--schema: cannot read the field ''"),
        ("a,,b", "--schema: cannot read the field ''"),
        ("a, a", "--schema: the field `a` occurs twice"),
        ("a []", "--schema: unknown type `[]` in the field 'a []'"),
        ("a [str", "--schema: unknown type `[str` in the field 'a [str'"),
    ],
)
def test_what_is_no_field_is_refused_with_the_field(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        schema_of(text)
    assert caught.value.message == message


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
PLAIN = {"name": "weather", "description": "d", "parameters": SCHEMA}


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ({"name": "weather", "description": "d", "inputSchema": SCHEMA}, PLAIN),
        ({"name": "weather", "description": "d", "input_schema": SCHEMA}, PLAIN),
        (
            {"type": "custom", "name": "weather", "description": "d", "input_schema": SCHEMA},
            {"type": "function", **PLAIN},
        ),
        (
            {"type": "function", "function": {"name": "weather", "description": "d", "inputSchema": SCHEMA}},
            {"type": "function", "function": PLAIN},
        ),
        ({**PLAIN, "inputSchema": {}}, PLAIN),
        ({"name": "weather", "inputSchema": None}, {"name": "weather", "inputSchema": None}),
    ],
)
def test_the_parameters_of_a_function_are_found_under_other_names(
    tool: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    """MCP's and Anthropic's functions lost their parameters without a word."""
    file = tmp_path / "tools.json"
    file.write_text(json.dumps([tool]))
    tools = request_builder.read_tools(settings_of(["--tools", str(file)]))
    assert tools == (expected,)
    if tool.get("inputSchema", 0) is not None:
        standard = {"type": "function", "function": PLAIN}
        assert json.loads(tools_text(tools)) == [standard]
    records = RecordReader(settings_of([]), lambda text: text)
    record = records.read(1, json.dumps({"prompt": "x", "tools": [tool]}))
    assert record.request is not None
    assert record.request.prompt.tools == (expected,)


ANSWER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    "given",
    [
        ANSWER,
        {"name": "x", "strict": True, "schema": ANSWER},
        {"name": "x", "description": "d", "schema": ANSWER},
        {"schema": ANSWER},
        {"type": "json_schema", "name": "x", "strict": True, "schema": ANSWER},
        {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": ANSWER}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": ANSWER}}},
    ],
)
def test_a_schema_is_taken_out_of_what_clients_wrap_around_it(given: dict[str, Any]) -> None:
    """The wrapper itself was taken for the schema, which binds nothing."""
    assert unwrapped_schema(given) == ANSWER


@pytest.mark.parametrize(
    "given", [{}, {"type": "object", "schema": {}}, {"$ref": "#/$defs/a"}, {"const": 1}, {"title": "t"}]
)
def test_a_schema_of_its_own_stays(given: dict[str, Any]) -> None:
    assert unwrapped_schema(given) is given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "x", "schema": "a"}, "--schema has a wrapper around no schema"),
        ({"json_schema": None}, "--schema has a wrapper around no schema"),
        (
            {"name": "x", "parameters": ANSWER},
            "--schema has none of the keys of a JSON schema, but `name`, `parameters`",
        ),
        ({"a": "int"}, "--schema has none of the keys of a JSON schema, but `a`"),
    ],
)
def test_what_would_allow_any_answer_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        unwrapped_schema(json.loads(json.dumps(given)))
    assert caught.value.message == message
