"""Know the marks of reasoning of a model, and let a constraint begin after it.

Mistral's models mark reasoning by control pieces, other families by text at the start of an answer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from chat.prompts.reasoning_splitter import ReasoningMarks
from chat.prompts.segments import BEGIN_THINK, BEGIN_THINK_TEXT, END_THINK, END_THINK_TEXT, Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.core.request import Prompt
    from chat.llama.tokenizer.tokenizer import Tokenizer
    from chat.prompts.reasoning_splitter import ReasoningSplitter, State


_MARKS = ((BEGIN_THINK.piece, END_THINK.piece), (BEGIN_THINK_TEXT, END_THINK_TEXT))
TAIL_IDS = 16  # of a prompt; more than a mark of text and the white space after it take


def reasoning_marks(vocabulary: Tokenizer, prompt: Prompt) -> ReasoningMarks | None:
    """The marks of a model's reasoning; None for a model or a prompt without any.

    Control pieces count wherever the vocabulary has them. Text counts in an answer to messages, where the model's chat
    template shows both marks.
    """
    for begin, end in _MARKS:
        ids = [vocabulary.control_id(piece) for piece in (begin, end)]
        if ids[0] is not None and ids[1] is not None and not any(map(vocabulary.piece_bytes, filter(None, ids))):
            return ReasoningMarks(begin, end, (ids[0],), (ids[1],), is_control=True)
    template = vocabulary.template.text
    if prompt.messages is None or BEGIN_THINK_TEXT not in template or END_THINK_TEXT not in template:
        return None
    begin_ids, end_ids = (_ids_of(vocabulary, mark) for mark in (BEGIN_THINK_TEXT, END_THINK_TEXT))
    return ReasoningMarks(BEGIN_THINK_TEXT, END_THINK_TEXT, begin_ids, end_ids)


def _ids_of(vocabulary: Tokenizer, mark: str) -> tuple[int, ...]:
    single = vocabulary.control_id(mark)
    return (single,) if single is not None else tuple(vocabulary.encode((Text(mark, joined=True),)))


def first_state(marks: ReasoningMarks | None, vocabulary: Tokenizer, prompt: Prompt, ids: Sequence[int]) -> State:
    """What the first id after a prompt belongs to.

    Args:
        marks: of the model.
        vocabulary: of the model.
        prompt: an answer that it continues may have been cut off in the reasoning.
        ids: those of the prompt; a template may end it with the mark before the reasoning.
    """
    if marks is None:
        return "answer"
    if _is_reasoning_open(marks, vocabulary, prompt, ids):
        return "reasoning"
    return "answer" if prompt.continues else "start"


def _is_reasoning_open(marks: ReasoningMarks, vocabulary: Tokenizer, prompt: Prompt, ids: Sequence[int]) -> bool:
    """Whether a prompt ends within reasoning."""
    if marks.is_control:
        last_control = next((token for token in reversed(ids) if vocabulary.is_control(token)), None)
        return last_control in marks.begin_ids
    if prompt.continues and prompt.messages:
        return prompt.messages[-1].is_unfinished_reasoning
    return vocabulary.text_of(ids[-TAIL_IDS:]).rstrip().endswith(marks.begin_text)


class Mask(Protocol):
    """Keeps the ids of an answer within a constraint."""

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Make every id that may not come next impossible.

        Args:
            logits: (vocabulary,) float32, changed in place.

        Raises:
            EngineError: no id may come next.
        """

    def consume(self, token: int) -> None:
        """Advance by the id that was drawn.

        Raises:
            EngineError: the constraint refuses an id that it had allowed.
        """

    def is_complete(self) -> bool:
        """Whether nothing more can come."""


