"""Note how likely each token of an answer was, and what else could have come. Knows logits and pieces, not answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from chat.llama.tokenizer.tokenizer import Tokenizer


class LogProbs:
    """Natural logarithms of the model's own probabilities, before the sampler chain but within a constraint."""

    def __init__(self, vocabulary: Tokenizer, count: int) -> None:
        self._vocabulary = vocabulary
        self._count = count
        self._row: NDArray[np.float64] | None = None
        self.tokens: list[dict[str, Any]] = []

    def look(self, logits: NDArray[np.float32]) -> None:
        """Take one row of logits, (vocabulary,), before a token is drawn from it."""
        import numpy as np

        row = logits.astype(np.float64)
        row -= row.max()
        self._row = row - np.log(np.exp(row).sum())

    def note(self, token: int) -> None:
        """Keep what was drawn, and the likeliest ones of its row; ends of the answer are left out."""
        import numpy as np

        if self._row is None or self._vocabulary.is_end(token):
            return
        count = min(self._count, len(self._row))
        likeliest = np.argpartition(-self._row, count - 1)[:count]
        top = [self._entry(int(each)) for each in likeliest[np.argsort(-self._row[likeliest])] if self._possible(each)]
        self.tokens.append({**self._entry(token), "top": top})

    def _possible(self, token: Any) -> bool:
        assert self._row is not None
        return bool(self._row[token] > -1e30)

    def _entry(self, token: int) -> dict[str, Any]:
        assert self._row is not None
        piece = self._vocabulary.piece_bytes(token).decode("utf-8", errors="replace")
        return {"id": token, "text": piece, "logprob": float(self._row[token])}
