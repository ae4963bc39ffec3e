"""The protocol of what answers requests, and the values that it reports about its model and its prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chat.core.conversation import Message
    from chat.core.events import Completion, Event
    from chat.core.request import Request
    from chat.errors import ChatError

ThinkingControl = Literal["", "template", "effort", "system prompt"]


@dataclass(frozen=True)
class ModelInfo:
    """The loaded model, as reports and the toolbar show it.

    Attributes:
        path: the model's file, or the URL of a server.
        size: bytes of the file; 0 if unknown.
        type: the type of most tensors, e.g. Q4_K_M.
        architecture: GGUF's `general.architecture`.
        window: the sliding window in tokens; None without one.
        context: tokens that fit. Where a window keeps memory constant this is the model's own limit.
        trained_context: the context of the training, in tokens.
        prompt_format: the name of the format in which messages become tokens.
        sha256: the hash of the file, if it was computed.
        name: the model's own name.
        system_prompt: the one that the model was released with; empty for none.
        efforts: the reasoning efforts that it can be told; empty for none.
        thinking_control: what switches its reasoning on and off; empty for nothing.
        server: the name of a server as histories have it; empty for a model on this machine.
        details: device, layers offloaded, threads, bytes of the cache and so on, for `--json`.
    """

    path: str
    size: int
    type: str
    architecture: str
    window: int | None
    context: int
    trained_context: int
    prompt_format: str
    sha256: str | None = None
    name: str = ""
    system_prompt: str = ""
    efforts: tuple[str, ...] = ()
    thinking_control: ThinkingControl = ""
    server: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rendered:
    """A prompt as the model reads it.

    Attributes:
        text: all tokens as text, control tokens included.
        ids: all token ids.
        prompt_format: the name of the format.
        dropped: how many of the oldest turns do not fit and are left out.
    """

    text: str
    ids: tuple[int, ...]
    prompt_format: str
    dropped: int = 0


class ChatBackend(Protocol):
    """Answers requests: the engine in the child process, the guide, a remote server, or a script in tests."""

    def info(self, on_loading: Callable[[float], None] = lambda _: None) -> ModelInfo:
        """Wait until the model is loaded, and describe it.

        Args:
            on_loading: called with the fraction that is loaded, from 0 to 1, where it is known.

        Raises:
            ChatError: the model cannot be used.
        """

    def reply(self, request: Request) -> Iterator[Event]:
        """Yield the events of one answer; the last one is a `Completion`.

        `cancel`, called from another thread or a signal handler, ends it with a `Completion` whose `finish_reason` is
        "interrupted".

        Raises:
            ChatError: the request cannot be answered, or the engine stopped (the next call starts another one).
        """

    def answer_all(
        self, requests: Iterable[Request], parallel: int | None, on_notice: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[int, Completion | ChatError]]:
        """Answer many requests, several at a time where that is faster.

        A request is taken from the iterable when it can be started. One that fails gives its error, and the others
        continue. `cancel` ends the iteration early.

        Args:
            requests: the requests; their positions count from 0.
            parallel: how many at a time; None lets the backend decide.
            on_notice: called with each sentence that the user should read.

        Yields:
            (position, outcome) of each request, in the order in which they end.
        """

    def render(self, request: Request) -> Rendered:
        """The prompt's text and ids; no answer is generated.

        Raises:
            ChatError: the prompt format does not allow the messages, or a server does not give ids.
        """

    def count(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """How many tokens the content of each message has, without the tokens that the prompt format adds.

        Raises:
            ChatError: a server does not count tokens.
        """

    def cancel(self) -> None:
        """Stop the current answer soon; without effect when there is none."""

    def close(self, *, keep_state: bool = True) -> None:
        """Release the model; without effect when that was done before.

        Args:
            keep_state: save the cache for the next start, which may take seconds; else end as soon as possible.
        """
