"""Vectors of words from the embedding table of a language model, in which words of like meaning lie near each other.

The directions that all tokens share are taken out, after Mu and Viswanath, "All-but-the-Top" (2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chat.gguf.keys import TokenizerKey
from chat.gguf.reader import read_gguf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

TABLE = "token_embd.weight"
SAMPLE = 4096  # tokens by which the shared directions are found
SHARED = 3  # directions that are taken out
ROUNDS = 8  # of the iteration that finds them
SPACES = ("▁", "Ġ")  # before a word that follows a space, in SentencePiece's and in byte-level vocabularies


class WordVectors:
    """The vectors of the words of one model."""

    def __init__(self, path: Path) -> None:
        """Map the embedding table of a GGUF.

        Raises:
            ChatError: the file cannot be used.
            KeyError: it has no embedding table, or no list of its tokens.
        """
        file = read_gguf(path)
        table = file.tensors[TABLE]
        self._table = table
        pieces: Sequence[str] = file.metadata[TokenizerKey.TOKENS]
        self._ids = {piece: number for number, piece in enumerate(pieces)}
        self._longest = max(map(len, self._ids), default=0)
        self._space = SPACES["Ġ" in self._ids]
        count = len(pieces)
        self._data = np.memmap(path, np.uint8, "r", offset=table.offset, shape=(count, table.bytes // count))
        seeded = np.random.default_rng(1)
        sample = self._rows(np.sort(seeded.choice(count, min(SAMPLE, count), replace=False)))
        self._mean = sample.mean(axis=0)
        self._shared = _main_directions(sample - self._mean, seeded)

    def of(self, words: Sequence[str]) -> Vectors:
        """The vectors of words.

        Returns:
            (words, width of the table) float32, of length 1; zeros for a word without any piece in the vocabulary.
        """
        pieces = [self._pieces_of(word) for word in words]
        used = sorted({token for each in pieces for token in each})
        rows = self._rows(np.array(used, np.int64)) - self._mean
        rows -= (rows @ self._shared.T) @ self._shared
        rows = _unit(rows)
        place = {token: number for number, token in enumerate(used)}
        found = np.zeros((len(words), rows.shape[1]), np.float32)
        for number, each in enumerate(pieces):
            if each:
                found[number] = rows[[place[token] for token in each]].mean(axis=0)
        return _unit(found)

    def _pieces_of(self, word: str) -> list[int]:
        """The tokens of a word after a space, the longest that fits first."""
        rest, found = self._space + word, []
        while rest:
            for length in range(min(len(rest), self._longest), 0, -1):
                token = self._ids.get(rest[:length])
                if token is not None:
                    found.append(token)
                    rest = rest[length:]
                    break
            else:
                rest = rest[1:]
        return found

    def _rows(self, tokens: npt.NDArray[np.int64]) -> Vectors:
        """Rows of the table as floats: (tokens, width) float32."""
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        raw = np.ascontiguousarray(self._data[tokens])
        kind = GGMLQuantizationType[self._table.type]
        if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
            rows: Any = raw.view(np.float32 if kind == GGMLQuantizationType.F32 else np.float16)
        else:
            rows = dequantize(raw, kind)
        return np.asarray(rows, np.float32)


def _main_directions(rows: Vectors, seeded: np.random.Generator) -> Vectors:
    """The directions in which rows differ most: (SHARED, width) float32, by subspace iteration."""
    basis = seeded.standard_normal((rows.shape[1], SHARED), dtype=np.float32)
    for _ in range(ROUNDS):
        basis, _ = np.linalg.qr(rows.T @ (rows @ basis))
    return np.ascontiguousarray(basis.T)


def _unit(rows: Vectors) -> Vectors:
    """Rows of length 1; zeros stay."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Vectors = rows / np.maximum(length, np.float32(1e-9))
    return unit
