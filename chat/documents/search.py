"""Find the passages of documents that matter for a question, with SQLite's full text search."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

from chat.documents.passages import all_passages
from chat.documents.stop_words import STOP_WORDS
from chat.errors import ChatError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chat.documents.document import Document
    from chat.documents.passages import Passage

MOST_WORDS = 64  # of a question
HEADING_WEIGHT = 0.6  # of a word in a heading beside one in the text
NEIGHBOUR_WEIGHT = 0.05  # of the passages before and after one
LEAST_SHARE = 0.3  # of the best match's score; what is below it has a common word of the question
LIKENESS = 0.8  # of a word that is not in the documents to one that is, as difflib measures it
_WORD = re.compile(r"[^\W_]+")


class PassageSearch:
    """Searches the passages of some documents."""

    def __init__(self, documents: Sequence[Document]) -> None:
        """Cut the documents into passages and index their words, in memory.

        Raises:
            ChatError: this build of SQLite has no full text search.
        """
        whole, self.passages = all_passages(documents)
        self._database = sqlite3.connect(":memory:")
        try:
            self._database.execute(
                "CREATE VIRTUAL TABLE words USING fts5"
                "(heading, text, tokenize = 'porter unicode61 remove_diacritics 2')"
            )
            self._database.execute("CREATE VIRTUAL TABLE vocabulary USING fts5vocab(words, row)")
        except sqlite3.OperationalError as error:
            raise ChatError("this Python's SQLite has no full text search (FTS5)") from error
        with self._database:
            rows = ((f"{whole[each.document].name} {each.heading}", each.text) for each in self.passages)
            self._database.executemany("INSERT INTO words VALUES (?, ?)", rows)

    def scores(self, question: str) -> dict[int, float]:
        """The numbers of the passages that have words of the question, with their scores by BM25."""
        words = self._words_of(question)
        if not words:
            return {}
        query = " OR ".join(f'"{word}"' for word in words)
        found = self._database.execute(
            "SELECT rowid - 1, -bm25(words, ?, 1.0) FROM words WHERE words MATCH ?", (HEADING_WEIGHT, query)
        )
        return dict(found)

    def ranked(self, question: str) -> list[Passage]:
        """The passages that have words of the question, the best match first."""
        total = self.with_neighbours(self.scores(question))
        least = LEAST_SHARE * max(total.values(), default=0)
        best = sorted((number for number in total if total[number] >= least), key=lambda each: (-total[each], each))
        return [self.passages[number] for number in best]

    def with_neighbours(self, scores: Mapping[int, float]) -> dict[int, float]:
        """The scores of passages; those beside a good one gain a little."""
        return {number: score + self._around(number, scores) for number, score in scores.items()}

    def _around(self, number: int, scores: Mapping[int, float]) -> float:
        here = self.passages[number].document
        near = (each for each in (number - 1, number + 1) if 0 <= each < len(self.passages))
        return NEIGHBOUR_WEIGHT * sum(scores.get(each, 0.0) for each in near if self.passages[each].document == here)

    def _words_of(self, question: str) -> list[str]:
        """The words that are looked for; one that is not in the documents stands for those that are most like it."""
        words = list(dict.fromkeys(word.lower() for word in _WORD.findall(question)))[:MOST_WORDS]
        words = [word for word in words if word not in STOP_WORDS] or words
        return [like for word in words for like in ([word] if self._occurs(word) else self._like(word))]

    def _occurs(self, word: str) -> bool:
        return (
            self._database.execute("SELECT 1 FROM words WHERE words MATCH ? LIMIT 1", (f'"{word}"',)).fetchone()
            is not None
        )

    def _like(self, word: str) -> list[str]:
        from difflib import get_close_matches

        if len(word) < 4 or word.isdigit():
            return []
        rows = self._database.execute(
            "SELECT term FROM vocabulary WHERE term >= ? AND term < ? AND length(term) BETWEEN ? AND ?",
            (word[0], chr(ord(word[0]) + 1), len(word) - 3, len(word) + 2),
        )
        return get_close_matches(word, [term for (term,) in rows], n=2, cutoff=LIKENESS)
