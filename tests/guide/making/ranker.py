"""Train the classifier that tells a question's help topics, and blind ones that never saw a part of the corpus.

    python tests/guide/making/ranker.py FOLDER     writes FOLDER/topics.bin and FOLDER/blind-N.bin, prints figures

Each pattern of the corpus belongs to one of `PARTS`; the blind classifier of that part was trained on the others. So
the guide is taught with help lines that are as often wrong as those of questions nobody has written down. The figures
are of each pattern under its blind classifier, with typos, and of tuning.txt under the whole one.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import torch
from corpus import Worn, words_in
from torch import Tensor
from torch.nn import functional

from chat.guide.facts import BEFORE_TITLE, ELSE, ELSE_TITLE, TALK_TITLE, facts, follow_ups, off_topic, small_talk
from chat.guide.features import FeatureVocabulary, words_of
from chat.guide.topics import Ranker, bucket, read, write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

SEED = 7
PARTS = 8
BUCKETS = 1 << 15
DRAWN = 14  # questions of each pattern
ROUNDS = 10
BATCH = 1024
RATE = 0.05
THREADS = 2  # their number changes the last bits of sums, and with these the bytes
DECAY = 5e-7
SHARES = {ELSE_TITLE: 0.27, TALK_TITLE: 0.04, BEFORE_TITLE: 0.05}  # of all questions; facts share the rest
TUNING = Path(__file__).parent.parent / "tuning.txt"


@dataclass(frozen=True)
class Way:
    """A way to ask: the place of its topic, its pattern, whether "how do I" stands before it, its own words."""

    topic: int
    pattern: str
    wants: bool
    words: AbstractSet[str]

    @property
    def part(self) -> int:
        """The part of the corpus that the pattern belongs to."""
        return part_of(self.pattern)


def part_of(pattern: str) -> int:
    """The part of the corpus that a pattern belongs to."""
    return crc32(pattern.encode()) % PARTS


def topics() -> tuple[tuple[str, str], ...]:
    """(id, title) of all that is told apart."""
    known = [(topic.id, topic.title) for topic in facts()]
    return (ELSE, ELSE_TITLE), ("before", BEFORE_TITLE), *((each.id, TALK_TITLE) for each in small_talk()), *known


def ways() -> Iterator[Way]:
    """Every pattern of the corpus."""
    place = {id: number for number, (id, _) in enumerate(topics())}
    for topic in (*facts(), *small_talk()):
        for pattern in (*topic.wants, *topic.questions, *topic.words):
            yield Way(place[topic.id], pattern, pattern in topic.wants, words_in(pattern))
    for pattern in off_topic()[0]:
        yield Way(place[ELSE], pattern, False, words_in(pattern))
    for pattern in follow_ups():
        yield Way(place["before"], pattern, False, words_in(pattern))


def vocabulary(corpus: Sequence[Way]) -> FeatureVocabulary:
    """The words of all patterns, counted."""
    own, every = Counter[str](), Counter[str]()
    for way in corpus:
        every.update(way.words)
        own.update(way.words if way.topic else ())
    for lines in off_topic()[1].values():
        every.update(word for line in lines for word in words_of(line))
    return FeatureVocabulary(own, every)


@dataclass(frozen=True)
class Questions:
    """Drawn questions: features' rows and weights one after the other, where each question begins, what it asks for."""

    rows: Tensor
    weights: Tensor
    begins: Tensor
    topics: Tensor
    parts: Tensor
    shares: Tensor  # how much each counts

    def __len__(self) -> int:
        return len(self.topics)

    def some(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, weights and beginnings of some of the questions."""
        ends = torch.cat((self.begins[1:], torch.tensor([len(self.rows)])))
        lengths = (ends - self.begins)[chosen]
        begins = lengths.cumsum(0) - lengths
        places = torch.arange(int(lengths.sum())) + (self.begins[chosen] - begins).repeat_interleave(lengths)
        return self.rows[places], self.weights[places], begins


def drawn(corpus: Sequence[Way], words: FeatureVocabulary, seed: int, count: int) -> Questions:
    """Questions of each pattern as people type them; each topic as often as `SHARES` says."""
    worn = Worn(random.Random(seed))
    titles = [title for _, title in topics()]
    of_title = Counter(titles[way.topic] for way in corpus)
    of_topic = Counter(way.topic for way in corpus)
    rest = (1 - sum(SHARES.values())) / len(facts())
    rows, weights, begins, wanted, parts, shares = [], [], [], [], [], []
    for way in corpus:
        title = titles[way.topic]
        share = SHARES[title] / of_title[title] if title in SHARES else rest / of_topic[way.topic]
        for _ in range(count):
            found = words.features(worn.worn(worn.asked(way.pattern, wants=way.wants)), way.words)
            begins.append(len(rows))
            rows += [bucket(name, BUCKETS) for name in found]
            weights += found.values()
            wanted.append(way.topic)
            parts.append(way.part)
            shares.append(share)
    counted = torch.tensor(shares)
    return Questions(*(torch.tensor(each) for each in (rows, weights, begins, wanted, parts)), counted / counted.mean())


def sums(table: Tensor, some: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """(questions, classifiers, topics) scores under a (buckets, classifiers * topics) table."""
    rows, weights, begins = some
    found = functional.embedding_bag(rows, table, begins, mode="sum", per_sample_weights=weights)
    return found.view(len(begins), PARTS + 1, -1)


def train(questions: Questions) -> Tensor:
    """(buckets, PARTS + 1, topics): a classifier blind to each part, and the whole one."""
    generator = torch.Generator().manual_seed(SEED)
    width = len(topics())
    table = torch.zeros(BUCKETS, (PARTS + 1) * width, requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=RATE, betas=(0.9, 0.99), weight_decay=DECAY, fused=True)
    steps = ROUNDS * (len(questions) // BATCH)
    seen = torch.stack([*(questions.parts != part for part in range(PARTS)), questions.parts >= 0], 1).float()
    seen = seen * questions.shares[:, None]
    for step in range(steps):
        if step % (steps // ROUNDS) == 0:
            order = torch.randperm(len(questions), generator=generator)
        at = step % (steps // ROUNDS) * BATCH
        chosen = order[at : at + BATCH]
        found = sums(table, questions.some(chosen)).transpose(1, 2)
        wanted = questions.topics[chosen][:, None].expand(-1, PARTS + 1)
        loss = (functional.cross_entropy(found, wanted, reduction="none") * seen[chosen]).sum() / seen[chosen].sum()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = RATE * (0.02 + 0.98 * (1 - step / steps))
        optimizer.step()
        optimizer.zero_grad()
    return table.detach().view(BUCKETS, PARTS + 1, width)


def packed(table: Tensor, words: FeatureVocabulary) -> Ranker:
    """One classifier, its (buckets, topics) weights as bytes."""
    scale = float(table.abs().quantile(0.99999) if table.numel() < 1 << 24 else table.abs().max()) / 127
    rows = (table / scale).round().clamp(-127, 127).to(torch.int8).contiguous()
    return Ranker(topics(), words, BUCKETS, scale, memoryview(rows.numpy().tobytes()).cast("b"))


def blind(folder: Path) -> list[Ranker]:
    """The classifiers that never saw a part, by the part."""
    return [read(folder / f"blind-{part}.bin") for part in range(PARTS)]


def whole(folder: Path) -> Ranker:
    """The classifier that saw everything, the one to be shipped."""
    return read(folder / "topics.bin")


def report(name: str, found: Sequence[tuple[AbstractSet[str], Ranker, str, AbstractSet[str]]]) -> None:
    """Print how often the first topic is right, and how often one of those that are shown is."""
    for of_else in (False, True):
        some = [each for each in found if (ELSE in each[0]) == of_else]
        shown = [[match.topic for match in ranker.matches(text, without)] for _, ranker, text, without in some]
        first = sum(topics[0] in wanted for (wanted, *_), topics in zip(some, shown, strict=True))
        near = sum(bool(wanted & {*topics}) for (wanted, *_), topics in zip(some, shown, strict=True))
        kind = "else " if of_else else "facts"
        print(f"{name:8} {kind} {len(some):5} first {first / len(some):.1%} shown {near / len(some):.1%}", flush=True)


def make(folder: Path) -> None:
    """Train, store and judge."""
    torch.set_num_threads(THREADS)
    corpus = list(ways())
    words = vocabulary(corpus)
    table = train(drawn(corpus, words, SEED, DRAWN))
    for part in range(PARTS):
        write(folder / f"blind-{part}.bin", packed(table[:, part], words))
    write(folder / "topics.bin", packed(table[:, PARTS], words))
    worn, ids, rankers = Worn(random.Random(SEED + 1)), [id for id, _ in topics()], blind(folder)
    known = {id for id, title in topics() if title not in (TALK_TITLE, BEFORE_TITLE)}
    asked = [way for way in corpus if ids[way.topic] in known]
    drawn_once = [(way, worn.worn(worn.asked(way.pattern, wants=way.wants))) for way in asked]
    report("blind", [({ids[way.topic]}, rankers[way.part], text, way.words) for way, text in drawn_once])
    lines = [line.partition(": ") for line in TUNING.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    report("tuning", [({*wanted.split(", ")}, whole(folder), text, frozenset()) for wanted, _, text in lines])


if __name__ == "__main__":
    make(Path(sys.argv[1]))
