"""Answer through an OpenAI-compatible server."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import asdict
from math import ceil
from typing import TYPE_CHECKING, Any, TypeVar

from chat.core.backend import ModelInfo, Rendered
from chat.core.conversation import FinishReason, Message, ToolCall
from chat.core.events import Completion, Event, Notice, Seconds, TextDelta, TokenCounts, outcome_of
from chat.core.request import Sampling
from chat.errors import ChatError, EngineError, ModelError, UsageError
from chat.remote.connections import Connections
from chat.remote.transport import Busy, Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chat.core.request import Constraint, Request
    from chat.remote.server_address import ServerAddress

Kind = TypeVar("Kind")
FINISH: dict[str, FinishReason] = {"length": "length"}  # every other reason is a stop
EXTRAS = ("top_k", "min_p", "repeat_penalty")  # no standard fields: sent only if changed, else the server's own hold


class RemoteBackend:
    """A `ChatBackend` that sends requests to a server; `reply` may run in several threads at once."""

    def __init__(self, server: ServerAddress, model: str | None) -> None:
        self._server = server
        self._wanted_model = model
        self._info: ModelInfo | None = None
        self._connections = Connections(server)
        self._exchanges: set[Exchange] = set()  # those under way

    def info(self, on_loading: Callable[[float], None] = lambda _: None) -> ModelInfo:
        """What answers: the model that was named, or the only one the server has.

        Raises:
            ChatError: the server cannot be reached, or has several models and none was named.
        """
        if self._info is None:
            model = self._wanted_model or self._only_model()
            self._info = ModelInfo(
                path=self._server.url,
                size=0,
                type="",
                architecture="",
                window=None,
                context=0,
                trained_context=0,
                prompt_format="",
                name=model,
            )
        return self._info

    def reply(self, request: Request) -> Iterator[Event]:
        """Stream one answer.

        Raises:
            ChatError: the server refuses, fails or closes the connection.
        """
        path, body = self._body(request)
        answer = _Answer(self._server)
        with self._exchange() as exchange:
            try:
                for chunk in exchange.events(path, body):
                    if isinstance(chunk, Busy):
                        yield Notice(f"{self._server.url} is busy; it is asked again in {ceil(chunk.seconds)} s")
                        answer.began = time.monotonic() + chunk.seconds
                    else:
                        yield from answer.take(chunk)
            except ChatError:
                if not exchange.aborted:
                    raise
                answer.finish_reason = "interrupted"
        yield answer.done(_sampling_sent(body))

    def answer_all(
        self, requests: Iterable[Request], parallel: int | None, on_notice: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[int, Completion | ChatError]]:
        """Answer many requests, one after the other."""
        for position, request in enumerate(requests):
            outcome = outcome_of(self.reply(request), on_notice)
            yield position, outcome
            if isinstance(outcome, Completion) and outcome.finish_reason == "interrupted":
                return

    def render(self, request: Request) -> Rendered:
        """Not possible: only the server has the template.

        Raises:
            UsageError: always.
        """
        raise UsageError("the server renders the prompt itself", hint="leave out `--dry-run`, or use a local model")

    def count(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """Not possible: only the server has the vocabulary.

        Raises:
            UsageError: always.
        """
        raise UsageError("the server counts tokens itself")

    def cancel(self) -> None:
        """Stop all answers that are coming in."""
        for exchange in tuple(self._exchanges):
            exchange.abort()

    def close(self, *, keep_state: bool = True) -> None:
        """Close the connections."""
        self.cancel()
        self._connections.close()

    @contextmanager
    def _exchange(self) -> Iterator[Exchange]:
        """A request that `cancel` ends."""
        with Exchange(self._server, self._connections) as exchange:
            self._exchanges.add(exchange)
            try:
                yield exchange
            finally:
                self._exchanges.discard(exchange)

    def model_names(self) -> tuple[str, ...]:
        """The models that the server lists.

        Raises:
            ChatError: the server cannot be reached, or lists none.
        """
        with self._exchange() as exchange:
            plain = exchange.json("GET", "/models")
        try:
            return tuple(str(each["id"]) for each in plain["data"])
        except (KeyError, TypeError) as error:
            raise EngineError(f"{self._server.url} does not list its models") from error

    def _only_model(self) -> str:
        names = self.model_names()
        if len(names) != 1:
            listed = self._server.for_display(", ".join(names[:10])) or "none"
            raise ModelError(f"{self._server.url} has {len(names)} models", hint=f"`--remote-model` is one of {listed}")
        return names[0]

    def _body(self, request: Request) -> tuple[str, dict[str, Any]]:
        """The path and the JSON of a request; what the server's API has no standard field for is sent only if changed.

        Raises:
            UsageError: a prompt or a constraint that no such server takes.
        """
        body: dict[str, Any] = {
            "model": self.info().name,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
        }
        optional = {
            "reasoning_effort": request.prompt.effort,
            "max_tokens": request.max_tokens,
            "stop": list(request.stop),
            "seed": request.sampling.seed,
        }
        body |= {name: value for name, value in optional.items() if value not in (None, [])}
        plain, default = asdict(request.sampling), asdict(Sampling())
        body |= {name: plain[name] for name in EXTRAS if plain[name] != default[name]}
        if request.constraint is not None:
            body["response_format"] = _response_format(request.constraint)
        if request.prompt.ids is not None:
            raise UsageError("a remote server takes no token ids", hint="leave out `--raw-ids`")
        if request.prompt.text is not None:
            return "/completions", {**body, "prompt": request.prompt.text}
        if request.prompt.tools:
            body["tools"] = [_tool(each) for each in request.prompt.tools]
        return "/chat/completions", {**body, "messages": [_message(each) for each in request.prompt.messages or ()]}


class _Answer:
    """The answer so far, assembled from the chunks of a stream."""

    def __init__(self, server: ServerAddress) -> None:
        self._server = server
        self._texts: list[str] = []
        self._tokens = TokenCounts()
        self._calls: dict[int, dict[str, str]] = {}
        self._model = ""
        self.finish_reason: FinishReason = "stop"
        self.began = time.monotonic()
        self._first_at: float | None = None  # when the first text or call came

    def take(self, chunk: Any) -> Iterator[TextDelta]:
        """One chunk of the stream, or the whole answer of a server that does not stream.

        Raises:
            EngineError: it is an error, or has an unknown structure.
        """
        try:
            if chunk.get("error"):
                words = self._server.error_text(chunk)
                raise EngineError(f"the server failed{f': {words}' if words else ''}")
            if usage := _known(chunk, "usage", dict):
                self._tokens = _counts(usage)
            self._model = _known(chunk, "model", str) or self._model
            for choice in _part(chunk, "choices", list)[:1]:
                yield from self._take_choice(choice)
        except (AttributeError, KeyError, TypeError) as error:
            raise EngineError("the server sent a chunk with an unknown structure") from error

    def _take_choice(self, choice: dict[str, Any]) -> Iterator[TextDelta]:
        delta = _part(choice, "delta", dict) or _part(choice, "message", dict)
        text = _part(delta, "content", str) or _part(choice, "text", str)
        if reason := _part(choice, "finish_reason", str):
            self.finish_reason = FINISH.get(reason, "stop")
        for call in _part(delta, "tool_calls", list):
            self._take_call(call)
        if self._first_at is None and (text or self._calls):
            self._first_at = time.monotonic()
        if text:
            self._texts.append(text)
            yield TextDelta(text)

    def _take_call(self, call: dict[str, Any]) -> None:
        known = self._calls.setdefault(call.get("index", len(self._calls)), {"id": "", "name": "", "arguments": ""})
        function = _part(call, "function", dict)
        known["id"] = _part(call, "id", str) or known["id"]
        known["name"] += _part(function, "name", str)
        known["arguments"] += _part(function, "arguments", str)

    def done(self, sampling: dict[str, Any]) -> Completion:
        """The complete answer; values that the server did not send stay empty."""
        ended = time.monotonic()
        first_at = ended if self._first_at is None else self._first_at
        return Completion(
            text="".join(self._texts),
            finish_reason=self.finish_reason,
            ids=None,
            prompt_ids_sha256="",
            tokens=self._tokens,
            seconds=Seconds(prompt=max(first_at - self.began, 0.0), generate=ended - first_at),
            sampling=sampling,
            tool_calls=tuple(ToolCall(each["name"], each["arguments"], each["id"]) for each in self._calls.values()),
            model=self._model,
        )


def _part(plain: dict[str, Any], name: str, kind: type[Kind]) -> Kind:
    """A part of what a server sent; empty if it is null or missing.

    Raises:
        TypeError: it is something else.
    """
    value = plain.get(name)
    if value is not None and not isinstance(value, kind):
        raise TypeError(name)
    return kind() if value is None else value


def _known(plain: dict[str, Any], name: str, kind: type[Kind]) -> Kind:
    """A part that only describes the answer; empty if it has another type, so that no answer fails for it."""
    value = plain.get(name)
    return value if isinstance(value, kind) else kind()


def _counts(usage: dict[str, Any]) -> TokenCounts:
    return TokenCounts(
        prompt=_known(usage, "prompt_tokens", int),
        cached=_known(_known(usage, "prompt_tokens_details", dict), "cached_tokens", int),
        generated=_known(usage, "completion_tokens", int),
    )


def _sampling_sent(body: dict[str, Any]) -> dict[str, Any]:
    """The sampling options that were sent; None stands for the server's default."""
    return {name: body.get(name) for name in asdict(Sampling())}


def _message(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        plain["tool_calls"] = [
            {"id": each.id, "type": "function", "function": {"name": each.name, "arguments": each.arguments}}
            for each in message.tool_calls
        ]
    if message.role == "tool":
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _tool(plain: dict[str, Any]) -> dict[str, Any]:
    return plain if plain.get("type") == "function" else {"type": "function", "function": plain}


def _response_format(constraint: Constraint) -> dict[str, Any]:
    if constraint.kind != "schema":
        raise UsageError(f"a remote server takes --schema, but no {constraint.kind}", hint="use a local model for it")
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": json.loads(constraint.source)},
    }
