"""How often `--find` has the right passage among the first five, and how often it sends it.

`python -m tests.bench.passage_search [-m MODEL.gguf] [-e EMBEDDING_MODEL.gguf]` prints it for words alone, with our
table of English words, with the table of each model that answers, and with each embedding model; `--keep FOLDER` keeps
vectors for the next time. Three sets of documents in tests/chat/documents have questions: half of those of `search_set`
(`dev`) chose the weights, all of it and `manual_set` chose the table of English words, and by `held_out_set` nothing
was ever chosen; keep it so.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from chat.documents.document import Document
from chat.documents.embeddings import EmbeddingScores
from chat.documents.meaning import MeaningScores
from chat.documents.passages import Passage
from chat.documents.ranking import Scores, best_passages
from chat.documents.search import PassageSearch
from chat.documents.selection import ENGLISH_WORDS, MOST_BYTES, within
from chat.documents.word_vectors import WordVectors

FOLDER = Path(__file__).resolve().parent.parent / "chat" / "documents"
SETS = tuple(FOLDER / name for name in ("search_set", "manual_set", "held_out_set"))
GROUPS = ("style", "set")  # columns by which questions are counted, where a set has them
FIRST = 5
Rank = Callable[[str], list[Passage]]


def questions(folder: Path) -> list[dict[str, str]]:
    with (folder / "questions.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def by_words(document: Document) -> Rank:
    return PassageSearch([document]).ranked


def by_meaning(document: Document, scores_of: Callable[[list[Passage]], Scores]) -> Rank:
    search = PassageSearch([document])
    meaning = scores_of(search.passages)
    return lambda question: [search.passages[number] for number in best_passages(search, meaning, question)]


def by_table(model: Path) -> Callable[[Document], Rank]:
    return partial(by_meaning, scores_of=partial(MeaningScores, vectors=WordVectors(model)))


def by_embedding(model: Path, folder: Path | None) -> Callable[[Document], Rank]:
    def scores_of(passages: list[Passage]) -> Scores:
        return EmbeddingScores(passages, model, folder)

    return lambda document: by_meaning(document, scores_of)


def found(make: Callable[[Document], Rank], folder: Path) -> tuple[Counter[str], Counter[str]]:
    """How many questions of each group have their passage among the first five, and how many there are.

    The group `sent` counts all questions whose passage is sent at all.
    """
    rows = questions(folder)
    names = {row["document"] for row in rows}
    ranks = {name: make(Document(name, (folder / name).read_text("utf-8"))) for name in names}
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for row in rows:
        sent = within(ranks[row["document"]](row["question"]), MOST_BYTES)
        holds = [_spaced(row["quote"]) in _spaced(passage.text) for passage in sent]
        for group in (*(row[each] for each in GROUPS if each in row), "all"):
            asked[group] += 1
            right[group] += any(holds[:FIRST])
        asked["sent"] += 1
        right["sent"] += any(holds)
    return right, asked


def _spaced(text: str) -> str:
    """A text with single spaces, as lines may break in the middle of a quote."""
    return " ".join(text.split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", type=Path, action="append", default=[])
    parser.add_argument("-e", "--embedding-model", type=Path, action="append", default=[])
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    ways: list[tuple[str, Callable[[Document], Rank]]] = [("words only", by_words)]
    ways += [(path.name, by_table(path)) for path in (ENGLISH_WORDS, *asked.model)]
    ways += [(path.name, by_embedding(path, asked.keep)) for path in asked.embedding_model]
    for folder in SETS:
        print(folder.name)
        for name, make in ways:
            right, asked = found(make, folder)
            print(f"  {name:32}", "  ".join(f"{group} {right[group]}/{asked[group]}" for group in asked), flush=True)


if __name__ == "__main__":
    main()
