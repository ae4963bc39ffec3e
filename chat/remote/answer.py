"""Assemble an answer from what a server sends, whichever of the usual shapes it has."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any, TypeVar

from chat.core.conversation import FinishReason, ToolCall
from chat.core.events import Completion, ReasoningDelta, Seconds, TextDelta, TokenCounts
from chat.errors import EngineError
from chat.prompts.reasoning_splitter import ReasoningMarks, ReasoningSplitter
from chat.prompts.segments import BEGIN_THINK_TEXT, END_THINK_TEXT
from chat.remote.server_errors import EmptyStreamError, event_error
from chat.remote.token_logprobs import token_logprobs
from chat.system.characters import whole_characters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chat.core.conversation import Message
    from chat.prompts.reasoning_splitter import State
    from chat.remote.server_address import ServerAddress

Kind = TypeVar("Kind")
MOST_TOKENS = 1 << 48  # no count is larger
FINISH: dict[str, FinishReason] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "refusal",
}  # every other reason is a stop
_MARKS = ReasoningMarks(BEGIN_THINK_TEXT, END_THINK_TEXT)


class Answer:
    """The answer so far.

    Attributes:
        finish_reason: why it ended.
        has_ended: whether the server said so.
        logprobs: what the server gave of each token.
        began: when the server was asked, by the monotonic clock.
    """

    def __init__(self, server: ServerAddress, *, parts_marks: bool, continued: Message | None = None) -> None:
        """Begin an answer.

        Args:
            server: for its errors.
            parts_marks: text in marks at the start of the answer is reasoning.
            continued: the answer that it goes on with, which some servers repeat.
        """
        self._server = server
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._refusal = ""
        self._tokens = TokenCounts()
        self._calls = _Calls()
        self.logprobs: list[dict[str, Any]] = []
        self._model = ""
        self._has_choice = False
        marks = _MARKS if parts_marks and continued is None else None
        state: State = "start" if marks else "answer"
        self._splitter = ReasoningSplitter(marks, state, continues=continued is not None, drops_rest=False)
        self._prefix = _RepeatedPrefix(continued.content if continued else "")
        self._joined = {"content": _Surrogates(), "reasoning": _Surrogates()}
        self.finish_reason: FinishReason = "stop"
        self.has_ended = False
        self.began = time.monotonic()
        self._first_at: float | None = None  # when the first text or call came

    def take(self, chunk: Any) -> Iterator[TextDelta | ReasoningDelta]:
        """One chunk of the stream, or the whole answer of a server that does not stream.

        Raises:
            ChatError: it is an error, or has an unknown structure.
        """
        try:
            if chunk.get("error") or chunk.get("object") == "error":
                raise event_error(self._server.error_text(chunk))
            if usage := _known(chunk, "usage", dict):
                self._tokens = _counts(usage)
            self._model = _known(chunk, "model", str) or self._model
            for choice in _part(chunk, "choices", list)[:1]:
                yield from self._take_choice(choice)
        except (AttributeError, KeyError, TypeError) as error:
            raise EngineError("the server sent a chunk with an unknown structure") from error

    def _take_choice(self, choice: dict[str, Any]) -> Iterator[TextDelta | ReasoningDelta]:
        self._has_choice |= not {"message", "delta", "text", "finish_reason"}.isdisjoint(choice)
        message = _part(choice, "message", dict)
        delta = _part(choice, "delta", dict) or message
        reasoning, content = _texts_of(delta.get("content"))
        reasoning += _known(delta, "reasoning_content", str) or _known(delta, "reasoning", str)
        content += _part(choice, "text", str)
        self._refusal += _known(delta, "refusal", str)
        self._calls.take(_part(delta, "tool_calls", list), are_whole=delta is message)
        self.logprobs += token_logprobs(choice.get("logprobs"))
        if reason := _part(choice, "finish_reason", str):
            self.has_ended = True
            self.finish_reason = FINISH.get(reason, "stop")
        if self._first_at is None and (reasoning or content or self._calls.seen):
            self._first_at = time.monotonic()
        if reasoning := self._joined["reasoning"].push(reasoning):
            yield self._thought(reasoning)
        for part, text in self._splitter.push(self._prefix.push(self._joined["content"].push(content))):
            yield self._thought(text) if part == "reasoning" else self._said(text)

    def finish(self, *, is_whole: bool = True) -> Iterator[TextDelta | ReasoningDelta]:
        """What was held back: no chunk follows.

        Args:
            is_whole: the answer was not interrupted.

        Raises:
            EmptyStreamError: nothing that came was an answer.
        """
        if is_whole and not self._has_choice:
            raise EmptyStreamError("the server sent no answer")
        if reasoning := self._joined["reasoning"].flush():
            yield self._thought(reasoning)
        rest = self._prefix.push(self._joined["content"].flush()) + self._prefix.flush()
        for part, text in (*self._splitter.push(rest), *self._splitter.flush()):
            yield self._thought(text) if part == "reasoning" else self._said(text)
        if self._refusal:
            self.finish_reason = "refusal"
            if not self._texts:
                yield self._said(whole_characters(self._refusal))
        if self._calls.seen and self.finish_reason == "stop":
            self.finish_reason = "tool_calls"

    def replace_text(self, text: str) -> None:
        """Take another text, for an answer that the server wrapped into JSON."""
        self._texts = [text]

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    def done(self, sampling: dict[str, Any]) -> Completion:
        """The complete answer; values that the server did not send stay empty."""
        ended = time.monotonic()
        first_at = ended if self._first_at is None else self._first_at
        return Completion(
            text=self.text,
            finish_reason=self.finish_reason,
            ids=None,
            prompt_ids_sha256="",
            tokens=self._tokens,
            seconds=Seconds(prompt=max(first_at - self.began, 0.0), generate=ended - first_at),
            sampling=sampling,
            tool_calls=self._calls.whole(),
            model=whole_characters(self._model),
            reasoning="".join(self._reasoning),
        )

    def _said(self, text: str) -> TextDelta:
        self._texts.append(text)
        return TextDelta(text)

    def _thought(self, text: str) -> ReasoningDelta:
        self._reasoning.append(text)
        return ReasoningDelta(text)


class _Calls:
    """The function calls of an answer, from their parts."""

    def __init__(self) -> None:
        self._calls: list[dict[str, Any]] = []

    @property
    def seen(self) -> bool:
        """Whether there is any."""
        return bool(self._calls)

    def take(self, parts: Iterable[Any], *, are_whole: bool) -> None:
        """Parts of calls, or whole calls, as one chunk has them.

        A name and an id are set once; arguments are appended. Another id at the same index is another call.

        Raises:
            TypeError, AttributeError: they have an unknown structure.
        """
        taken: list[dict[str, Any]] = []  # of this chunk: without an index or an id, one call has one part in it
        for part in parts:
            call_id, function = _part(part, "id", str), _part(part, "function", dict)
            name, arguments = _part(function, "name", str), _part(function, "arguments", str)
            index = part.get("index")
            call = None if are_whole else self._find(index, call_id, name, taken)
            if call is None:
                call = {"index": index, "id": call_id, "name": "", "arguments": ""}
                self._calls.append(call)
            taken.append(call)
            call["id"] = call["id"] or call_id
            call["name"] = call["name"] or name
            call["arguments"] += arguments

    def _find(self, index: Any, call_id: str, name: str, taken: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The call that a part belongs to; None for a new one."""
        if index is not None:
            last = next((call for call in reversed(self._calls) if call["index"] == index), None)
            return last if last and (call_id in ("", last["id"]) or not last["id"]) else None
        if call_id:
            return next((call for call in self._calls if call["id"] == call_id), None)
        last = self._calls[-1] if self._calls else None
        if last is None or any(call is last for call in taken):
            return None
        return None if name and _is_json(last["arguments"]) else last

    def whole(self) -> tuple[ToolCall, ...]:
        """The calls; one without an id gets one, which connects it with its result."""
        return tuple(
            ToolCall(
                whole_characters(call["name"]),
                whole_characters(call["arguments"]),
                whole_characters(call["id"]) or secrets.token_hex(5)[:9],  # Mistral's formats take nine characters
            )
            for call in self._calls
        )


