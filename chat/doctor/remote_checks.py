"""Check a server: whether it answers, which models it has, and which parts of a request it obeys."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chat.doctor.machine_checks import Finding
from chat.errors import ChatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chat.app.remotes import RemoteOptions
    from chat.remote.transport import Exchange

WORD = "zq7"  # what no model answers unless it is made to
QUESTION = [{"role": "user", "content": "Say hello."}]
SCHEMA = {"type": "object", "properties": {WORD: {"const": 7}}, "required": [WORD], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": WORD, "parameters": {"type": "object", "properties": {}}}}
MOST_TOKENS = 24


def examine_remote(options: RemoteOptions) -> Iterator[Finding]:
    """Check the server; about eight short answers are asked for.

    Args:
        options: the server and its model.
    """
    from chat.app.remotes import server_models

    began = time.monotonic()
    try:
        models = server_models(options)
    except ChatError as error:
        yield Finding("server", "problem", error.message, error.hint)
        return
    milliseconds = (time.monotonic() - began) * 1000
    yield Finding("server", "ok", f"{options.server.url} answers; its list of models took {milliseconds:.0f} ms")
    yield Finding("models", "ok", ", ".join(map(options.server.for_display, models[:20])) or "none")
    model = options.model or (models[0] if len(models) == 1 else None)
    if model is None:
        yield Finding("model", "note", f"the server has {len(models)} models", "`--remote-model NAME` chooses one")
        return
    yield Finding("model", "ok" if model in models else "note",
                  model if model in models else f"{model} is not in the server's list")  # fmt: skip
    yield from _answer_checks(options, model)


def _answer_checks(options: RemoteOptions, model: str) -> Iterator[Finding]:
    from chat.remote.connections import Connections
    from chat.remote.transport import Exchange

    connections = Connections(options.server)

    def ask(**fields: Any) -> dict[str, Any]:
        body = {"model": model, "messages": QUESTION, "max_tokens": MOST_TOKENS, **fields}
        with Exchange(options.server, connections) as exchange:
            plain = exchange.json("POST", "/chat/completions", body)
        choices = plain.get("choices") if isinstance(plain, dict) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return {}
        return choices[0]

    try:
        with Exchange(options.server, connections) as exchange:
            yield _streaming(exchange, model)
        for name, obeys in _PROBES.items():
            yield _obeyed(name, obeys, ask)
    except ChatError as error:
        yield Finding("answer", "problem", error.message, error.hint)
    finally:
        connections.close()


def _streaming(exchange: Exchange, model: str) -> Finding:
    """How soon the first part of an answer comes, and whether it comes in parts.

    Raises:
        ChatError: there is no answer.
    """
    body = {"model": model, "messages": QUESTION, "max_tokens": MOST_TOKENS, "stream": True}
    began = time.monotonic()
    first, parts = 0.0, 0
    for chunk in exchange.events("/chat/completions", body):
        if not isinstance(chunk, dict) or not chunk.get("choices"):
            continue
        parts += 1
        first = first or time.monotonic() - began
    words = f"the first part came after {first:.2f} s, the last of {parts} after {time.monotonic() - began:.2f} s"
    if parts > 1:
        return Finding("streaming", "ok", words)
    return Finding("streaming", "note", "the answer came in one piece" if parts else "the answer was empty")


def _obeyed(name: str, obeys: Callable[[Callable[..., dict[str, Any]]], bool], ask: Any) -> Finding:
    try:
        is_obeyed = obeys(ask)
    except ChatError as error:
        return Finding(name, "note", f"refused: {error.message}")
    return Finding(name, "ok", "obeyed") if is_obeyed else Finding(name, "note", "accepted, but without effect")


def _text(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    return text if isinstance(text, str) else ""


def _has_schema(ask: Callable[..., dict[str, Any]]) -> bool:
    schema = {"name": "answer", "strict": True, "schema": SCHEMA}
    with suppress(ValueError):
        return bool(json.loads(_text(ask(response_format={"type": "json_schema", "json_schema": schema}))) == {WORD: 7})
    return False


def _has_tools(ask: Callable[..., dict[str, Any]]) -> bool:
    message = ask(tools=[TOOL], tool_choice={"type": "function", "function": {"name": WORD}}).get("message")
    return isinstance(message, dict) and bool(message.get("tool_calls"))


def _has_seed(ask: Callable[..., dict[str, Any]]) -> bool:
    first, second = (_text(ask(temperature=1.5, seed=7)) for _ in range(2))
    return bool(first) and first == second


_PROBES: dict[str, Callable[[Callable[..., dict[str, Any]]], bool]] = {
    "schema": _has_schema,
    "grammar": lambda ask: _text(ask(grammar=f'root ::= "{WORD}"')).strip() == WORD,
    "regex": lambda ask: _text(ask(structured_outputs={"regex": WORD})).strip() == WORD,
    "logprobs": lambda ask: bool((ask(logprobs=True, top_logprobs=2).get("logprobs") or {}).get("content")),
    "tools": _has_tools,
    "seed": _has_seed,
}
