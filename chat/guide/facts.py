"""Read the guide's facts, small talk and refusals from its data files, and expand their `{a|b}` patterns."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_GROUP = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"<([a-z]+)>")
ELSE = "else"  # the topic of everything that the guide does not know
ELSE_TITLE = "something else"
TALK_TITLE = "small talk"
BEFORE_TITLE = "what was said before"


def patterns(block: str) -> tuple[str, ...]:
    """The patterns of a block, one a line."""
    return tuple(line.strip() for line in block.splitlines() if line.strip())


def unfold(pattern: str, pick: Callable[[Sequence[str]], str], slots: Mapping[str, Sequence[str]] | None = None) -> str:
    """One sentence of a pattern.

    Args:
        pattern: `{a|b}` stands for one of its parts, which may be empty, and `<name>` for a line of that slot.
        pick: chooses among the parts.
    """
    text = _GROUP.sub(lambda match: pick(match[1].split("|")), pattern)
    if slots:
        text = _SLOT.sub(lambda match: pick(slots[match[1]]) if match[1] in slots else match[0], text)
    return " ".join(text.split())


def covering(pattern: str, limit: int, slots: Mapping[str, Sequence[str]] | None = None) -> Iterator[str]:
    """A few sentences of a pattern, in which each part occurs once at least where the limit allows it."""
    widths = [len(match[1].split("|")) for match in _GROUP.finditer(pattern)]
    for number in range(min(limit, max(widths, default=1))):
        yield unfold(pattern, lambda parts, number=number: parts[number % len(parts)], slots)  # type: ignore[misc]


@dataclass(frozen=True)
class Topic:
    """One thing the guide knows.

    `keys` are alternatives of which a right answer contains one each; `wants` complete "how do I ...", `questions`
    are whole, `words` are what people type as keywords; all three are patterns for `unfold`.
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
def small_talk() -> tuple[Topic, ...]:
    """Greetings, thanks and the like, with their answers."""
    return tuple(_topic(table, TALK_TITLE) for table in read_table("talk.toml")["talk"])


@cache
def off_topic() -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Patterns of questions that the guide does not answer, and the slots in them."""
    table = read_table("off_topic.toml")
    slots = {name: tuple(text.split("|")) for name, text in table["slots"].items()}
    return (*(pattern for group in table["group"] for pattern in patterns(group["ask"])), *_phrasings()[ELSE]), slots


@cache
def follow_ups() -> tuple[str, ...]:
    """Patterns of questions that only make sense after others, and of people saying their names."""
    table = read_table("dialogues.toml")
    asked = [each["ask"] for each in (*table["follow"], *table["memory"], table["name"])]
    names = table["name"]["names"].split("|")[::9]
    introductions = table["name"]["tell"].replace("<name>", f"{{{'|'.join(names)}}}")
    return tuple(pattern for block in (*asked, introductions) for pattern in patterns(block))


@cache
def synonyms() -> dict[str, tuple[tuple[str, ...], ...]]:
    """The groups a word belongs to, each with all its words."""
    text = (files("chat.guide") / "synonyms.txt").read_text(encoding="utf-8")
    groups = [tuple(line.split()) for line in text.splitlines() if line and not line.startswith("#")]
    words = {word for group in groups for word in group}
    return {word: tuple(group for group in groups if word in group) for word in words}


@cache
def refusal() -> Topic:
    """The answer to everything else."""
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
