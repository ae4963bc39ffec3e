"""Rank the passages of documents for a question by words and by meaning, in a process that may load numpy.

Run by `chat.worker.task`: the question is a `RankingQuestion`, the message has the numbers of the passages, best first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chat.documents.document import Document, Place
from chat.documents.meaning import MeaningScores
from chat.documents.search import PassageSearch
from chat.documents.selection import RankingQuestion
from chat.documents.word_vectors import WordVectors
from chat.worker.protocol import build
from chat.worker.task import serve_isolated_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.worker.task import Message

MOST_PASSAGES = 10  # all have some likeness; what comes later is of another subject


def answer(question: Message, send: Callable[[Message], None]) -> None:
    """Send the best passages for `question`, a `RankingQuestion`."""
    asked = build(RankingQuestion, question)
    documents = [
        Document(name, text, places=tuple(Place(start, label) for start, label in places))
        for name, text, places in zip(asked.names, asked.texts, asked.places, strict=True)
    ]
    search = PassageSearch(documents)
    meaning = MeaningScores(search.passages, WordVectors(Path(asked.model)))
    send({"passages": best_passages(search, meaning, asked.question)})


def best_passages(search: PassageSearch, meaning: MeaningScores, question: str) -> list[int]:
    """The numbers of the passages that match a question best by words and by meaning."""
    scores = dict(enumerate(meaning.scores(question).tolist()))
    for number, score in search.scores(question).items():
        scores[number] += score
    total = search.with_neighbours(scores)
    return sorted(total, key=lambda number: (-total[number], number))[:MOST_PASSAGES]


if __name__ == "__main__":
    serve_isolated_task(answer)
