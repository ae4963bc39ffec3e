"""Rank the passages of documents for a question by words and by meaning, in a process that may load numpy.

Run by `chat.worker.task`: the subject is a `RankedDocuments`, and each answer has the numbers of the passages that
match its question, best first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from chat.documents.document import Document, Place
from chat.documents.embeddings import EmbeddingScores
from chat.documents.meaning import MeaningScores
from chat.documents.search import PassageSearch
from chat.documents.selection import RankedDocuments
from chat.documents.word_vectors import WordVectors
from chat.worker.protocol import build
from chat.worker.task import serve_questions

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from chat.worker.task import Message

    Floats = npt.NDArray[np.float32]

MOST_PASSAGES = 10  # all have some likeness; what comes later is of another subject


class Scores(Protocol):
    """How near passages are to a question, on the scale of BM25."""

    def scores(self, question: str) -> Floats:
        """A score for each passage: (passages,) float32."""


def answering(subject: Message, send: Callable[[Message], None]) -> Callable[[Message], Message]:
    """What answers questions on `subject`, a `RankedDocuments`, with the best passages."""
    given = build(RankedDocuments, subject)
    documents = [
        Document(name, text, language=language, places=tuple(Place(start, label) for start, label in places))
        for name, language, text, places in zip(given.names, given.languages, given.texts, given.places, strict=True)
    ]
    search = PassageSearch(documents)
    meaning: Scores
    if given.embedding_model:
        folder = Path(given.vector_folder) if given.vector_folder else None
        meaning = EmbeddingScores(
            search.passages,
            Path(given.embedding_model),
            folder,
            lambda *counts: send({"progress": counts}),
            given.threads,
        )
    else:
        meaning = MeaningScores(search.passages, WordVectors(Path(given.word_table)))
    return lambda asked: {"passages": best_passages(search, meaning, asked["question"])}


def best_passages(search: PassageSearch, meaning: Scores, question: str) -> list[int]:
    """The numbers of the passages that match a question best by words and by meaning."""
    scores = dict(enumerate(meaning.scores(question).tolist()))
    for number, score in search.scores(question).items():
        scores[number] += score
    total = search.with_neighbours(scores)
    return sorted(total, key=lambda number: (-total[number], number))[:MOST_PASSAGES]


if __name__ == "__main__":
    serve_questions(answering)
