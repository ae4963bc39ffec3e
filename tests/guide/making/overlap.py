"""Say which held-out questions are too near to what is trained on. Knows words, not meanings.

    python tests/guide/making/overlap.py FILE... [--dialogues 480000]

Draws every pattern some times, and as many dialogues as no training run is long, by that run's own seed; of each
question both what was written and what was typed counts. Prints the lines to take out; exits 1 if there are any.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import sys
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from corpus import Worn, Writer

from chat.guide.facts import facts, follow_ups, off_topic, small_talk
from chat.guide.features import FeatureVocabulary
from chat.guide.topics import Ranker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SEED = 400
TRAINED_SEED = 1873  # of the dialogues that train.py draws
DIALOGUES = 480_000
DRAWN = 16  # questions of each pattern
TOO_NEAR = 0.7  # of the words in either (Jaccard)
MARKS = re.compile(r"[^a-z0-9_$' -]+")
Words = frozenset[str]


def words(text: str) -> Words:
    """The words of a question; capitals and marks do not count."""
    return frozenset(MARKS.sub(" ", text.lower()).split())


class Asked(Worn):
    """Keeps the words of all that is asked."""

    def __init__(self, random: random.Random) -> None:
        super().__init__(random)
        self.sets: set[Words] = set()

    def worn(self, text: str, is_name: bool = False) -> str:
        """Keeps the question as it was written and as it is typed."""
        typed = super().worn(text, is_name)
        self.sets |= {words(text), words(typed)}
        return typed


class Silent(Ranker):
    """A classifier for dialogues whose help lines are not read."""

    def help_text(self, text: str, without: object = frozenset()) -> str:
        """Nothing."""
        return ""


def trained(dialogues: int, drawn: int = DRAWN) -> set[Words]:
    """The words of every question that a training run of no more dialogues can meet, and of each pattern."""
    asked = Asked(random.Random(SEED))
    for pattern, wants in _patterns():
        for _ in range(drawn):
            asked.worn(asked.asked(pattern, wants))
    silent = Silent((), FeatureVocabulary({}, {}), 1, 1.0, memoryview(b""))
    writer = Writer(TRAINED_SEED, silent, blind=(silent,))
    writer.asker = heard = Asked(writer.random)
    for _ in islice(writer.dialogues(), dialogues):
        pass
    return asked.sets | heard.sets


class Held:
    """Held-out questions by their rare words: two sets that are near have one of these in common."""

    def __init__(self, lines: Iterable[str], counts: Counter[str]) -> None:
        self.counts = counts
        self.sets = {line: words(line.partition(": ")[2]) for line in lines}
        self.with_word: dict[str, list[str]] = defaultdict(list)
        for line, found in self.sets.items():
            for word in self._rarest(found):
                self.with_word[word].append(line)

    def _rarest(self, found: Words) -> list[str]:
        """So many of the rarest words that a set which is near has at least one (prefix filter of set joins)."""
        ordered = sorted(found, key=lambda word: (self.counts[word], word))
        return ordered[: len(found) - math.ceil(TOO_NEAR * len(found)) + 1]

    def near(self, found: Words) -> Iterator[tuple[float, str]]:
        """The lines whose words are nearly these, and how nearly."""
        for line in {line for word in self._rarest(found) for line in self.with_word.get(word, ())}:
            nearness = len(found & self.sets[line]) / len(found | self.sets[line])
            if nearness >= TOO_NEAR:
                yield nearness, line


def _patterns() -> Iterator[tuple[str, bool]]:
    """Every pattern of the corpus, and whether "how do I" is put before it."""
    for topic in (*facts(), *small_talk()):
        yield from ((pattern, pattern in topic.wants) for pattern in (*topic.wants, *topic.questions, *topic.words))
    yield from ((pattern, False) for pattern in (*off_topic()[0], *follow_ups()))


def questions(path: Path) -> list[str]:
    """The lines of a question file, comments left out."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def nearest(lines: Iterable[str], sets: Iterable[Words]) -> dict[str, float]:
    """The lines that are too near to one of the sets, with the nearness of the nearest."""
    sets = list(sets)
    held = Held(lines, Counter(word for found in sets for word in found))
    nearness: dict[str, float] = {}
    for found in sets:
        for near, line in held.near(found):
            nearness[line] = max(near, nearness.get(line, 0))
    return nearness


def main() -> int:
    """Judge the files that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--dialogues", type=int, default=DIALOGUES)
    given = parser.parse_args()
    sets = trained(given.dialogues)
    print(f"{len(sets):,} sets of words", file=sys.stderr)
    found = nearest([line for path in given.files for line in questions(path)], sets)
    for line, nearness in found.items():
        print(f"{nearness:.2f}  {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
