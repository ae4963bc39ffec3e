"""Turn a request into the JSON that a server takes: what the user set, in the fields that this server has."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from chat.core.request import Sampling
from chat.errors import UsageError
from chat.remote.server_kind import NAMES
from chat.system.characters import whole_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.core.conversation import Message
    from chat.core.request import Constraint, Prompt, Request
    from chat.remote.server_kind import ServerKind

Wrapping = Literal["none", "string", "object"]  # how an answer is put into JSON: as it is, as a text, under a key
WRAPPED = "answer"  # the key
# Alternatives to the first token of a choice, among which all options should be: most servers refuse more
ALTERNATIVES = 20
MANY_ALTERNATIVES = 1000  # of llama-server, which lists those that its grammar forbids, too
STANDARD = ("temperature", "top_p")
EXTRAS = ("top_k", "min_p", "repeat_penalty")  # no fields of the standard
_REPETITION = ("vllm", "sglang")  # call it `repetition_penalty`
_GRAMMARS = ("llama-server", "llama-cpp-python")  # take GBNF
_STANDARD_ONLY = ("openai", "mistral", "ollama")  # ignore or refuse what is not of the standard
_THINKING_SWITCH = ("vllm", "sglang", "llama-server")  # pass `enable_thinking` to the chat template
_JOIN = "\n\n"


@dataclass(frozen=True)
class OutgoingRequest:
    """What is sent for a request.

    Attributes:
        path: of the endpoint.
        body: the JSON.
        sampling: the values in force, by our names; None stands for the server's own.
        volunteered: fields that the user did not ask for, which are left out for a server that refuses them.
        wrapping: how the server puts the answer into JSON.
        continued: the answer that is continued; None for a new one.
    """

    path: str
    body: dict[str, Any]
    sampling: dict[str, Any]
    volunteered: tuple[str, ...] = ()
    wrapping: Wrapping = "none"
    continued: Message | None = None


def outgoing_request(
    request: Request, model: str, host_kind: ServerKind, find_kind: Callable[[], ServerKind]
) -> OutgoingRequest:
    """What is sent for a request.

    Args:
        model: the server's name of the model.
        host_kind: what the server is, as far as it is known.
        find_kind: asks the server what it is; called only if that decides anything.

    Raises:
        UsageError: a prompt, an option or a constraint that this server does not take.
        ChatError: `find_kind` failed.
    """
    prompt = request.prompt
    if prompt.ids is not None:
        raise UsageError("a remote server takes no token ids", hint="leave out `--raw-ids`")
    is_chat = prompt.messages is not None
    sampling = _sampling(request)
    body: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    body |= {name: sampling[name] for name in STANDARD if sampling[name] is not None}
    body |= _extras(sampling, find_kind)
    if prompt.thinks is not None:
        body |= _thinking(find_kind(), thinks=prompt.thinks)
    if request.max_thinking_tokens is not None:
        raise UsageError("a remote server takes no --think-limit", hint="`--think` or `--effort` may work instead")
    body["random_seed" if host_kind == "mistral" else "seed"] = sampling["seed"]
    volunteered = ["stream_options"] + (["seed", "random_seed"] if request.sampling.seed is None else [])
    optional = {
        "reasoning_effort": prompt.effort,
        "max_completion_tokens" if host_kind == "openai" and is_chat else "max_tokens": request.max_tokens,
        "stop": list(request.stop),
    }
    body |= {name: value for name, value in optional.items() if value not in (None, [])}
    wrapping: Wrapping = "none"
    if request.constraint is not None:
        fields, wrapping = _constrained(request.constraint, find_kind(), is_chat=is_chat)
        body |= fields
    is_choice = request.constraint is not None and request.constraint.kind == "choice" and wrapping == "none"
    alternatives = (MANY_ALTERNATIVES if find_kind() == "llama-server" else ALTERNATIVES) if is_choice else 0
    if count := request.logprobs or alternatives:
        body |= {"logprobs": True, "top_logprobs": count} if is_chat else {"logprobs": count}
        volunteered += [] if request.logprobs else ["logprobs", "top_logprobs"]
    if not is_chat:
        body["prompt"] = whole_characters(prompt.text or "")
        return OutgoingRequest("/completions", body, sampling, tuple(volunteered), wrapping)
    if prompt.tools:
        body |= _offered(prompt, find_kind)
    messages = merged_messages(prompt.messages or ())
    continued = (prompt.messages or ())[-1] if prompt.continues and prompt.messages else None
    if continued is not None and not continued.content:  # its reasoning is not sent, so there is nothing to go on with
        continued = None
    if continued is not None:
        kind = find_kind()
        if kind in ("vllm", "sglang"):
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        elif kind == "mistral":
            messages[-1]["prefix"] = True
    return OutgoingRequest(
        "/chat/completions", {**body, "messages": messages}, sampling, tuple(volunteered), wrapping, continued
    )


def merged_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as the API has them, without reasoning; neighbours of one role become one, as templates want it."""
    merged: list[dict[str, Any]] = []
    kept = (each for each in messages if each.role != "assistant" or each.content or each.tool_calls)
    for role, group in groupby(kept, key=lambda each: each.role):
        same = tuple(group)
        if role == "tool":
            merged += [
                {"role": role, "content": whole_characters(each.content), "tool_call_id": each.tool_call_id}
                for each in same
            ]
            continue
        text = _JOIN.join(each.content for each in same if each.content)
        plain: dict[str, Any] = {"role": role, "content": whole_characters(text)}
        if any(each.pictures for each in same):
            plain["content"] = _parts(same)
        if calls := [call for each in same for call in each.tool_calls]:
            plain["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        merged.append(plain)
    return merged


def _parts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Texts and pictures as the API has them; a text after another one begins with a blank line."""
    parts: list[dict[str, Any]] = []
    for part in (part for message in messages for part in message.parts()):
        if not isinstance(part, str):
            parts.append({"type": "image_url", "image_url": {"url": part.data_url}})
        elif parts and parts[-1]["type"] == "text":
            parts[-1]["text"] += _JOIN + whole_characters(part)
        else:
            parts.append({"type": "text", "text": whole_characters(part)})
    return parts


def json_object_request(outgoing: OutgoingRequest) -> OutgoingRequest:
    """The request for a server that knows no schema: any JSON object, with the schema in a message."""
    schema = outgoing.body["response_format"]["json_schema"]["schema"]
    words = f"Answer with a JSON object that matches this JSON schema: {json.dumps(schema)}"
    *before, last = outgoing.body["messages"]
    content = last["content"]
    is_text = isinstance(content, str)
    content = f"{content}{_JOIN}{words}" if is_text else [*content, {"type": "text", "text": words}]
    messages = [*before, {**last, "content": content}]
    return replace(outgoing, body={**outgoing.body, "response_format": {"type": "json_object"}, "messages": messages})


def _sampling(request: Request) -> dict[str, Any]:
    """The values that the user set, and a seed, which is drawn if none was given; the others are the server's."""
    plain, default = asdict(request.sampling), asdict(Sampling())
    given = {name for name in plain if name in request.given or plain[name] != default[name]}
    values = {name: value if name in given else None for name, value in plain.items()}
    if values["seed"] is None:
        values["seed"] = secrets.randbelow(1 << 31)
    return values


def _extras(sampling: dict[str, Any], find_kind: Callable[[], ServerKind]) -> dict[str, Any]:
    given = {name: sampling[name] for name in EXTRAS if sampling[name] is not None}
    if not given:
        return {}
    kind = find_kind()
    if kind in _STANDARD_ONLY:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{NAMES[kind]} takes no {flags}", hint="leave it out, also in the settings")
    if kind in _REPETITION and "repeat_penalty" in given:
        given["repetition_penalty"] = given.pop("repeat_penalty")
    return given


def _thinking(kind: ServerKind, *, thinks: bool) -> dict[str, Any]:
    if kind in _THINKING_SWITCH:
        return {"chat_template_kwargs": {"enable_thinking": thinks}}
    raise UsageError(f"{NAMES[kind]} takes no --think {'on' if thinks else 'off'}", hint="`--effort` may work instead")


def _constrained(constraint: Constraint, kind: ServerKind, *, is_chat: bool) -> tuple[dict[str, Any], Wrapping]:
    """The fields by which this kind of server keeps an answer within a constraint, and what it makes of the answer."""
    source, what = constraint.source, constraint.kind
    if kind in _REPETITION and what != "schema":
        names = {"choice": "choice", "regex": "regex", "gbnf": "grammar", "lark": "grammar"}
        value = json.loads(source) if what == "choice" else source
        if kind == "vllm":
            return {"structured_outputs": {names[what]: value}}, "none"
        if what == "regex":
            return {"regex": value}, "none"
        if what == "gbnf":
            return {"ebnf": value}, "none"
    if kind in _GRAMMARS and what in ("gbnf", "choice"):
        return {"grammar": source if what == "gbnf" else _gbnf(json.loads(source))}, "none"
    if what in ("gbnf", "lark"):
        raise UsageError(
            f"{NAMES[kind]} takes no {'Lark' if what == 'lark' else 'GBNF'} grammar",
            hint="`--schema`, `--regex` and `--choice` work, or use a local model",
        )
    schema = json.loads(source) if what == "schema" else _text_schema(constraint)
    wrapping: Wrapping = "none" if what == "schema" else "string" if kind in _GRAMMARS else "object"
    if wrapping == "object":
        schema = {
            "type": "object", "properties": {WRAPPED: schema}, "required": [WRAPPED], "additionalProperties": False,
        }  # fmt: skip
    if not is_chat:
        if kind == "llama-server":
            return {"json_schema": schema}, wrapping
        if kind == "vllm":
            return {"structured_outputs": {"json": schema}}, wrapping
        raise UsageError(f"{NAMES[kind]} takes --raw without a constraint only", hint="leave out `--raw`")
    if kind == "llama-cpp-python":
        return {"response_format": {"type": "json_object", "schema": schema}}, wrapping
    described = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": described}}, wrapping


def _text_schema(constraint: Constraint) -> dict[str, Any]:
    if constraint.kind == "choice":
        return {"type": "string", "enum": json.loads(constraint.source)}
    # not `(?:`, which llama-cpp-python's grammars do not have: it would answer with any JSON
    return {"type": "string", "pattern": f"^({constraint.source})$"}


def _gbnf(options: Sequence[str]) -> str:
    """The grammar that allows one of the options."""
    return f"root ::= {' | '.join(map(_gbnf_text, options))}"


def _gbnf_text(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(each, f"\\x{ord(each):02X}" if each < " " else each) for each in text) + '"'


def _offered(prompt: Prompt, find_kind: Callable[[], ServerKind]) -> dict[str, Any]:
    """The functions on offer, and whether one must be called.

    llama-server knows no choice by name: it is offered that function alone, and must call one.

    Raises:
        UsageError: the function to call is not on offer.
    """
    tools, choice = [_tool(each) for each in prompt.tools], prompt.tool_choice
    if choice in (None, "auto", "none", "required"):
        return {"tools": tools} if choice is None else {"tools": tools, "tool_choice": choice}
    named = [each for each in tools if each["function"].get("name") == choice]
    if not named:
        raise UsageError(f"--tools has no function {choice}", hint="or use auto, none or required")
    if find_kind() == "llama-server":
        return {"tools": named, "tool_choice": "required"}
    return {"tools": tools, "tool_choice": {"type": "function", "function": {"name": choice}}}


def _tool(plain: dict[str, Any]) -> dict[str, Any]:
    return plain if plain.get("type") == "function" else {"type": "function", "function": plain}
