"""Turn a question into weighted features: words, pairs of words, synonyms, letter groups."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from chat.guide.facts import synonyms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

LONGEST = 60  # words of a question that count
CORRECTED_LENGTHS = range(4, 21)  # letters of a word that may be a typing error
FILLER, PAIR, LETTERS = 0.4, 0.7, 0.7  # weights of small words, of neighbours and of runs of letters; words weigh 1
MOST = 4  # the highest count that is told apart
_WORD = re.compile(r"[a-z0-9_$]+(?:'[a-z]+)?|[-/.+?]")
_SMALL_WORDS = "a an the i do does is it of to in on for my me you can how what which with and please be are that this"
FILLERS = frozenset(_SMALL_WORDS.split())
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, and marks that carry meaning."""
    return _WORD.findall(text.lower().replace("’", "'"))


class FeatureVocabulary:
    """The words of the training data, with the number of patterns they are in."""

    def __init__(self, own: Mapping[str, int], every: Mapping[str, int]) -> None:
        """Store the counts of words.

        Args:
            own: in the guide's own patterns.
            every: in all patterns, those of questions that the guide does not answer included.
        """
        self.own = dict(own)
        self.every = dict(every)
        self._corrections: dict[str, str] = {}

    def corrected(self, word: str) -> str:
        """The known word that one typing error turns into this unknown one; the word itself if there is none."""
        if len(word) not in CORRECTED_LENGTHS or word in self.every or not (word.isascii() and word.isalpha()):
            return word
        if word not in self._corrections:
            found = [near for near in set(_typing_errors(word)) if near in self.every]
            self._corrections[word] = max(found, key=lambda near: (self.every[near], near), default=word)
        return self._corrections[word]

    def is_own(self, word: str, without: AbstractSet[str] = frozenset()) -> bool:
        """Whether a word, or one that may stand for it, is in the guide's patterns; in one less `without` it."""
        group = {word, *(other for words in synonyms().get(word, ()) for other in words)}
        return any(self.own.get(each, 0) > (each in without) for each in group)

    def count_unknown(self, text: str, without: AbstractSet[str] = frozenset()) -> int:
        """How many words of a text are not in the guide's own patterns."""
        return sum(not self.is_own(word, without) for word in self._content_words(text))

    def _content_words(self, text: str) -> set[str]:
        return {self.corrected(word) for word in words_of(text)[:LONGEST] if len(word) > 1 and word not in FILLERS}

    def features(self, text: str, without: AbstractSet[str] = frozenset()) -> dict[str, float]:
        """Names of features with their weights, the words' a vector of length one.

        Args:
            text: a question.
            without: words of the question's own pattern, which must not count as known because of that pattern.
        """
        words = [self.corrected(word) for word in words_of(text)[:LONGEST]]
        counts: defaultdict[str, float] = defaultdict(float)
        for word in words:
            if word in FILLERS:
                counts[f"={word}"] += FILLER
                continue
            counts[f"={word}"] += 1
            for group in synonyms().get(word, ()):
                counts[f"~{group[0]}"] += 1
            if len(word) > 1:
                for run in _runs(f"<{word[:30]}>"):
                    counts[run] += LETTERS
        for pair in zip(["<", *words], [*words, ">"], strict=True):
            counts[" ".join(pair)] += PAIR
        length = math.sqrt(sum(value * value for value in counts.values()))
        return {name: value / length for name, value in counts.items()} | self._figures(text, without)

    def _figures(self, text: str, without: AbstractSet[str]) -> dict[str, float]:
        content = self._content_words(text)
        new = sum(not self.is_own(word, without) for word in content)
        share = round(4 * new / max(1, len(content)))
        return {
            "!": 1.0,
            f"!new {min(new, MOST)}": 1.0,
            f"!share {share}": 1.0,
            f"!old {min(len(content) - new, MOST)}": 1.0,
        }


def _runs(word: str) -> Iterator[str]:
    """Three and four letters in a row."""
    for length in (3, 4):
        for start in range(len(word) - length + 1):
            yield f"{length}{word[start : start + length]}"


def _typing_errors(word: str) -> Iterator[str]:
    """All words that differ by one lost, added, changed or swapped letter."""
    for at in range(len(word) + 1):
        before, after = word[:at], word[at:]
        if after:
            yield before + after[1:]
        if len(after) > 1:
            yield before + after[1] + after[0] + after[2:]
        for letter in _ALPHABET:
            yield before + letter + after
            if after:
                yield before + letter + after[1:]
