"""The events that a backend yields while it answers one request; the last one is a `Completion`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chat.core.conversation import FinishReason, ToolCall  # the worker protocol reads annotations at run time
from chat.errors import ChatError, as_chat_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True)
class LoadProgress:
    """The model is being loaded.

    Attributes:
        fraction: how much is loaded, from 0 to 1.
    """

    fraction: float


@dataclass(frozen=True)
class PrefillProgress:
    """The prompt is being read.

    Attributes:
        done: tokens read so far, without those from the cache.
        total: tokens to read, without those from the cache.
        seconds: since reading began.
    """

    done: int
    total: int
    seconds: float


@dataclass(frozen=True)
class PictureProgress:
    """A picture of the prompt is being encoded, before the model reads it.

    Attributes:
        name: the picture's.
        fraction: how much is computed, from 0 to 1.
        seconds: since it began.
    """

    name: str
    fraction: float
    seconds: float


@dataclass(frozen=True)
class TextDelta:
    """More text of the answer.

    Attributes:
        text: whole characters, without anything that may be the beginning of a stop string.
    """

    text: str


@dataclass(frozen=True)
class ReasoningDelta:
    """More of what the model thinks before its answer.

    Attributes:
        text: whole characters.
    """

    text: str


@dataclass(frozen=True)
class Notice:
    """A sentence for the user: a warning, or what was left out of the context.

    Attributes:
        text: one sentence without a full stop.
    """

    text: str


@dataclass(frozen=True)
class TokenCounts:
    """Numbers of tokens of one answer. All are 0 for a server that does not report them.

    Attributes:
        prompt: tokens of the whole prompt.
        cached: tokens of the prompt that came from the cache.
        generated: tokens of the answer, those of the reasoning included.
        drafted: tokens that were proposed ahead.
        accepted: proposed tokens that became part of the answer.
        reasoning: tokens of the answer that are reasoning.
    """

    prompt: int = 0
    cached: int = 0
    generated: int = 0
    drafted: int = 0
    accepted: int = 0
    reasoning: int = 0

    @property
    def are_known(self) -> bool:
        """Whether they were counted: every prompt has at least one token."""
        return self.prompt > 0


@dataclass(frozen=True)
class Seconds:
    """Wall times of one answer, in seconds.

    Attributes:
        load: loading the model; 0 after the first answer of a process.
        prompt: reading the prompt.
        generate: generating the answer.
    """

    load: float = 0.0
    prompt: float = 0.0
    generate: float = 0.0


@dataclass(frozen=True)
class Completion:
    """The answer is complete.

    Attributes:
        text: the whole answer, without the reasoning.
        finish_reason: why it ended.
        ids: the generated ids without the end token, those of the reasoning included; None from a server.
        prompt_ids_sha256: the hash of the prompt's ids; empty from a server.
        tokens: numbers of tokens.
        seconds: wall times.
        sampling: every sampling value in force, the seed included.
        tool_calls: the functions that the model calls.
        choice: the probability of each option, from 0 to 1; None without a choice constraint.
        logprobs: one JSON object for each generated token, if they were requested.
        model: the model's name as a server reports it.
        reasoning: what the model thought before the answer; empty for a model that does not think.
    """

    text: str
    finish_reason: FinishReason
    ids: tuple[int, ...] | None
    prompt_ids_sha256: str
    tokens: TokenCounts
    seconds: Seconds
    sampling: dict[str, Any] = field(default_factory=dict)
    tool_calls: tuple[ToolCall, ...] = ()
    choice: dict[str, float] | None = None
    logprobs: tuple[dict[str, Any], ...] = ()
    model: str = ""
    reasoning: str = ""


Event = LoadProgress | PictureProgress | PrefillProgress | ReasoningDelta | TextDelta | Notice | Completion


def outcome_of(events: Iterable[Event], on_notice: Callable[[str], None]) -> Completion | ChatError:
    """Read the events of one answer to its end.

    Args:
        events: what `ChatBackend.reply` yields.
        on_notice: called with the text of each notice.

    Returns:
        The completion, or the error that ended the answer, whatever it was.
    """
    try:
        for event in events:
            if isinstance(event, Notice):
                on_notice(event.text)
            elif isinstance(event, Completion):
                return event
    except Exception as error:
        return as_chat_error(error)
    raise AssertionError("the events of an answer end with a Completion")
