"""How near passages are to a question in meaning, by the vectors of their words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from chat.documents.stop_words import STOP_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from chat.documents.passages import Passage
    from chat.documents.word_vectors import WordVectors

    Floats = npt.NDArray[np.float32]

# What each part adds to the scores of BM25, chosen by half of the questions in
# tests/chat/documents/search_set/questions.tsv
WORD_WEIGHT = 2.0
PASSAGE_WEIGHT = 20.0
SENTENCE_WEIGHT = 20.0
UNLIKE = 0.1  # words that are no nearer than this have nothing in common
_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\n\n|\n(?=[|#-])")


class MeaningScores:
    """The words of passages, as vectors."""

    def __init__(self, passages: Sequence[Passage], vectors: WordVectors) -> None:
        self._vectors = vectors
        texts = [_words_of(passage.text) for passage in passages]
        words = sorted({word for text in texts for word in text})
        self._number = {word: number for number, word in enumerate(words)}
        self._rows = vectors.of(words)
        self._words = [np.array(sorted({self._number[word] for word in text}), np.int64) for text in texts]
        counts = np.zeros(len(words), np.float32)
        for each in self._words:
            counts[each] += 1
        self._rarity = np.log((len(passages) - counts + 0.5) / (counts + 0.5) + 1).astype(np.float32)
        self._rarest = float(np.log(len(passages) + 1))
        self._lengths = [self._length_of(each) for each in self._words]
        parts = [[self._numbers(part) for part in _SENTENCE_END.split(passage.text)] for passage in passages]
        self._sentences = [[(part, self._length_of(part)) for part in each if part.size] for each in parts]

    def scores(self, question: str) -> Floats:
        """How near each passage is to a question: (passages,) float32."""
        words = list(dict.fromkeys(_words_of(question)))
        scores = np.zeros(len(self._words), np.float32)
        if not words:
            return scores
        rows = self._vectors.of(words)
        rarity = [self._rarity[self._number[word]] if word in self._number else self._rarest for word in words]
        for row, rare in zip(rows, rarity, strict=True):
            near = np.maximum(self._rows @ row - UNLIKE, 0) * np.minimum(self._rarity, rare)
            scores += WORD_WEIGHT * np.array([near[each].max(initial=0) for each in self._words], np.float32)
        whole = np.array(rarity, np.float32) @ rows
        whole /= max(float(np.linalg.norm(whole)), 1e-9)
        told = self._rarity * (self._rows @ whole)  # what each word adds to the product of a text with the question
        for number, (text, length) in enumerate(zip(self._words, self._lengths, strict=True)):
            best = max((float(told[part].sum()) / size for part, size in self._sentences[number]), default=0.0)
            scores[number] += PASSAGE_WEIGHT * float(told[text].sum()) / length + SENTENCE_WEIGHT * best
        return scores

    def _numbers(self, text: str) -> npt.NDArray[np.int64]:
        return np.array([self._number[word] for word in _words_of(text)], np.int64)

    def _length_of(self, words: npt.NDArray[np.int64]) -> float:
        """The length of the sum of words, the rare ones with more weight."""
        return max(float(np.linalg.norm(self._rarity[words] @ self._rows[words])), 1e-9)


def _words_of(text: str) -> Iterable[str]:
    """Words that tell something, in lower case."""
    words = (word.lower() for word in _WORD.findall(text))
    return [word for word in words if len(word) > 2 and not word[0].isdigit() and word not in STOP_WORDS]