class _RepeatedPrefix:
    """Drops the beginning of an answer where it repeats, as a whole, the text that it goes on with."""

    def __init__(self, expected: str) -> None:
        self._expected = expected
        self._held = ""

    def push(self, text: str) -> str:
        """The text that is certain to be new."""
        if not self._expected:
            return text
        self._held += text
        if len(self._held) < len(self._expected) and self._expected.startswith(self._held):
            return ""
        return self.flush()

    def flush(self) -> str:
        """The rest, when no more text can come or enough of it has come."""
        expected, held = self._expected, self._held
        self._expected = self._held = ""
        return held.removeprefix(expected)


class _Surrogates:
    """Joins the halves of a character that came in two chunks."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        """The whole characters of a text."""
        text, self._held = self._held + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return whole_characters(text)

    def flush(self) -> str:
        """What stands for a half that stayed alone."""
        held, self._held = self._held, ""
        return whole_characters(held)


def _texts_of(content: Any) -> tuple[str, str]:
    """The reasoning and the text of a content, which is a text or a list of parts.

    Raises:
        TypeError: it is something else.
    """
    if content is None or isinstance(content, str):
        return "", content or ""
    if not isinstance(content, list):
        raise TypeError("content")
    reasoning = text = ""
    for part in content:
        if part.get("type") == "thinking":
            inner = part.get("thinking")
            reasoning += inner if isinstance(inner, str) else "".join(_texts_of(inner))
        else:
            text += _part(part, "text", str)
    return reasoning, text


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
    details = _known(usage, "completion_tokens_details", dict)
    return TokenCounts(
        prompt=_count(usage, "prompt_tokens"),
        cached=_count(_known(usage, "prompt_tokens_details", dict), "cached_tokens"),
        generated=_count(usage, "completion_tokens"),
        reasoning=_count(details, "reasoning_tokens"),
    )


def _count(plain: dict[str, Any], name: str) -> int:
    """A number of tokens; 0, which stands for an unknown one, if it is none."""
    value = plain.get(name)
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else 0


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
