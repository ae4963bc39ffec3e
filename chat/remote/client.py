"""Answer through an OpenAI-compatible server."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from chat.core.backend import ModelInfo, Rendered
from chat.core.events import Completion, Event, Notice, TextDelta
from chat.errors import ChatError, EngineError, ModelError, UsageError
from chat.remote.answer import Answer
from chat.remote.connections import Connections
from chat.remote.constraint_check import check_answer, unwrapped
from chat.remote.request_body import json_object_request, outgoing_request
from chat.remote.request_pool import RequestPool
from chat.remote.server_errors import EmptyStreamError, RejectedRequestError, TemporaryError, UnavailableError
from chat.remote.server_kind import kind_of_host, kind_of_models
from chat.remote.token_logprobs import choice_probabilities
from chat.remote.transport import TRIES, Busy, Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chat.core.conversation import Message
    from chat.core.request import Request
    from chat.remote.request_body import OutgoingRequest
    from chat.remote.server_address import ServerAddress
    from chat.remote.server_kind import ServerKind

UNFINISHED = ("length", "interrupted", "content_filter", "refusal")  # such an answer need not match its constraint


class RemoteBackend:
    """A `ChatBackend` that sends requests to a server; `reply` may run in several threads at once."""

    def __init__(self, server: ServerAddress, model: str | None) -> None:
        self._server = server
        self._wanted_model = model
        self._info: ModelInfo | None = None
        self._connections = Connections(server)
        self._exchanges: set[Exchange] = set()  # those under way
        self._pool: RequestPool | None = None  # answers a batch
        self._asking = threading.Lock()  # for the kind
        by_host = kind_of_host(server)
        self._kind: ServerKind | None = None if by_host == "unknown" else by_host  # until the server was asked
        self._refused: set[str] = set()  # fields that nobody asked for and the server does not take
        self._lacks_schemas = False  # whether the server refused a schema

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
                server=self._server.name,
            )
        return self._info

    def reply(self, request: Request) -> Iterator[Event]:
        """Stream one answer.

        Raises:
            ChatError: the server refuses, fails or closes the connection, or its answer breaks the constraint.
        """
        return self._reply(request)

    def _reply(self, request: Request, pool: RequestPool | None = None) -> Iterator[Event]:
        """The same; the requests of a pool, which tries again itself, are sent once."""
        outgoing = outgoing_request(request, self.info().name, self._kind or "unknown", self.kind)
        outgoing = self._without_refused(outgoing)
        while True:
            answer = Answer(self._server, parts_marks=request.prompt.messages is not None, continued=outgoing.continued)
            try:
                yield from self._stream(outgoing, answer, pool)
            except (RejectedRequestError, EmptyStreamError) as error:
                simpler = self._simpler(outgoing, error)
                if simpler is None:
                    raise
                outgoing = simpler
            else:
                break
        yield from _ended(answer, outgoing, request)

    def _stream(self, outgoing: OutgoingRequest, answer: Answer, pool: RequestPool | None) -> Iterator[Event]:
        """The events of an answer as they come; text that is wrapped into JSON is held back."""
        with self._exchange(pool) as exchange:
            try:
                for chunk in exchange.events(outgoing.path, outgoing.body):
                    if isinstance(chunk, Busy):
                        yield Notice(f"{self._server.url} is busy; asking again in {ceil(chunk.seconds)} s")
                        answer.began = time.monotonic() + chunk.seconds
                    else:
                        yield from _shown(answer.take(chunk), outgoing)
                if self._kind == "llama-cpp-python" and not answer.has_ended and outgoing.body["stream"]:
                    # it breaks an answer off for the next request and ends the stream as if it were complete
                    raise UnavailableError(f"{self._server.url} broke the answer off for another request", is_cut=True)
            except ChatError:
                if not exchange.aborted:
                    raise
                answer.finish_reason = "interrupted"
            yield from _shown(answer.finish(is_whole=answer.finish_reason != "interrupted"), outgoing)

    def _without_refused(self, outgoing: OutgoingRequest) -> OutgoingRequest:
        """The request in the form in which this server takes it, as far as that was learned."""
        body = {name: value for name, value in outgoing.body.items() if name not in self._refused}
        sampling = outgoing.sampling if "seed" not in self._refused else {**outgoing.sampling, "seed": None}
        dropped = (
            replace(outgoing, body=body, sampling=sampling) if self._refused & set(outgoing.volunteered) else outgoing
        )
        return json_object_request(dropped) if self._lacks_schemas and _has_schema(dropped) else dropped

    def _simpler(
        self, outgoing: OutgoingRequest, error: RejectedRequestError | EmptyStreamError
    ) -> OutgoingRequest | None:
        """The request without what the server refused, if the user did not ask for that; None if nothing can go."""
        if isinstance(error, EmptyStreamError):  # without a stream the server says what is wrong
            body = {name: value for name, value in outgoing.body.items() if name != "stream_options"}
            return replace(outgoing, body={**body, "stream": False}) if body["stream"] else None
        refused = {name for name in outgoing.volunteered if name in outgoing.body and name in error.text}
        if refused:
            self._refused |= refused | ({"seed"} if "random_seed" in refused else set())
            return self._without_refused(outgoing)
        if _has_schema(outgoing) and ("response_format" in error.text or "json_schema" in error.text):
            self._lacks_schemas = True
            return json_object_request(outgoing)
        return None

    def answer_all(
        self, requests: Iterable[Request], parallel: int | None, on_notice: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[int, Completion | ChatError]]:
        """Answer many requests at a time; a server that is gone for a while is waited for (`RequestPool`).

        Raises:
            ChatError: the server stays away or refuses us.
        """
        self.info()
        if self.kind() == "llama-cpp-python":  # each request breaks off the one before
            parallel = 1
        self._pool = pool = RequestPool(
            requests, lambda request: self._reply(request, pool), url=self._server.url, parallel=parallel
        )
        try:
            yield from pool.outcomes(on_notice)
        finally:
            self.cancel()
            self._pool = None

    def render(self, request: Request) -> Rendered:
        """Not possible: only the server has the template.

        Raises:
            UsageError: always.
        """
        raise UsageError("the server renders the prompt itself", hint="only a local model shows it")

    def count(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """Not possible: only the server has the vocabulary.

        Raises:
            UsageError: always.
        """
        raise UsageError("the server counts tokens itself")

    def cancel(self) -> None:
        """Stop all answers that are coming in."""
        if self._pool is not None:
            self._pool.cancel()
        for exchange in tuple(self._exchanges):
            exchange.abort()

    def close(self, *, keep_state: bool = True) -> None:
        """Close the connections."""
        self.cancel()
        self._connections.close()

    @contextmanager
    def _exchange(self, pool: RequestPool | None = None) -> Iterator[Exchange]:
        """A request that `cancel` ends."""
        with Exchange(self._server, self._connections, tries=1 if pool else TRIES) as exchange:
            self._exchanges.add(exchange)
            if pool is not None and pool.is_cancelled:  # before the request was known to `cancel`
                exchange.abort()
            try:
                yield exchange
            finally:
                self._exchanges.discard(exchange)

    def kind(self) -> ServerKind:
        """What the server is; asked once, if its host does not tell. One that does not list its models is unknown."""
        with self._asking:
            if self._kind is None:
                try:
                    self.model_names()
                except TemporaryError:
                    raise
                except (EngineError, ModelError):
                    self._kind = self._kind or "unknown"
        return self._kind or "unknown"

    def model_names(self) -> tuple[str, ...]:
        """The models that the server lists.

        Raises:
            ChatError: the server cannot be reached, or lists none.
        """
        with self._exchange() as exchange:
            plain = exchange.json("GET", "/models")
            found = kind_of_models(plain, exchange.header)
        if self._kind in (None, "unknown"):
            self._kind = found
        try:
            return tuple(str(each["id"]) for each in plain["data"])
        except (KeyError, TypeError) as error:
            raise EngineError(f"{self._server.url} does not list its models") from error

    def _only_model(self) -> str:
        names = self.model_names()
        if len(names) != 1:
            listed = self._server.for_display(", ".join(names[:10])) or "none"
            raise ModelError(
                f"{self._server.url} has {len(names)} models", hint=f"choose one with `--remote-model`: {listed}"
            )
        return names[0]


def _ended(answer: Answer, outgoing: OutgoingRequest, request: Request) -> Iterator[Event]:
    """The end of an answer: what was held back, notices, and the completion.

    Raises:
        ChatError: the answer does not match the constraint.
    """
    constraint, done = request.constraint, answer.done(outgoing.sampling)
    if constraint is not None and done.finish_reason not in UNFINISHED and not done.tool_calls:
        answer.replace_text(check_answer(unwrapped(answer.text, outgoing.wrapping), constraint))
        done = answer.done(outgoing.sampling)
        if constraint.kind == "choice" and outgoing.wrapping == "none":
            done = replace(done, choice=choice_probabilities(json.loads(constraint.source), answer.logprobs))
    if outgoing.wrapping != "none" and done.text:
        yield TextDelta(done.text)
    if request.logprobs:
        done = replace(done, logprobs=tuple(answer.logprobs))
        if not answer.logprobs and done.text:
            yield Notice("the server gives no log probabilities")
    yield done


def _shown(events: Iterator[Event], outgoing: OutgoingRequest) -> Iterator[Event]:
    """The events without a text that is still wrapped into JSON."""
    return (each for each in events if outgoing.wrapping == "none" or not isinstance(each, TextDelta))


def _has_schema(outgoing: OutgoingRequest) -> bool:
    """Whether the request has a schema in the standard's field."""
    return bool(outgoing.body.get("response_format", {}).get("type") == "json_schema")
