"""Make the guide's training dialogues from its data files: seeded, endless, with typos. Knows no tokens."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from chat.guide.facts import ELSE, Topic, facts, off_topic, patterns, read_table, refusal, small_talk, synonyms, unfold
from chat.guide.features import words_of
from chat.guide.topics import ranker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chat.guide.topics import Ranker

BEFORE = (
    *("how do i {}", "how do i {}?", "how can i {}", "how to {}", "how does one {}", "what is the way to {}", "{}"),
    *("what is the command to {}", "which command do i need to {}", "i want to {}", "i would like to {}", "can i {}"),
    *("is there a way to {}", "show me how to {}", "tell me how to {}", "explain how to {}", "is it possible to {}"),
    *("what do i have to do to {}", "i need to {}", "please {}", "could you tell me how i can {}", "i'm trying to {}"),
    *("how would i {}", "help me {}", "how should i {}", "what's the easiest way to {}", "{} how", "i cannot {}"),
    *("what must i type to {}", "i don't know how to {}", "where can i {}", "do you know how to {}", "steps to {}"),
)
AFTER = (
    " please",
    " with mistral-chat",
    " here",
    " in this program",
    " from the command line",
    " in the session",
    " now",
)
OPENERS = (
    "hi, ",
    "hello, ",
    "hey ",
    "please, ",
    "excuse me, ",
    "ok, ",
    "so ",
    "and ",
    "sorry, ",
    "quick question: ",
    "um ",
)
BLIND = 0.15  # share of questions whose topics are found by a classifier that never saw their pattern
KEYS = {a: b for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm") for a, b in zip(row, row[1:] + row[-2], strict=True)}
SHORT = {"you": "u", "are": "r", "please": "pls", "what is": "whats", "how do i": "howto", "to": "2", "for": "4"}
SHORT |= {"i want to": "wanna", "because": "cuz", "with": "w/", "and": "&", "does not": "doesnt", "do not": "dont"}


@dataclass(frozen=True)
class Turn:
    """A question as the model reads it, with its help line or without, and the answer it is taught.

    `topic` is a fact's id, `else` for a refusal, or the name of a kind of talk.
    """

    question: str
    answer: str
    topic: str
    help: str = ""

    @property
    def prompt(self) -> str:
        """The user message as the v3 format writes it: system prompt, blank line, question."""
        return f"{self.help}\n\n{self.question}" if self.help else self.question


def words_in(pattern: str) -> frozenset[str]:
    """All words that questions of a pattern may have, those of slots left out."""
    return frozenset(words_of(pattern.translate(str.maketrans("{|}", "   "))))


class Worn:
    """Questions of patterns, as people type them."""

    def __init__(self, random: random.Random) -> None:
        self.random = random
        self.slots = off_topic()[1]

    def asked(self, pattern: str, wants: bool = False) -> str:
        """A question of a pattern; `wants` patterns complete "how do I"."""
        question = unfold(pattern, self.random.choice, self.slots)
        if wants:
            question = self.random.choice(BEFORE).format(question)
            question += self.random.choice(AFTER) if self.random.random() < 0.15 else ""
        return question

    def worn(self, text: str, is_name: bool = False) -> str:
        """The question as a person might type it: capitals, marks, short forms, lost words, typos."""
        chance = self.random.random
        if not is_name:
            if chance() < 0.08:
                text = self.random.choice(OPENERS) + text
            if chance() < 0.4:
                text = self._in_other_words(text)
            if chance() < 0.12:
                text = self._shortened(text)
            if chance() < 0.15:
                text = self._without_a_word(text)
            for _ in range(self.random.choices((0, 1, 2), (70, 22, 8))[0]):
                text = self._mistyped(text)
        if chance() < 0.4:
            text = text[:1].upper() + text[1:]
        elif chance() < 0.04 and not is_name:
            text = text.upper()
        if not text.endswith("?") and chance() < 0.45:
            text += self.random.choices(("?", "??", " ?", ".", "!", "..."), (80, 5, 5, 5, 3, 2))[0]
        return text

    def _in_other_words(self, text: str) -> str:
        """One or two words replaced by synonyms."""
        words = text.split(" ")
        places = [at for at, word in enumerate(words) if word in synonyms()]
        for at in self.random.sample(places, min(len(places), self.random.choice((1, 1, 2)))):
            words[at] = self.random.choice(self.random.choice(synonyms()[words[at]]))
        return " ".join(words)

    def _shortened(self, text: str) -> str:
        long = self.random.choice(list(SHORT))
        return re.sub(rf"\b{long}\b", SHORT[long], text)

    def _without_a_word(self, text: str) -> str:
        words = text.split()
        if len(words) > 3:
            words.pop(self.random.randrange(len(words)))
        return " ".join(words)

    def _mistyped(self, text: str) -> str:
        """One slip of the fingers: a letter lost, doubled, swapped with the next, or its neighbour on the keys."""
        places = [at for at in range(len(text) - 1) if text[at].isalpha() and text[at + 1].isalpha()]
        if len(places) < 4:
            return text
        at = self.random.choice(places)
        letter, following = text[at], text[at + 1]
        slips = ("", letter * 2, following + letter, KEYS.get(letter.lower(), letter))
        slip = self.random.randrange(4)
        return text[:at] + slips[slip] + text[at + (2 if slip == 2 else 1) :]


class Writer:
    """Draws dialogues."""

    def __init__(
        self, seed: int, whole: Ranker | None = None, helped: float = 0.95, blind: Sequence[Ranker] = ()
    ) -> None:
        """`helped` is the share of questions that come with their topics.

        `whole` finds these, the guide's own classifier if none is given, or `blind` for a share of them, part by part.
        """
        self.random = random.Random(seed)
        self.asker = Worn(self.random)
        self.helped = helped
        self.whole = whole or ranker()
        self.blind = blind
        self.facts = {topic.id: topic for topic in facts()}
        self.strangers = off_topic()[0]
        table = read_table("dialogues.toml")
        self.follows, self.memories, self.name = table["follow"], table["memory"], table["name"]
        self.follows_of = {id: [follow for follow in self.follows if id in follow["after"]] for id in self.facts}
        self.names = self.name["names"].split("|")

    def dialogues(self) -> Iterator[tuple[Turn, ...]]:
        """Dialogues without end, of one to five turns."""
        kinds = (self._single, self.follow, self.memory, self._names, self._session)
        while True:
            [kind] = self.random.choices(kinds, (64, 12, 13, 5, 6))
            yield kind()

    def _single(self) -> tuple[Turn, ...]:
        return (self._any(help=True),)

    def _session(self) -> tuple[Turn, ...]:
        count = self.random.randint(1, 3)
        return (*(self._any() for _ in range(count)), self._any(help=True))

    def follow(self) -> tuple[Turn, ...]:
        """A question that only the one before makes clear."""
        first = self._fact(self.facts[self.random.choice([id for id, follows in self.follows_of.items() if follows])])
        follow = self.random.choice(self.follows_of[first.topic])
        topic = self.facts[follow["fact"]]
        return *self._some(), first, self._turn(self._pattern(follow["ask"]), topic.answer, topic.id, help=True)

    def memory(self) -> tuple[Turn, ...]:
        """A question about what was said before."""
        memory = self.random.choice(self.memories)
        question = self._pattern(memory["ask"])
        if self.random.random() < 0.2:
            return (self._turn(question, memory["without"], memory["id"], help=True),)
        topic = self.random.choice(list(self.facts.values()))
        answer = memory["answer"].replace("<previous>", topic.answer).replace("<title>", topic.title)
        return *self._some(), self._fact(topic), self._turn(question, answer, memory["id"], help=True)

    def _names(self) -> tuple[Turn, ...]:
        """Names that are told or asked for; a model this small cannot say them again."""
        if self.random.random() < 0.5:
            return *self._some(), self._turn(self._pattern(self.name["ask"]), self.name["asked"], "name", help=True)
        told = self._pattern(self.name["tell"])
        return *self._some(), self._turn(told, self.name["told"], "name", True, self._draw_name())

    def _draw_name(self) -> str:
        if self.random.random() < 0.4:
            return self.random.choice(self.names)
        pick = self.random.choice
        parts = [pick("bcdfghjklmnprstvwz") + pick("aeiou") for _ in range(self.random.randint(1, 3))]
        return ("".join(parts) + pick(["", "", "n", "r", "s", "l", "x", "m"])).capitalize()

    def _some(self) -> tuple[Turn, ...]:
        return tuple(self._any() for _ in range(self.random.choices((0, 1, 2), (6, 3, 1))[0]))

    def _any(self, help: bool = False) -> Turn:
        [kind] = self.random.choices(("fact", "else", "talk"), (62, 31, 7))
        if kind == "fact":
            return self._fact(self.random.choice(list(self.facts.values())), help)
        if kind == "talk":
            topic = self.random.choice(small_talk())
            return self._turn(self.random.choice(topic.questions), topic.answer, topic.id, help)
        return self._turn(self.random.choice(self.strangers), refusal().answer, ELSE, help)

    def _fact(self, topic: Topic, help: bool = False) -> Turn:
        wants, questions, words = topic.wants, topic.questions, topic.words
        [kind] = self.random.choices((wants, questions, words), (5 if wants else 0, 9, 2))
        return self._turn(self.random.choice(kind), topic.answer, topic.id, help, wants=kind is wants)

    def _pattern(self, block: str) -> str:
        return self.random.choice(patterns(block))

    def _turn(
        self, pattern: str, answer: str, topic: str, help: bool = False, name: str = "", wants: bool = False
    ) -> Turn:
        question = self.asker.asked(pattern.replace("<name>", name), wants)
        question = self.asker.worn(question, is_name=topic == "name")
        if not help or self.random.random() >= self.helped:
            return Turn(question, answer, topic)
        is_blind = self.blind and self.random.random() < BLIND
        finder = self.blind[crc32(pattern.encode()) % len(self.blind)] if is_blind else self.whole
        return Turn(question, answer, topic, finder.help_text(question, words_in(pattern) if is_blind else frozenset()))
