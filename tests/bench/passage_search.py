"""How often `--find` has the right passage among the first five.

`python -m tests.bench.passage_search [-m MODEL.gguf]` prints it for words alone, and with the vectors of each model.
The documents and the 200 questions lie in tests/chat/documents/search_set; half of them (`dev`) chose the weights.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from chat.documents.document import Document
from chat.documents.meaning import MeaningScores
from chat.documents.passages import Passage
from chat.documents.ranking import best_passages
from chat.documents.search import PassageSearch
from chat.documents.word_vectors import WordVectors

SET = Path(__file__).resolve().parent.parent / "chat" / "documents" / "search_set"
FIRST = 5
Rank = Callable[[str], list[Passage]]


def questions() -> list[dict[str, str]]:
    with (SET / "questions.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def by_words(document: Document) -> Rank:
    return PassageSearch([document]).ranked


def by_meaning(document: Document, vectors: WordVectors) -> Rank:
    search = PassageSearch([document])
    meaning = MeaningScores(search.passages, vectors)

    return lambda question: [search.passages[number] for number in best_passages(search, meaning, question)]


def found(make: Callable[[Document], Rank], rows: list[dict[str, str]]) -> tuple[Counter[str], Counter[str]]:
    """How many questions of each style and half have their passage among the first five, and how many there are."""
    names = {row["document"] for row in rows}
    ranks = {name: make(Document(name, (SET / name).read_text("utf-8"))) for name in names}
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for row in rows:
        first = ranks[row["document"]](row["question"])[:FIRST]
        for group in (row["style"], row["set"], "all"):
            asked[group] += 1
            right[group] += any(row["quote"] in passage.text for passage in first)
    return right, asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", type=Path, action="append", default=[])
    ways: list[tuple[str, Callable[[Document], Rank]]] = [("words only", by_words)]
    for path in parser.parse_args().model:
        vectors = WordVectors(path)
        ways.append((path.name, lambda document, vectors=vectors: by_meaning(document, vectors)))
    for name, make in ways:
        right, asked = found(make, questions())
        print(f"{name:32}", "  ".join(f"{group} {right[group]}/{asked[group]}" for group in asked))


if __name__ == "__main__":
    main()
