"""Say which held-out questions are too near to what was trained on. Knows words, not meanings.

python tests/guide/making/overlap.py FILE...      prints the lines to take out; exits 1 if there are any
"""

from __future__ import annotations

import random
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from corpus import Worn

from chat.guide.library import facts, follow_ups, off_topic, talk

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 400
DRAWN = 16  # questions of each pattern as it stands, and as many as people type them
TOO_NEAR = 0.7  # of the words in either (Jaccard)
MARKS = re.compile(r"[^a-z0-9_$' -]+")


def words(text: str) -> frozenset[str]:
    """The words of a question; capitals and marks do not count."""
    return frozenset(MARKS.sub(" ", text.lower()).split())


class Trained:
    """The word sets of many trained questions, without typos and with them."""

    def __init__(self) -> None:
        worn = Worn(random.Random(SEED))
        asked = [worn.asked(pattern, wants) for pattern, wants in _patterns() for _ in range(DRAWN)]
        self.sets = list({words(question) for question in (*asked, *map(worn.worn, asked))})
        self.with_word: dict[str, list[int]] = defaultdict(list)
        for number, found in enumerate(self.sets):
            for word in found:
                self.with_word[word].append(number)

    def nearness(self, text: str) -> float:
        """The largest share of common words with any trained question."""
        wanted = words(text)
        common: dict[int, int] = defaultdict(int)
        for word in wanted:
            for number in self.with_word.get(word, ()):
                common[number] += 1
        return max((count / len(wanted | self.sets[number]) for number, count in common.items()), default=0.0)


def _patterns() -> Iterator[tuple[str, bool]]:
    """Every pattern of the corpus, and whether "how do I" is put before it."""
    for topic in (*facts(), *talk()):
        yield from ((pattern, pattern in topic.wants) for pattern in (*topic.wants, *topic.questions, *topic.words))
    yield from ((pattern, False) for pattern in (*off_topic()[0], *follow_ups()))


def questions(path: Path) -> list[str]:
    """The lines of a question file, comments left out."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def main() -> int:
    """Judge the files that the arguments name."""
    trained = Trained()
    found = 0
    for path in map(Path, sys.argv[1:]):
        for line in questions(path):
            nearness = trained.nearness(line.partition(": ")[2])
            if nearness >= TOO_NEAR:
                found += 1
                print(f"{nearness:.2f}  {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
