"""Collect the reasoning, the text and the tool calls of one answer from its ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.core.events import ReasoningDelta, TextDelta
from chat.inference.reasoning import first_state, reasoning_marks
from chat.inference.stop_strings import StopFilter
from chat.llama.tokenizer.tokenizer import StreamDecoder
from chat.prompts.reasoning_splitter import ReasoningSplitter
from chat.prompts.text_calls import MARKS, CallHolder, parse_text_calls, text_calls
from chat.prompts.tool_call_parser import CALLS, ParsedAnswer, parse_answer, writes_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.request import Request
    from chat.inference.loaded_model import LoadedModel
    from chat.prompts.reasoning_splitter import Part

    Delta = ReasoningDelta | TextDelta


class AnswerText:
    """The text of an answer while it grows; stop strings and tool calls count after the reasoning only.

    Attributes:
        marks: of the model's reasoning; None for a model without any.
        splitter: knows what the next id belongs to.
        calls_id: the id that begins tool calls; None for a format without any.
        reasoning_tokens: how many ids belong to the reasoning, its marks included.
        parsed: the whole answer, its tool calls parsed; only after `finish`.
    """

    def __init__(self, loaded: LoadedModel, request: Request, prompt: Sequence[int], *, continues: bool) -> None:
        """Start an answer.

        Args:
            loaded: the model.
            request: its stop strings and constraint.
            prompt: the ids before the answer.
            continues: the answer goes on with a text, so that a leading space belongs to it.
        """
        self._vocabulary, self._format = loaded.vocabulary, loaded.prompt_format
        is_constrained = request.constraint is not None  # then the grammar alone decides where the answer ends
        stops = () if is_constrained else loaded.stop_texts
        self._stops = StopFilter(stops if is_constrained else request.stop + stops)
        self._reasoning_stops = StopFilter(stops)
        self._decoder = StreamDecoder(self._vocabulary, continues=continues)
        self.marks = reasoning_marks(self._vocabulary, request.prompt)
        state = first_state(self.marks, self._vocabulary, request.prompt, prompt)
        self.splitter = ReasoningSplitter(self.marks, state, continues=continues, drops_rest=is_constrained)
        self.calls_id = self._vocabulary.control_id(CALLS.piece) if writes_calls(self._format) else None
        self.reasoning_tokens = 0
        is_template = self._format == "template" and not is_constrained
        self._text_calls = text_calls(self._vocabulary.template, request.prompt.tools) if is_template else None
        self._holder = CallHolder(self._text_calls)
        ids = {self._vocabulary.control_id(mark): mark for mark in MARKS} if self._text_calls is not None else {}
        self._call_marks = {token: mark for token, mark in ids.items() if token is not None}
        self._reasoning: list[str] = []
        self._texts: list[str] = []
        self._ids: list[int] = []  # of the answer itself
        self.parsed = ParsedAnswer("")

    @property
    def is_stopped(self) -> bool:
        """Whether the text has come to a stop string."""
        return self._stops.stopped or self._reasoning_stops.stopped

    @property
    def text(self) -> str:
        """The text of the answer so far."""
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        """The text of the reasoning so far."""
        return "".join(self._reasoning)

    def push(self, token: int) -> list[Delta]:
        """Add an id.

        Returns:
            What to show now: nothing of what may become a stop string or is part of a tool call.
        """
        shown: list[Delta] = []
        if token == self.calls_id and token not in self._ids:
            shown += self._end_part()
            self.splitter.state = "answer"
            shown += self.add(self._stops.flush())
            self._holder.hold()
        before = self.splitter.state
        if self.splitter.is_mark(token):
            shown += self._end_part()
            self.splitter.mark(token)
            self.reasoning_tokens += 1
            return shown
        for part, text in self.splitter.push(self._piece(token)):
            shown += self._add_to(part, text)
        if "reasoning" not in (before, self.splitter.state):
            self._ids.append(token)
            return shown
        self.reasoning_tokens += 1
        if self.marks is not None and not self.marks.is_control:  # marks of text are known as such only at their ends
            self.reasoning_tokens += len(self._ids)
            self._ids.clear()
        return shown

    def _piece(self, token: int) -> str:
        """The text of an id; a mark of tool calls is text, also where it is a control piece."""
        mark = self._call_marks.get(token)
        if mark is None or self._vocabulary.piece_bytes(token):
            return self._decoder.push(token)
        return self._decoder.flush() + mark

    def add(self, text: str) -> list[Delta]:
        """Add text to the answer; what of it may be shown."""
        self._texts.append(text)
        passing = self._holder.push(text)
        return [TextDelta(passing)] if passing else []

    def finish(self, salt: str) -> list[Delta]:
        """End the text: no id follows.

        Args:
            salt: differs between answers, and so makes the ids of their calls differ.

        Returns:
            What to show that was held back.
        """
        shown: list[Delta] = []
        if not self.is_stopped:
            shown += self._end_part()
            shown += self._add_reasoning(self._reasoning_stops.flush())
            shown += self.add(self._stops.flush())
        self.parsed = self._parse(salt)
        held = self._holder.flush()
        return [*shown, TextDelta(held)] if held and not self.parsed.calls else shown

    def _parse(self, salt: str) -> ParsedAnswer:
        if self._text_calls is not None:
            if self._text_calls.style == "marked" and self.splitter.state == "reasoning" and not self.text:
                unclosed = parse_text_calls(self.reasoning, self._text_calls, salt)
                if unclosed.calls:  # the model called without a mark that ends its reasoning
                    return ParsedAnswer("", unclosed.calls)
            return parse_text_calls(self.text, self._text_calls, salt)
        if self.calls_id not in self._ids:
            return ParsedAnswer(self.text)
        return parse_answer(self._format, self._vocabulary.segments_of(self._ids), salt)

    def _end_part(self) -> list[Delta]:
        """Add what is still held back of a part that another one follows."""
        held = [*self.splitter.push(self._decoder.flush()), *self.splitter.flush()]
        return [delta for part, text in held for delta in self._add_to(part, text)]

    def _add_to(self, part: Part, text: str) -> list[Delta]:
        """Add text to its part; what of it may be shown."""
        if part == "answer":
            return self.add(self._stops.push(text))
        return self._add_reasoning(self._reasoning_stops.push(text))

    def _add_reasoning(self, text: str) -> list[Delta]:
        self._reasoning.append(text)
        return [ReasoningDelta(text)] if text else []
