"""Find the help topics that a question is nearest to. Knows words and letters, and no model."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from chat.guide.library import ELSE, ELSE_TITLE, facts, off_topic, synonyms, talk
from chat.guide.phrasing import covering

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

SENTENCES_PER_PATTERN = 8
SENTENCES_PER_STRANGER = 6
SHOWN = 4
PATTERNS_COUNTED = 6  # of a topic: measured best on questions whose own pattern was left out
TOO_COMMON = 0.08  # features of more sentences than this share tell nothing and cost time
_WORD = re.compile(r"[a-z0-9_$]+|[-/.+?]")
_SMALL_WORDS = "a an the i do does is it of to in on for my me you can how what which with and please be are that this"
_FILLERS = frozenset(_SMALL_WORDS.split())


@dataclass(frozen=True)
class Sentence:
    """One way to ask: the topic it belongs to, and the pattern it was unfolded from."""

    topic: str
    pattern: str
    text: str


@dataclass(frozen=True)
class Match:
    """A topic and how near the question is to it, from 0 to 1."""

    topic: str
    title: str
    nearness: float


def features(text: str) -> dict[str, float]:
    """Words, their groups of synonyms, and letter triples of a text with their counts; fillers weigh little."""
    counts: Counter[str] = Counter()
    for word in _WORD.findall(text.lower()):
        if word in _FILLERS:
            counts[f"={word}"] += 0.3  # type: ignore[assignment]  # Counter's stubs know whole numbers only
            continue
        counts[f"={word}"] += 1
        for group in synonyms().get(word, ()):
            counts[f"~{group[0]}"] += 1
        padded = f"<{word}>"
        for start in range(len(padded) - 2):
            counts[padded[start : start + 3]] += 0.5  # type: ignore[assignment]
    return dict(counts)


class Index:
    """Sentences by their features, each a vector of length one."""

    def __init__(self, sentences: Iterable[Sentence]) -> None:
        self.sentences = tuple(sentences)
        found = [features(sentence.text) for sentence in self.sentences]
        frequency = Counter(name for each in found for name in each)
        total = len(found)
        self.known: dict[str, set[str]] = defaultdict(set)  # words of what the guide knows -> the patterns they are in
        for sentence in self.sentences:
            if sentence.topic != ELSE:
                for word in _words(sentence.text):
                    self.known[word].add(sentence.pattern)
        self.weights = {name: math.log(1 + total / count) for name, count in frequency.items()}
        self.postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, each in enumerate(found):
            for name, value in self._unit(each).items():
                if frequency[name] <= TOO_COMMON * total:
                    self.postings[name].append((number, value))

    def _unit(self, found: dict[str, float]) -> dict[str, float]:
        weighed = {name: count * self.weights.get(name, 9.0) for name, count in found.items()}
        length = math.sqrt(sum(value * value for value in weighed.values())) or 1.0
        return {name: value / length for name, value in weighed.items()}

    def nearness(self, text: str, without: AbstractSet[str] = frozenset()) -> dict[str, float]:
        """How near each topic is, by the cosines of its nearest patterns; the patterns `without` do not count."""
        scores: dict[int, float] = defaultdict(float)
        for name, value in self._unit(features(text)).items():
            for number, other in self.postings.get(name, ()):
                scores[number] += value * other
        best: dict[str, dict[str, float]] = defaultdict(dict)
        for number, score in scores.items():
            sentence = self.sentences[number]
            if sentence.pattern not in without and score > best[sentence.topic].get(sentence.pattern, 0.0):
                best[sentence.topic][sentence.pattern] = score
        return {topic: _together(patterns.values()) for topic, patterns in best.items()}

    def unknown(self, text: str, without: AbstractSet[str] = frozenset()) -> int:
        """How many words of a text, and all their synonyms, are in no fact's patterns; `without` does not count."""
        return sum(not self._is_known(word, without) for word in _words(text))

    def _is_known(self, word: str, without: AbstractSet[str]) -> bool:
        group = {other for words in synonyms().get(word, ()) for other in words}
        return any(self.known.get(each, set()) - without for each in {word} | group)


def _words(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.lower()) if len(word) > 1 and word not in _FILLERS}


def _together(scores: Iterable[float]) -> float:
    """The nearest patterns of a topic as one number, each half as weighty as the one before."""
    return sum(score / float(2 << place) for place, score in enumerate(sorted(scores, reverse=True)[:PATTERNS_COUNTED]))


def sentences() -> Iterable[Sentence]:
    """Every way to ask that the index holds."""
    for topic in (*facts(), *talk()):
        for pattern in (*topic.wants, *topic.questions, *topic.words):
            for text in covering(pattern, SENTENCES_PER_PATTERN):
                yield Sentence(topic.id, pattern, text)
    strangers, slots = off_topic()
    for pattern in strangers:
        for text in covering(pattern, SENTENCES_PER_STRANGER, slots):
            yield Sentence(ELSE, pattern, text)


@cache
def index() -> Index:
    """The index over everything the guide was taught."""
    return Index(sentences())


@cache
def titles() -> dict[str, str]:
    """The title of each topic by its id."""
    return {ELSE: ELSE_TITLE} | {topic.id: topic.title for topic in (*facts(), *talk())}


def matches(question: str, without: AbstractSet[str] = frozenset()) -> tuple[Match, ...]:
    """The nearest topics, the nearest first; topics of one title count once. The patterns `without` do not count."""
    found: dict[str, Match] = {}
    for topic, nearness in sorted(index().nearness(question, without).items(), key=lambda pair: (-pair[1], pair[0])):
        found.setdefault(titles()[topic], Match(topic, titles()[topic], nearness))
    return tuple(found.values())[:SHOWN]


def help_text(question: str, without: AbstractSet[str] = frozenset()) -> str:
    """What the guide is shown before the question, as its system prompt.

    `Topics: the licence 8, pipes 3. New words: 1` names the nearest topics with their nearness from 0 to 9, and how
    many words of the question are in nothing that the guide was taught.
    """
    near = ", ".join(f"{each.title} {min(9, round(12 * each.nearness))}" for each in matches(question, without))
    return f"Topics: {near}. New words: {min(9, index().unknown(question, without))}"
