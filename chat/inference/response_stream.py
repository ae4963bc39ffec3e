"""One request of a batch while its answer grows, id by id. Knows its own text, not which others grow beside it."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from chat.errors import EngineError
from chat.inference.response import ResponseBuilder
from chat.inference.stop_strings import StopFilter
from chat.llama.tokenizer.tokenizer import StreamDecoder
from chat.prompts.registry import FORMATS

if TYPE_CHECKING:
    from chat.core.conversation import FinishReason
    from chat.core.events import Completion
    from chat.core.request import Request
    from chat.inference.loaded_model import LoadedModel
    from chat.llama.context import LlamaContext


class SequenceResponse:
    """An answer in the making: takes logits, gives the next id to feed."""

    def __init__(self, index: int, room: LoadedModel, request: Request) -> None:
        """Compose the prompt.

        Raises:
            ChatError: the request cannot be answered.
        """
        self.index = index
        self.request = request
        self.answer = ResponseBuilder(room, request)
        self.prompt = self.answer.composed.ids
        self.run = self.answer.begin()
        self.next: int | None = None  # to be fed before there are more logits
        self.begun = time.perf_counter()
        self._read = self.begun
        continues = self.answer.continues()
        self._text = StreamDecoder(room.vocabulary, continues=continues)
        stops = () if request.constraint is not None else request.stop + FORMATS[room.prompt_format].stops
        self._stops = StopFilter(stops)

    @property
    def alone(self) -> bool:
        """Whether it is answered without others: a choice is read, not generated."""
        return bool(self.answer.options)

    def begin(self, cached: int) -> None:
        """Note that its prompt is read now, and how much of it was there before."""
        self.answer.cached = cached
        self.begun = time.perf_counter()

    def prompt_is_read(self) -> None:
        """Note that logits come now."""
        self._read = time.perf_counter()

    def take(self, decoder: LlamaContext, row: int) -> bool:
        """Draw the next id from a row of logits.

        Returns:
            Whether the answer is complete.

        Raises:
            EngineError: the model computes no numbers.
        """
        answer, run = self.answer, self.run
        if len(answer.ids) >= run.limit:
            return self._end("length")
        logits = decoder.logits(row)
        if math.isnan(logits.sum()):
            raise EngineError("the model computed NaN instead of numbers", hint="its file is damaged: get it again")
        for change in run.before:
            change(logits)
        token = run.sampler.sample(decoder, row)
        for note in run.after:
            note(token)
        if run.is_end(token):
            return self._end("stop")
        answer.ids.append(token)
        answer.texts.append(self._stops.push(self._text.push(token)))
        if self._stops.stopped or run.is_complete():
            return self._end("stop")
        self.next = token
        return self._end("length") if len(answer.ids) == run.limit else False

    def _end(self, reason: FinishReason) -> bool:
        self.run.finish = reason
        return True

    def interrupt(self) -> None:
        """It was cancelled."""
        self.run.finish = "interrupted"

    def done(self) -> Completion:
        """The finished reply; its sampler is let go."""
        answer = self.answer
        if not self._stops.stopped:
            answer.texts.append(self._stops.push(self._text.flush()))
            answer.texts.append(self._stops.flush())
        answer.read_seconds = max(self._read - self.begun, 0.0)
        answer.generate_seconds = time.perf_counter() - self._read
        self.run.sampler.close()
        return answer.done(self.run)
