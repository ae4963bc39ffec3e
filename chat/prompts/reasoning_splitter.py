"""Part the reasoning of an answer from the answer, by the marks around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Part = Literal["reasoning", "answer"]
State = Literal["start", "reasoning", "answer"]


@dataclass(frozen=True)
class ReasoningMarks:
    """How a model marks its reasoning.

    Attributes:
        begin_text: the mark before it.
        end_text: the mark after it.
        begin_ids: those of the mark before it, as the model writes them.
        end_ids: those of the mark after it.
        is_control: the marks are control pieces, of one id each; else text.
    """

    begin_text: str
    end_text: str
    begin_ids: tuple[int, ...] = ()
    end_ids: tuple[int, ...] = ()
    is_control: bool = False


def partial_length(text: str, marks: Sequence[str]) -> int:
    """The length of the longest end of a text that is the start of a mark, and so may become it.

    Args:
        text: without a whole mark.
        marks: one or more.
    """
    longest = max(map(len, marks)) - 1
    for size in range(min(longest, len(text)), 0, -1):
        end = text[-size:]
        if any(mark.startswith(end) for mark in marks):
            return size
    return 0


class ReasoningSplitter:
    """Parts the text of one answer, as it comes, into reasoning and answer.

    Marks of text count at the start alone; the line ends around them belong to neither part.

    Attributes:
        state: what the next text belongs to; `start` where that is not certain yet.
    """

    def __init__(self, marks: ReasoningMarks | None, state: State, *, continues: bool, drops_rest: bool) -> None:
        """Start an answer.

        Args:
            marks: of the model.
            state: of its first id.
            continues: the answer goes on with a text, whose line ends belong to it.
            drops_rest: text of the id that ends a mark of text is dropped: a constraint begins with the next id.
        """
        self.state: State = state
        self._marks = marks
        self._held = ""
        self._drops_rest = drops_rest
        self._strips_line_ends = state == "reasoning" and not continues

    def is_mark(self, token: int) -> bool:
        """Whether an id is a control piece around reasoning."""
        marks = self._marks
        return marks is not None and marks.is_control and token in marks.begin_ids + marks.end_ids

    def mark(self, token: int) -> None:
        """Go on after a control piece around reasoning."""
        self.state = "answer" if self._marks is not None and token in self._marks.end_ids else "reasoning"

    def push(self, text: str) -> list[tuple[Part, str]]:
        """Add text of the answer; what is returned is certain to belong to its part."""
        if self._marks is None or self._marks.is_control:
            return [("reasoning" if self.state == "reasoning" else "answer", text)] if text else []
        self._held += text
        if self.state == "start":
            self._leave_start(self._marks.begin_text)
        parts: list[tuple[Part, str]] = []
        if self.state == "reasoning":
            parts += self._take_reasoning(self._marks.end_text)
        if self.state == "answer" and (answer := self._stripped(self._held)):
            parts.append(("answer", answer))
            self._held = ""
        return parts

    def flush(self) -> list[tuple[Part, str]]:
        """The text that was held back; only when no more text can come, or the reasoning is over."""
        held, self._held = self._held, ""
        return [("reasoning" if self.state == "reasoning" else "answer", held)] if held else []

    def _leave_start(self, begin: str) -> None:
        """Decide whether the text begins with the mark, if there is enough of it."""
        text = self._held.lstrip()
        if text.startswith(begin):
            self.state, self._held, self._strips_line_ends = "reasoning", text[len(begin) :], True
        elif not begin.startswith(text):
            self.state = "answer"

    def _take_reasoning(self, end: str) -> list[tuple[Part, str]]:
        """The reasoning so far, without what may be the mark after it or the line ends before that."""
        text = self._held = self._stripped(self._held)
        before, mark, after = text.partition(end)
        if mark:
            self.state, self._held, self._strips_line_ends = "answer", "" if self._drops_rest else after, True
            passing = before.rstrip("\n")
        else:
            passing = text[: len(text) - partial_length(text, (end,))].rstrip("\n")
            self._held = text[len(passing) :]
        return [("reasoning", passing)] if passing else []

    def _stripped(self, text: str) -> str:
        if self._strips_line_ends:
            text = text.lstrip("\n")
            self._strips_line_ends = not text
        return text
