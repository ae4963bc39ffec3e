"""Find the help topics that a question is most likely about, with a linear classifier.

`topics.bin` has a row of whole numbers for each feature, and the likelihood of a topic is the
softmax over the sums of the rows that a question's features choose. tests/guide/making/ranker.py trains it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from chat.guide.features import MOST, FeatureVocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

PATH = Path(__file__).parent / "topics.bin"
SHOWN = 4


@dataclass(frozen=True)
class Match:
    """A topic and its likelihood, from 0 to 1."""

    topic: str
    title: str
    likelihood: float


@dataclass(frozen=True)
class Ranker:
    """The classifier.

    `topics` are (id, title); `rows` holds a signed byte for each topic, one row after the other for each of `buckets`
    features; the checksum of a feature's name selects its row. The bytes times `scale` are the weights.
    """

    topics: tuple[tuple[str, str], ...]
    vocabulary: FeatureVocabulary
    buckets: int
    scale: float
    rows: memoryview

    def likelihoods(self, text: str, without: AbstractSet[str] = frozenset()) -> list[float]:
        """How likely each topic is, in the order of `topics`.

        Args:
            text: a question.
            without: words of the question's own pattern, which must not count as known because of it.
        """
        width = len(self.topics)
        sums = [0.0] * width
        for name, value in self.vocabulary.features(text, without).items():
            start = bucket(name, self.buckets) * width
            sums = [
                total + value * weight for total, weight in zip(sums, self.rows[start : start + width], strict=True)
            ]
        top = max(sums)
        shares = [math.exp((total - top) * self.scale) for total in sums]
        return [share / sum(shares) for share in shares]

    def matches(self, text: str, without: AbstractSet[str] = frozenset()) -> tuple[Match, ...]:
        """The likeliest topics, the likeliest first; topics of one title are one."""
        found: dict[str, Match] = {}
        for (topic, title), likelihood in zip(self.topics, self.likelihoods(text, without), strict=True):
            before = found.get(title, Match(topic, title, 0.0))
            found[title] = Match(before.topic, title, before.likelihood + likelihood)
        return tuple(sorted(found.values(), key=lambda match: -match.likelihood)[:SHOWN])

    def help_text(self, text: str, without: AbstractSet[str] = frozenset()) -> str:
        """The system prompt of the guide for a question.

        `Topics: the licence 8, pipes 1. New words: 1` names the likeliest topics with their likelihood from 0 to 9, and
        how many words of the question are not in the guide's training data.
        """
        near = ", ".join(f"{each.title} {round(9 * each.likelihood)}" for each in self.matches(text, without))
        return f"Topics: {near}. New words: {min(MOST, self.vocabulary.count_unknown(text, without))}"


def bucket(name: str, buckets: int) -> int:
    """Which row belongs to a feature."""
    return crc32(name.encode()) % buckets


def write(path: Path, ranker: Ranker) -> None:
    """Store a classifier: a line of JSON, then its rows."""
    vocabulary = ranker.vocabulary
    words = {word: [vocabulary.own.get(word, 0), count] for word, count in sorted(vocabulary.every.items())}
    head = {"topics": ranker.topics, "buckets": ranker.buckets, "scale": ranker.scale, "words": words}
    path.write_bytes(json.dumps(head, separators=(",", ":")).encode() + b"\n" + bytes(ranker.rows.cast("B")))


def read(path: Path) -> Ranker:
    """A classifier that `write` stored."""
    line, _, rows = path.read_bytes().partition(b"\n")
    head = json.loads(line)
    words: Mapping[str, tuple[int, int]] = head["words"]
    vocabulary = FeatureVocabulary(
        {word: own for word, (own, _) in words.items()}, {word: all for word, (_, all) in words.items()}
    )
    topics = tuple((topic, title) for topic, title in head["topics"])
    return Ranker(topics, vocabulary, head["buckets"], head["scale"], memoryview(rows).cast("b"))


@cache
def ranker() -> Ranker:
    """The classifier of the topics that the guide reads."""
    return read(PATH)


def help_text(question: str) -> str:
    """The system prompt of the guide for a question."""
    return ranker().help_text(question)
