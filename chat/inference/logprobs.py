"""Record the log probability of each token of an answer and of its likeliest alternatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from chat.llama.tokenizer.tokenizer import Tokenizer

IMPOSSIBLE = -1e30  # log probabilities below are of ids that a constraint has masked


class LogProbs:
    """Natural logarithms of the model's own probabilities: before the sampler chain, but within a constraint.

    Attributes:
        tokens: one entry for each token, with its `id`, `text`, `logprob` and the likeliest alternatives as `top`.
    """

    def __init__(self, vocabulary: Tokenizer, count: int) -> None:
        """Record nothing yet.

        Args:
            vocabulary: has the texts of the pieces.
            count: how many alternatives of each token are recorded.
        """
        self._vocabulary = vocabulary
        self._count = count
        self._row: NDArray[np.float64] | None = None  # (vocabulary,)
        self.tokens: list[dict[str, Any]] = []

    def observe(self, logits: NDArray[np.float32]) -> None:
        """Take the logits from which the next token is drawn.

        Args:
            logits: (vocabulary,) float32, not changed.
        """
        import numpy as np

        row = logits.astype(np.float64)
        row -= row.max()
        self._row = row - np.log(np.exp(row).sum())

    def record(self, token: int) -> None:
        """Record the token that was drawn and its alternatives; an end token is left out."""
        import numpy as np

        row = self._row
        if row is None or self._vocabulary.is_end(token):
            return
        count = min(self._count, len(row))
        likeliest = np.argpartition(-row, count - 1)[:count]
        ordered = likeliest[np.argsort(-row[likeliest])]
        top = [self._entry(row, int(other)) for other in ordered if row[other] > IMPOSSIBLE]
        self.tokens.append({**self._entry(row, token), "top": top})

    def _entry(self, row: NDArray[np.float64], token: int) -> dict[str, Any]:
        piece = self._vocabulary.piece_bytes(token).decode("utf-8", errors="replace")
        return {"id": token, "text": piece, "logprob": float(row[token])}
