"""Let a small model of the same vocabulary guess the next ids. Knows ids, not what becomes of the guesses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.core.token_ids import common_prefix
from chat.inference.speculative import LONGEST, Drafter

if TYPE_CHECKING:
    from array import array

    from chat.llama.context import LlamaContext

MOST_READ = 1024  # ids at once: of a longer text the guesses know the end


class DraftModel(Drafter):
    """Guesses what a small model finds likeliest.

    It reads what is new since the last guess. Where that is much, or its context is full, it begins anew with the first
    id and the last of the text: its guesses may be worse for it, the answer is not.
    """

    def __init__(self, decoder: LlamaContext) -> None:
        self.decoder = decoder
        self._from = 1  # the decoder reads the first id and those from this one on

    def catch_up(self, ids: array[int]) -> None:
        """Read up to the last of the ids, unless it is stopped."""
        self._read(ids)

    def propose(self, ids: array[int], most: int) -> list[int]:
        """The small model's likeliest ids, one after the other; none where it was stopped."""
        guessed: list[int] = []
        goes_on = self._read(ids)
        while goes_on and len(guessed) < most:
            guessed.append(int(self.decoder.logits().argmax()))
            goes_on = len(guessed) < most and self.decoder.feed((guessed[-1],))
        return guessed

    def _read(self, ids: array[int]) -> bool:
        """Read what is new; whether the logits after the last id are there."""
        decoder = self.decoder
        text = ids[:1] + ids[self._from :]
        kept = decoder.rewind(min(common_prefix(decoder.ids, text), len(text) - 1))
        full = decoder.free is not None and len(text) + LONGEST > decoder.cells
        if kept <= 1 or full or len(text) - kept > MOST_READ:
            most = MOST_READ if decoder.free is None else min(MOST_READ, decoder.cells // 2)
            self._from = max(len(ids) - most, 1)
            text, kept = ids[:1] + ids[self._from :], 0
            decoder.clear()
        batch = decoder.settings.batch
        return all(decoder.feed(text[start : start + batch]) for start in range(kept, len(text), batch))

    def abort(self, flag: bool) -> None:
        """Stop what it computes, from any thread, or be ready again."""
        self.decoder.abort(flag)

    def close(self) -> None:
        """Free the small model."""
        self.decoder.close()
        self.decoder.model.close()