class OneOf:
    """Allows the same ids at every place."""

    def __init__(self, ids: Iterable[int]) -> None:
        self._ids = sorted(ids)

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Make every other id impossible; `logits` are (vocabulary,) float32, changed in place."""
        _allow_only(logits, self._ids)

    def consume(self, token: int) -> None:
        """Nothing changes."""

    def is_complete(self) -> bool:
        """Never."""
        return False


def _allow_only(logits: NDArray[np.float32], ids: Sequence[int]) -> None:
    """Make every id but some impossible; `logits` are (vocabulary,) float32, changed in place."""
    indexes = list(ids)
    kept = logits[indexes]
    logits[:] = -math.inf
    logits[indexes] = kept


class ReasoningLimit:
    """Ends reasoning that has come to its most ids, by the mark after it."""

    def __init__(self, marks: ReasoningMarks, splitter: ReasoningSplitter, most: int) -> None:
        """Start an answer.

        Args:
            marks: of the reasoning.
            splitter: knows what the next id belongs to.
            most: ids of the reasoning before the mark.
        """
        self._end, self._splitter, self._left = marks.end_ids, splitter, most
        self._ended = 0  # ids of the mark so far

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Make every id but the mark's next one impossible, where the limit is reached.

        Args:
            logits: (vocabulary,) float32, changed in place.
        """
        if self._is_due:
            _allow_only(logits, self._end[self._ended : self._ended + 1])

    def consume(self, token: int) -> None:
        """Count an id that was drawn."""
        if self._splitter.state != "reasoning":
            self._ended = 0  # control pieces may mark reasoning again
        elif self._is_due:
            self._ended += 1
        else:
            self._left -= 1

    @property
    def _is_due(self) -> bool:
        return self._splitter.state == "reasoning" and self._left <= 0 and self._ended < len(self._end)


class ReasoningGate:
    """Lets a model think before its answer, and holds the answer to a constraint.

    Attributes:
        has_answered: whether an id of the answer was drawn.
    """

    def __init__(self, mask: Mask, marks: ReasoningMarks, splitter: ReasoningSplitter, ends: frozenset[int]) -> None:
        """Start an answer.

        Args:
            mask: of the constraint.
            marks: of the reasoning.
            splitter: knows what the next id belongs to.
            ends: ids that may not come in the reasoning, for the answer would be missing.
        """
        self._mask = mask
        self._begin = marks.begin_ids
        self._splitter = splitter
        self._ends = list(ends)
        # ids of the mark before the reasoning so far
        self._begun = len(marks.begin_ids) if splitter.state == "reasoning" else 0
        self._is_begin_allowed = False  # by the constraint, as the next id of the answer
        self.has_answered = splitter.state == "answer"

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Make every id that may not come next impossible.

        Args:
            logits: (vocabulary,) float32, changed in place.

        Raises:
            EngineError: no id may come next.
        """
        import numpy as np

        if self._splitter.state == "reasoning":
            logits[self._ends] = -np.inf
            return
        if 0 < self._begun < len(self._begin):
            _allow_only(logits, self._begin[self._begun : self._begun + 1])
            return
        kept = logits[self._begin[0]]
        self._mask.apply(logits)
        self._is_begin_allowed = bool(np.isfinite(logits[self._begin[0]]))
        if self._may_begin:
            logits[self._begin[0]] = kept

    def consume(self, token: int) -> None:
        """Advance by the id that was drawn; only ids of the answer count for the constraint.

        Raises:
            EngineError: the library refuses an id that it had allowed.
        """
        if self._splitter.state == "reasoning":
            return
        is_single = len(self._begin) == 1
        is_mark = self._may_begin and token == self._begin[0] and (is_single or not self._is_begin_allowed)
        if is_mark or self._begun % len(self._begin):
            self._begun += 1
            return
        self.has_answered = True
        self._mask.consume(token)

    def is_complete(self) -> bool:
        """Whether nothing more can come."""
        return self.has_answered and self._mask.is_complete()

    @property
    def _may_begin(self) -> bool:
        """Whether reasoning may still begin."""
        return not self.has_answered and self._begun == 0
