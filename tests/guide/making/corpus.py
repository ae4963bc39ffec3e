"""Make the guide's training dialogues from its data files: seeded, endless, with typos. Knows no tokens."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.guide.library import ELSE, Topic, facts, off_topic, read_table, refusal, synonyms, talk
from chat.guide.phrasing import patterns, unfold
from chat.guide.topics import help_text

if TYPE_CHECKING:
    from collections.abc import Iterator

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
LEFT_OUT = 0.6  # share of questions that retrieval has never seen; of the others it knows the very pattern
HALVED = 0.3  # share of questions for which retrieval sees half of the corpus
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


class Writer:
    """Draws dialogues."""

    def __init__(self, seed: int, helped: float = 0.9) -> None:
        self.random = random.Random(seed)
        self.helped = helped  # share of questions that come with their topics
        self.facts = {topic.id: topic for topic in facts()}
        self.strangers, self.slots = off_topic()
        table = read_table("dialogues.toml")
        self.follows, self.memories, self.name = table["follow"], table["memory"], table["name"]
        self.follows_of = {id: [follow for follow in self.follows if id in follow["after"]] for id in self.facts}
        every = [
            *self.strangers,
            *(each for topic in facts() for each in (*topic.wants, *topic.questions, *topic.words)),
        ]
        self.halves = [frozenset(self.random.sample(every, len(every) // 2)) for _ in range(40)]
        self.names = self.name["names"].split("|")[::2]  # the others are for the test

    def dialogues(self) -> Iterator[tuple[Turn, ...]]:
        """Dialogues without end, of one to five turns."""
        kinds = (self._single, self._follow, self._memory, self._names, self._session)
        while True:
            [kind] = self.random.choices(kinds, (76, 8, 6, 6, 4))
            yield kind()

    def _single(self) -> tuple[Turn, ...]:
        return (self._any(help=True),)

    def _session(self) -> tuple[Turn, ...]:
        count = self.random.randint(1, 3)
        return (*(self._any() for _ in range(count)), self._any(help=True))

    def _follow(self) -> tuple[Turn, ...]:
        first = self._fact(self.facts[self.random.choice([id for id, follows in self.follows_of.items() if follows])])
        follow = self.random.choice(self.follows_of[first.topic])
        topic = self.facts[follow["fact"]]
        return *self._some(), first, self._turn(self._unfold(follow["ask"]), topic.answer, topic.id, help=True)

    def _memory(self) -> tuple[Turn, ...]:
        memory = self.random.choice(self.memories)
        question = self._unfold(memory["ask"])
        if self.random.random() < 0.2:
            return (self._turn(question, memory["without"], memory["id"], help=True),)
        topic = self.random.choice(list(self.facts.values()))
        answer = memory["answer"].replace("<previous>", topic.answer).replace("<title>", topic.title)
        return *self._some(), self._fact(topic), self._turn(question, answer, memory["id"], help=True)

    def _names(self) -> tuple[Turn, ...]:
        name = self._draw_name()
        asked = self._unfold(self.name["ask"])
        if self.random.random() < 0.2:
            return *self._some(), self._turn(asked, self.name["unknown"], "name", help=True)
        told = self._turn(self._unfold(self.name["tell"]).replace("<name>", name), self._named("told", name), "name")
        known = self._turn(asked, self._named("known", name), "name", help=True)
        return told, *self._some(), known

    def _named(self, key: str, name: str) -> str:
        return str(self.name[key]).replace("<name>", name)

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
            topic = self.random.choice(talk())
            pattern = self.random.choice(topic.questions)
            return self._turn(unfold(pattern, self.random.choice), topic.answer, topic.id, help, pattern)
        pattern = self.random.choice(self.strangers)
        question = unfold(pattern, self.random.choice, self.slots)
        return self._turn(question, refusal().answer, ELSE, help, pattern)

    def _fact(self, topic: Topic, help: bool = False) -> Turn:
        wants, questions, words = topic.wants, topic.questions, topic.words
        weights = (5 if wants else 0, 7, 2)
        [kind] = self.random.choices((wants, questions, words), weights)
        pattern = self.random.choice(kind)
        question = unfold(pattern, self.random.choice)
        if kind is wants:
            question = self.random.choice(BEFORE).format(question)
            question += self.random.choice(AFTER) if self.random.random() < 0.15 else ""
        return self._turn(question, topic.answer, topic.id, help, pattern)

    def _unfold(self, block: str) -> str:
        return unfold(self.random.choice(patterns(block)), self.random.choice)

    def _turn(self, question: str, answer: str, topic: str, help: bool = False, pattern: str | None = None) -> Turn:
        question = self.worn(question, is_name=topic == "name")
        if help and self.random.random() < self.helped:
            return Turn(question, answer, topic, help_text(question, without=self._hidden(pattern)))
        return Turn(question, answer, topic)

    def _hidden(self, pattern: str | None) -> frozenset[str]:
        """What retrieval must not see of the corpus: often the question itself, and sometimes half of the rest.

        A question that was never written down finds less that is like it, and more words are new in it; still most
        people ask for most things in much the same words.
        """
        half = self.random.choice(self.halves) if self.random.random() < HALVED else frozenset()
        return half | {pattern} if pattern and self.random.random() < LEFT_OUT else half

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
