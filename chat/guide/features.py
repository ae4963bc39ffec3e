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
MENDED = range(4, 21)  # letters of a word that may be a mistyped one
FILLER, PAIR, LETTERS = 0.4, 0.7, 0.7  # weights of small words, of neighbours and of runs of letters; words weigh 1
MOST = 4  # of what is counted: more is the same
_WORD = re.compile(r"[a-z0-9_$]+(?:'[a-z]+)?|[-/.+?]")
_SMALL_WORDS = "a an the i do does is it of to in on for my me you can how what which with and please be are that this"
FILLERS = frozenset(_SMALL_WORDS.split())
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, and the marks that tell something."""
    return _WORD.findall(text.lower().replace("’", "'"))


class FeatureVocabulary:
    """The words of everything that was taught, with the number of patterns they are in."""

    def __init__(self, own: Mapping[str, int], every: Mapping[str, int]) -> None:
        """Take the words of the guide's own patterns, and those of all, strangers included."""
        self.own = dict(own)
        self.every = dict(every)
        self._mended: dict[str, str] = {}

    def mended(self, word: str) -> str:
        """The word that was probably meant where this one was never seen and one slip of the fingers makes it."""
        if len(word) not in MENDED or word in self.every or not (word.isascii() and word.isalpha()):
            return word
        if word not in self._mended:
            found = [near for near in set(_slips(word)) if near in self.every]
            self._mended[word] = max(found, key=lambda near: (self.every[near], near), default=word)
        return self._mended[word]

    def is_own(self, word: str, without: AbstractSet[str] = frozenset()) -> bool:
        """Whether a word, or one that may stand for it, is in the guide's patterns; in one less `without` it."""
        group = {word, *(other for words in synonyms().get(word, ()) for other in words)}
        return any(self.own.get(each, 0) > (each in without) for each in group)

    def strangers(self, text: str, without: AbstractSet[str] = frozenset()) -> int:
        """How many words of a text are in nothing that the guide knows."""
        return sum(not self.is_own(word, without) for word in self._telling(text))

    def _telling(self, text: str) -> set[str]:
        return {self.mended(word) for word in words_of(text)[:LONGEST] if len(word) > 1 and word not in FILLERS}

    def features(self, text: str, without: AbstractSet[str] = frozenset()) -> dict[str, float]:
        """Names of features with their weights, the words' a vector of length one.

        Args:
            text: a question.
            without: words of the question's own pattern, which must not count as known because of it.
        """
        words = [self.mended(word) for word in words_of(text)[:LONGEST]]
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
        telling = self._telling(text)
        new = sum(not self.is_own(word, without) for word in telling)
        share = round(4 * new / max(1, len(telling)))
        return {
            "!": 1.0,
            f"!new {min(new, MOST)}": 1.0,
            f"!share {share}": 1.0,
            f"!old {min(len(telling) - new, MOST)}": 1.0,
        }


def _runs(word: str) -> Iterator[str]:
    """Three and four letters in a row."""
    for length in (3, 4):
        for start in range(len(word) - length + 1):
            yield f"{length}{word[start : start + length]}"


def _slips(word: str) -> Iterator[str]:
    """All words that are one lost, added, changed or swapped letter away."""
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
