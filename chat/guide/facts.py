"""Read the guide's facts, small talk and refusals from its data files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from chat.guide.phrasing import patterns

ELSE = "else"  # the topic of everything that the guide does not know
ELSE_TITLE = "something else"
TALK_TITLE = "small talk"
BEFORE_TITLE = "what was said before"


@dataclass(frozen=True)
class Topic:
    """One thing the guide knows.

    `keys` are alternatives of which a right answer contains one each; `wants` complete "how do I ...", `questions`
    are whole, `words` are what people type as keywords; all three are patterns of `chat.guide.phrasing`.
    """

    id: str
    title: str
    answer: str
    keys: tuple[tuple[str, ...], ...]
    wants: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def is_answered_by(self, text: str) -> bool:
        """Whether `text` contains what a right answer must."""
        return all(any(key.lower() in text.lower() for key in alternatives) for alternatives in self.keys)


def read_table(name: str) -> dict[str, Any]:
    """A data file of this folder, `facts.toml` for example."""
    return tomllib.loads((files("chat.guide") / name).read_text(encoding="utf-8"))


@cache
def facts() -> tuple[Topic, ...]:
    """What the guide knows of the program and of the models."""
    return tuple(_topic(table, table["title"]) for table in read_table("facts.toml")["fact"])


@cache
def talk() -> tuple[Topic, ...]:
    """The small talk it keeps."""
    return tuple(_topic(table, TALK_TITLE) for table in read_table("talk.toml")["talk"])


@cache
def off_topic() -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Patterns of questions that are not the guide's, and the slots in them."""
    table = read_table("off_topic.toml")
    slots = {name: tuple(text.split("|")) for name, text in table["slots"].items()}
    return (*(pattern for group in table["group"] for pattern in patterns(group["ask"])), *_phrasings()[ELSE]), slots


@cache
def follow_ups() -> tuple[str, ...]:
    """Patterns of questions that only make sense after others, and of people saying their names."""
    table = read_table("dialogues.toml")
    asked = [each["ask"] for each in (*table["follow"], *table["memory"], table["name"])]
    names = table["name"]["names"].split("|")[::9]
    told = table["name"]["tell"].replace("<name>", f"{{{'|'.join(names)}}}")
    return tuple(pattern for block in (*asked, told) for pattern in patterns(block))


@cache
def synonyms() -> dict[str, tuple[tuple[str, ...], ...]]:
    """The groups a word belongs to, each with all its words."""
    text = (files("chat.guide") / "synonyms.txt").read_text(encoding="utf-8")
    groups = [tuple(line.split()) for line in text.splitlines() if line and not line.startswith("#")]
    words = {word for group in groups for word in group}
    return {word: tuple(group for group in groups if word in group) for word in words}


@cache
def refusal() -> Topic:
    """What the guide says to everything else."""
    answer = read_table("dialogues.toml")["refusal"]["answer"]
    return Topic(ELSE, ELSE_TITLE, answer, (("I am only the guide",),))


@cache
def _phrasings() -> dict[str, tuple[str, ...]]:
    """Whole questions by the fact they ask for, small letters without a mark at the end."""
    found: dict[str, list[str]] = {}
    for line in (files("chat.guide") / "phrasings.txt").read_text(encoding="utf-8").splitlines():
        topic, colon, question = line.partition(": ")
        if colon and not line.startswith("#"):
            found.setdefault(topic, []).append(question.lower().rstrip("?.! "))
    return {topic: tuple(questions) for topic, questions in found.items()}


def _topic(table: dict[str, Any], title: str) -> Topic:
    return Topic(
        id=table["id"],
        title=title,
        answer=table["answer"],
        keys=tuple(tuple(alternatives) for alternatives in table["keys"]),
        wants=patterns(table.get("do", "")),
        questions=(*patterns(table.get("ask", "")), *_phrasings().get(table["id"], ())),
        words=patterns(table.get("word", "")),
    )
