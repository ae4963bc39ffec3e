"""What a reply yields while it is made, how it ends, and the protocol of whoever makes it. Knows no engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from chat.core.conversation import FinishReason, ToolCall
from chat.errors import ChatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chat.core.conversation import Message
    from chat.core.request import Request


@dataclass(frozen=True)
class LoadProgress:
    """The model is being loaded; `fraction` in 0..1."""

    fraction: float


@dataclass(frozen=True)
class PrefillProgress:
    """The prompt is being read: `done` of `total` tokens that were not cached, after `seconds`."""

    done: int
    total: int
    seconds: float


@dataclass(frozen=True)
class TextDelta:
    """More of the answer: whole characters only, never the beginning of a stop string."""

    text: str


@dataclass(frozen=True)
class Notice:
    """One sentence the person should read: a warning, or what was left out of the context."""

    text: str


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of one reply. `prompt` is the whole prompt, `cached` its part that was not read again.

    A server that does not tell them leaves all of them 0.
    """

    prompt: int = 0
    cached: int = 0
    generated: int = 0
    drafted: int = 0
    accepted: int = 0

    @property
    def are_known(self) -> bool:
        """Whether they were counted: no prompt has no token."""
        return self.prompt > 0


@dataclass(frozen=True)
class Seconds:
    """Wall time of one reply. `load` counts for the first reply of a process only."""

    load: float = 0.0
    prompt: float = 0.0
    generate: float = 0.0


@dataclass(frozen=True)
class Completion:
    """The reply is complete.

    `ids` are the generated ids without the end token; `sampling` holds all effective values, seed included. A server
    tells no ids, so they are None and have no hash.
    """

    text: str
    finish_reason: FinishReason
    ids: tuple[int, ...] | None
    prompt_ids_sha256: str
    tokens: TokenCounts
    seconds: Seconds
    sampling: dict[str, Any] = field(default_factory=dict)
    tool_calls: tuple[ToolCall, ...] = ()
    choice: dict[str, float] | None = None  # probability of each option, for a choice constraint
    logprobs: tuple[dict[str, Any], ...] = ()
    model: str = ""  # that a server says it used


Event = LoadProgress | PrefillProgress | TextDelta | Notice | Completion


def outcome_of(reply: Iterable[Event], on_notice: Callable[[str], None]) -> Completion | ChatError:
    """How a reply ends, a fault included; what it has to say to the person on the way is told."""
    try:
        for event in reply:
            if isinstance(event, Notice):
                on_notice(event.text)
            elif isinstance(event, Completion):
                return event
    except ChatError as error:
        return error
    raise AssertionError("a reply ends with Done")


@dataclass(frozen=True)
class ModelInfo:
    """What is known of the loaded model, for reports and the toolbar."""

    path: str
    size: int  # bytes; 0 if unknown
    type: str  # of the tensors, e.g. Q4_K_M
    architecture: str
    window: int | None  # tokens
    context: int  # tokens that fit; the model's own limit where a window makes memory constant
    trained_context: int
    prompt_format: str
    sha256: str | None = None
    name: str = ""
    details: dict[str, Any] = field(default_factory=dict)  # device, layers offloaded, threads, cache bytes ...


@dataclass(frozen=True)
class Rendered:
    """A prompt as the model would read it; `dropped` of its oldest turns have no room and are left out."""

    text: str
    ids: tuple[int, ...]
    prompt_format: str
    dropped: int = 0


class ChatBackend(Protocol):
    """Whoever answers: the local engine, a scripted one in tests, a remote server."""

    def info(self, on_loading: Callable[[float], None] = lambda _: None) -> ModelInfo:
        """What answers; waits for the model to be loaded.

        Args:
            on_loading: told the fraction that is loaded, in 0..1, where it is known.

        Raises:
            ChatError: the model cannot be used.
        """

    def reply(self, request: Request) -> Iterator[Event]:
        """Yield events, the last one `Completion`.

        `cancel` from another thread or a signal handler ends it with `Completion(finish_reason="interrupted")`.

        Raises:
            ChatError: the request cannot be answered, or the engine died (it restarts at the next call).
        """

    def answer_all(
        self, requests: Iterable[Request], parallel: int | None, on_notice: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[int, Completion | ChatError]]:
        """Answer many requests, several at a time where that pays; yields (position, outcome) as each ends.

        Requests are taken from the iterable as there is room. A request that fails gives its error and the rest go on;
        `cancel` ends the iteration early.

        Args:
            parallel: how many at a time; None lets the engine decide.
            on_notice: told sentences that the person should read.
        """

    def render(self, request: Request) -> Rendered:
        """The prompt's text and ids, without making a reply."""

    def count(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """How many tokens each message's content takes, without what the prompt format adds."""

    def cancel(self) -> None:
        """Stop the reply that is being made, soon; harmless when there is none."""

    def close(self, *, keep_state: bool = True) -> None:
        """Let go of the model; harmless when already closed.

        Args:
            keep_state: the state may be saved for the next time, which may take seconds; without, be gone soon.
        """
