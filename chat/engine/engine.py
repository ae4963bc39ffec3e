"""Read a prompt and generate ids, reusing what the cache already holds. Knows ids, not text."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chat.events import Reading
from chat.ground.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.conversation import FinishReason
    from chat.engine.decoder import Decoder
    from chat.engine.sampling import Sampler


class Interrupted(Exception):  # noqa: N818 - a signal to the caller, not a fault
    """The reply was cancelled while its prompt was read."""


@dataclass
class Run:
    """One answer while it grows: what decides it, and what became of it."""

    sampler: Sampler
    limit: int  # ids at most
    is_end: Callable[[int], bool]
    before: list[Callable[[NDArray[np.float32]], None]] = field(default_factory=list)  # may change the logits
    after: list[Callable[[int], None]] = field(default_factory=list)
    finish: FinishReason = "stop"
    drafted: int = 0
    accepted: int = 0


class Engine:
    """Answers one prompt at a time on one decoder; its cached ids are the decoder's."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._cancelled = False

    def cancel(self, flag: bool = True) -> None:
        """End the reply that is being made, from any thread; False makes the engine ready again."""
        self._cancelled = flag
        self.decoder.abort(flag)

    def reuse(self, prompt: Sequence[int]) -> int:
        """Rewind to what the prompt has in common with the cache; at least its last id is left to be read.

        Returns:
            How many ids of the prompt need not be read.
        """
        return self.decoder.rewind(min(common_prefix(self.decoder.ids, prompt), len(prompt) - 1))

    def read(self, prompt: Sequence[int]) -> Iterator[Reading]:
        """Read the rest of the prompt in batches, after `reuse`; then the logits after its last id are there.

        Raises:
            Interrupted: it was cancelled; what was read stays cached.
        """
        decoder = self.decoder
        begun = time.perf_counter()
        first, batch = decoder.position, decoder.settings.batch
        for start in range(first, len(prompt), batch):
            chunk = prompt[start : start + batch]
            is_last = start + batch >= len(prompt)
            if self._cancelled or not decoder.feed(chunk, 1 if is_last else 0):
                raise Interrupted
            yield Reading(start + len(chunk) - first, len(prompt) - first, time.perf_counter() - begun)

    def generate(self, run: Run) -> Iterator[int]:
        """Yield ids after what was read, without the end token; `run.finish` then tells why it ended.

        Raises:
            EngineError: the model computes no numbers.
        """
        made = token = 0
        while not self._cancelled:
            if made >= run.limit:
                run.finish = "length"
                return
            if made > 0 and not self.decoder.feed((token,)):
                break
            token = self._choose(run, -1)
            if run.is_end(token):
                run.finish = "stop"
                return
            yield token
            made += 1
        run.finish = "interrupted"

    def _choose(self, run: Run, row: int) -> int:
        logits = self.decoder.logits(row)
        if math.isnan(logits.sum()):
            self.decoder.clear()
            raise EngineError("the model computed NaN instead of numbers", hint="its file is damaged: get it again")
        for change in run.before:
            change(logits)
        token = run.sampler.sample(self.decoder, row)
        for note in run.after:
            note(token)
        return token


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many ids from the start are equal."""
    length = min(len(left), len(right))
    if list(left[:length]) == list(right[:length]):
        return length
    return next(at for at in range(length) if left[at] != right[at])
