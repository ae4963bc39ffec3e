"""Turn settings into load options, constraints and requests, and read the files that the settings name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.core.conversation import Message
from chat.core.request import Constraint, EngineOptions, Prompt, Request, Sampling
from chat.errors import DataError, ModelError, UsageError, reason_text
from chat.models.projector import find_projector
from chat.prompts.json_schema import KEYWORDS
from chat.system.paths import expand_path
from chat.system.text_files import can_be_read, is_file, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.config.options import Settings
    from chat.core.events import Completion

    Tool = dict[str, Any]  # the JSON schema of a function, as OpenAI's API has it

GIBIBYTE = 1 << 30
LARGEST_SCALE = 1000  # of an adapter
THINKS = {"auto": None, "hide": None, "on": True, "off": False}  # by the values of `--think`
TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
}
SCHEMA_FORMS = "fields like `name, age int, tags [str]`, a JSON schema in braces, or a file with one"
# what may lie around a schema, from the outside in: the key under which it is, and the keys beside it
_WRAPPERS = (
    ("response_format", ()),
    ("json_schema", ("type",)),
    ("schema", ("name", "description", "strict", "type")),
)
_FIELD = re.compile(r"^(?P<name>[^\W\d]\w*)(?P<optional>\?)?(?:\s+(?P<type>.+))?$")


def engine_options(settings: Settings, model_path: Path, *, session: bool, state_folder: Path | None) -> EngineOptions:
    """How the model is loaded.

    Args:
        session: whether a terminal session uses the model; its overlong prompts lose their oldest messages by default.
        state_folder: the folder for saved states; None to save none.

    Raises:
        UsageError: values that contradict each other or are no numbers.
        ModelError: the draft model or the picture encoder is missing.
    """
    if settings.kv_type in ("q8_0", "q4_0") and settings.flash_attention == "off":
        raise UsageError(
            f"`--kv-type {settings.kv_type}` needs flash attention, but `--flash-attention` is off",
            hint="leave out `--flash-attention off` or use `--kv-type f16`",
        )
    return EngineOptions(
        model_path=str(model_path),
        context=settings.context,
        window=settings.window,
        kv_type=settings.kv_type,
        gpu_layers=settings.gpu_layers,
        threads=settings.threads,
        flash_attention=settings.flash_attention,
        repack=settings.repack,
        mlock=settings.mlock,
        lora=tuple(_adapter(text) for text in settings.lora),
        mmproj=_mmproj(settings.mmproj, model_path),
        picture_size=settings.picture_size,
        draft=_draft(settings.draft),
        prompt_format=settings.prompt_format,
        needs_format=not settings.raw and settings.raw_ids is None,
        overflow=settings.overflow or ("drop" if session else "error"),
        vocab_only=settings.dry_run,
        state_cache_bytes=int(settings.state_cache * GIBIBYTE),
        state_folder=str(state_folder) if state_folder else None,
    )


def build_request(
    prompt: Prompt, settings: Settings, *, tools: Sequence[Tool] = (), session: str | None = None
) -> Request:
    """A request for one answer.

    Args:
        tools: the functions that the model may call, as `read_tools` gives them.
        session: the id of the session whose saved state the prompt continues.

    Raises:
        UsageError: the constraint cannot be used, or nothing makes a local model call a function.
        FileError: a file of the constraint cannot be read.
        DataError: a file of the constraint is not UTF-8.
    """
    choice = settings.tool_choice
    if choice is not None and not settings.remote:
        if choice not in ("auto", "none"):
            raise UsageError(
                f"a local model decides itself whether it calls a function, so it takes no --tool-choice {choice}",
                hint="use auto or none",
            )
        tools, choice = () if choice == "none" else tools, None
    prompt = replace(prompt, tools=tuple(tools), tool_choice=choice)
    return Request(
        prompt=replace(prompt, effort=settings.effort, thinks=THINKS[settings.think]),
        sampling=_sampling(settings),
        max_tokens=settings.max_tokens,
        max_thinking_tokens=settings.think_limit,
        stop=settings.stop,
        constraint=constraint_of(settings),
        logprobs=settings.logprobs,
        session=session,
        given=tuple(sorted(settings.given)),
    )


def after_results(request: Request) -> Request:
    """The request for an answer to results: a call that was wanted has been made, and another one is not."""
    prompt = request.prompt
    if prompt.tool_choice in (None, "none"):
        return request
    return replace(request, prompt=replace(prompt, tool_choice="auto"))


def after_calls(request: Request, done: Completion, results: Sequence[Message]) -> Request:
    """The request for the answer after an answer with calls and their results."""
    answer = Message(
        "assistant",
        done.text,
        ids=done.ids or (),
        finish_reason=done.finish_reason,
        tool_calls=done.tool_calls,
        reasoning=done.reasoning,
    )
    messages = (*(request.prompt.messages or ()), answer, *results)
    return after_results(replace(request, prompt=replace(request.prompt, messages=messages)))


def read_tools(settings: Settings) -> tuple[Tool, ...]:
    """The functions of `--tools`, which the model may call and nobody here runs; read once in a run.

    Raises:
        FileError: a file cannot be read.
        DataError: one is not a JSON list of functions, or not a Python file whose functions can be offered.
    """
    if not settings.tools:
        return ()
    from chat.tools.sources import toolbox_of

    with toolbox_of(settings, runs=False) as toolbox:
        schemas = toolbox.schemas()
        if faults := toolbox.take_notices():
            raise DataError(faults[0])
        return schemas


def system_prompt(settings: Settings) -> str | None:
    """The system prompt, given as text or as a file; empty for none, and None for the model's own.

    Raises:
        UsageError: both are given.
        FileError: the file cannot be read.
        DataError: the file is not UTF-8.
    """
    if settings.system is not None and settings.system_file is not None:
        raise UsageError("--system and --system-file cannot be used together", hint="give only one of them")
    if settings.system_file is not None:
        return read_text(settings.system_file).rstrip("\n")
    return settings.system


def _sampling(settings: Settings) -> Sampling:
    return Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        min_p=settings.min_p,
        repeat_penalty=settings.repeat_penalty,
        seed=settings.seed,
    )


def _adapter(text: str) -> tuple[str, float]:
    """The path and the scale of `PATH[:SCALE]`.

    Raises:
        UsageError: the scale is not within its limits.
    """
    path, colon, scale = text.rpartition(":")
    if colon and not Path(text).exists():
        try:
            number = float(scale)
        except ValueError:
            return text, 1.0
        if not abs(number) <= LARGEST_SCALE:  # in this form NaN is refused, too
            raise UsageError(f"the scale of --lora must be from -{LARGEST_SCALE} to {LARGEST_SCALE}, not {scale[:40]}")
        return path, number
    return text, 1.0


def _mmproj(value: str, model_path: Path) -> str | None:
    """The picture encoder's file: the one that is named, or that belongs to the model; None for none.

    Raises:
        ModelError: there is no such file.
    """
    if value == "off":
        return None
    if value == "auto":
        found = find_projector(model_path)
        return str(found) if found else None
    path = expand_path(value)
    if not is_file(str(path)):
        raise ModelError(f"{value}: no such file", hint="`--mmproj` must be auto, off, or the model's mmproj GGUF file")
    return str(path)


def _draft(value: str) -> str:
    """`lookup`, `off`, or the path of a draft model.

    Raises:
        ModelError: there is no such file.
    """
    if value in ("lookup", "off"):
        return value
    path = expand_path(value)
    if not is_file(str(path)):
        raise ModelError(f"{value}: no such file", hint="`--draft` must be lookup, off, or a small model's GGUF file")
    return str(path)


def constraint_of(settings: Settings) -> Constraint | None:
    """What the answer must match; None if it is free.

    Raises:
        UsageError: more than one constraint, an empty one, or a schema that is no JSON.
        FileError: a named file cannot be read.
        DataError: a named file is not UTF-8.
    """
    given = [
        name
        for name, value in (
            ("--schema", settings.schema),
            ("--grammar", settings.grammar),
            ("--regex", settings.regex),
            ("--choice", settings.choice),
        )
        if value not in (None, ())
    ]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} cannot be used together", hint="give only one of them")
    if settings.choice and settings.logprobs:
        raise UsageError(
            "--choice and --logprobs cannot be used together", hint="--json holds the probability of each choice"
        )
    if "" in (settings.schema, settings.grammar, settings.regex):  # a script's unset variable must not allow any answer
        raise UsageError(f"{given[0]} is empty", hint="leave it out for a free answer")
    if settings.schema:
        return Constraint("schema", _schema_text(settings.schema))
    if settings.grammar:
        text = read_text(Path(settings.grammar)) if can_be_read(settings.grammar) else settings.grammar
        return Constraint("gbnf" if "::=" in text else "lark", text)
    if settings.regex:
        return Constraint("regex", settings.regex)
    if settings.choice:
        return Constraint("choice", json.dumps(list(dict.fromkeys(settings.choice))))
    return None


def schema_of(shorthand: str) -> dict[str, Any]:
    """The schema of an object with the fields of the short form, in this order, all required but those marked `?`.

    A field is `name`, `name type` or `name? type`; a type is str, int, float, bool, `[type]` for a list, or
    `a|b|c` for one of these words.

    Raises:
        UsageError: a field has none of these forms, or a name occurs twice.
    """
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in shorthand.strip().strip(",").split(","):
        field = field.strip()
        match = _FIELD.match(field)
        if match is None:
            raise UsageError(f"--schema: cannot read the field {field!r}", hint=SCHEMA_FORMS)
        if match["name"] in properties:
            raise UsageError(f"--schema: the field `{match['name']}` occurs twice")
        properties[match["name"]] = _type_schema(match["type"] or "str", field)
        if not match["optional"]:
            required.append(match["name"])
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _type_schema(text: str, field: str) -> dict[str, Any]:
    text = text.strip()
    if text in TYPES:
        return TYPES[text]
    if text.startswith("[") and text.endswith("]") and len(text) > 2:
        return {"type": "array", "items": _type_schema(text[1:-1], field)}
    if re.fullmatch(r"[\w-]+(\|[\w-]+)+", text):
        return {"enum": text.split("|")}
    raise UsageError(
        f"--schema: unknown type `{text}` in the field {field!r}", hint="str, int, float, bool, [type] or a|b|c"
    )


def _schema_text(value: str) -> str:
    """The JSON text of a schema that was given as JSON, as a file with JSON, or in the short form."""
    if not value.lstrip().startswith("{") and not can_be_read(value):
        return json.dumps(schema_of(value))
    text = value if value.lstrip().startswith("{") else read_text(Path(value))
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--schema is not JSON: {reason_text(error)}", hint=SCHEMA_FORMS) from error
    schema = unwrapped_schema(plain)
    return text if schema is plain else json.dumps(schema, ensure_ascii=False)


def unwrapped_schema(plain: Any) -> Any:
    """The schema in what OpenAI's clients wrap around one: its name, `strict`, and the kind of the answer.

    Raises:
        UsageError: an object that is neither a schema nor a wrapper of one, so that any answer would be allowed.
    """
    schema = plain
    for key, others in _WRAPPERS:
        if (
            isinstance(schema, dict)
            and key in schema
            and schema.keys() <= {key, *others}
            and schema.get("type", "json_schema") == "json_schema"
        ):
            schema = schema[key]
    if not isinstance(schema, dict):
        if schema is plain:
            return plain
        raise UsageError("--schema has a wrapper around no schema", hint=SCHEMA_FORMS)
    if schema and not any(key in KEYWORDS or key.startswith(("$", "x-")) for key in schema):
        found = ", ".join(f"`{key[:40]}`" for key in list(schema)[:5])
        raise UsageError(f"--schema has none of the keys of a JSON schema, but {found}", hint=SCHEMA_FORMS)
    return schema
