"""Rank the passages of documents for a question by words and by meaning, in a process that may load numpy.

Run by `chat.worker.task`: the question is a `RankingQuestion`, the message has the numbers of the passages, best first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chat.documents.document import Document, Place
from chat.documents.meaning import MeaningScores
from chat.documents.search import NEIGHBOUR_WEIGHT, PassageSearch
from chat.documents.selection import RankingQuestion
from chat.documents.word_vectors import WordVectors
from chat.worker.protocol import build
from chat.worker.task import serve_isolated_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
    scores = MeaningScores(search.passages, WordVectors(Path(asked.model))).scores(asked.question)
    for number, score in search.scores(asked.question).items():
        scores[number] += score
    send({"passages": best_of(search, scores.tolist())})


def best_of(search: PassageSearch, scores: list[float]) -> list[int]:
    """The numbers of the best passages; those beside a good one gain a little."""

    def total(number: int) -> float:
        here = search.passages[number].document
        near: Iterable[int] = (each for each in (number - 1, number + 1) if 0 <= each < len(scores))
        return scores[number] + NEIGHBOUR_WEIGHT * sum(
            scores[each] for each in near if search.passages[each].document == here
        )

    return sorted(range(len(scores)), key=lambda number: (-total(number), number))[:MOST_PASSAGES]


if __name__ == "__main__":
    serve_isolated_task(answer)
