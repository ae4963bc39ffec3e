"""Judge GGUFs of the guide on the held-out questions, by the product's own engine, and print a table and JSON.

    python tests/guide/making/evaluate.py GGUF... [--topics BIN] [--questions FILE] [--helped] [--pairs] [--json OUT]

For each file: right answers and refusals, with the help line and without; perplexity of the right answers; how many
answers ran on without end. A right answer contains the fact's key phrases. Of newcomers.txt, the two halves are judged
apart; `--pairs --questions FILE` does only this for a file of pairs, and prints every answer to be read.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus import Turn, Writer

from chat.core.conversation import Message
from chat.core.request import EngineOptions, Prompt
from chat.guide.facts import ELSE, Topic, facts, refusal
from chat.guide.topics import Ranker, ranker, read
from chat.inference.loaded_model import LoadedModel, load_model
from chat.prompts.builder import encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HELD_OUT = Path(__file__).parent.parent / "held_out.txt"
NEWCOMERS = Path(__file__).parent.parent / "newcomers.txt"
DIALOGUE_SEED = 9000
DIALOGUES = 60  # of each kind
LONGEST = 160  # tokens; the longest fact has half of them
BATCH = 256  # tokens that are read at once
AT_ONCE = 8  # tokens whose logits are asked for together


@dataclass(frozen=True)
class Question:
    """A held-out question and the facts of which either is right; `else` wants a refusal."""

    topics: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Reply:
    """What the guide said, the probability of its least certain token, and whether it ended by itself."""

    text: str
    surety: float
    ended: bool
    ids: tuple[int, ...]


def read_questions(path: Path) -> list[Question]:
    """The questions of a file of `fact: question` lines."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    parts = [line.partition(": ") for line in lines]
    return [Question(tuple(topics.split(", ")), text) for topics, _, text in parts]


def known() -> dict[str, Topic]:
    """Facts and the refusal by id."""
    return {topic.id: topic for topic in (*facts(), refusal())}


def is_right(question: Question, text: str) -> bool:
    """Whether an answer holds what one of the question's facts must say."""
    refused = refusal().is_answered_by(text)
    if ELSE in question.topics:
        return refused
    return not refused and any(known()[topic].is_answered_by(text) for topic in question.topics)


class Guide:
    """One GGUF, loaded by the product's engine in this process; greedy."""

    def __init__(self, path: Path, topics: Ranker | None = None, threads: int = 1) -> None:
        """`topics` finds what the help line names, the shipped classifier if none is given."""
        options = EngineOptions(str(path), context=2048, threads=threads, repack="off", draft="off")
        self.topics = topics or ranker()
        self.room: LoadedModel = load_model(options)
        self.decoder = self.room.generator.context

    def prompt_ids(self, question: str, helped: bool) -> list[int]:
        """The ids of a first question."""
        system = (Message("system", self.topics.help_text(question)),) if helped else ()
        prompt = Prompt((*system, Message("user", question)))
        return list(encode(prompt, self.room.vocabulary, self.room.prompt_format))

    def reply(self, question: str, helped: bool) -> Reply:
        """Answer a first question."""
        return self._greedy(self.prompt_ids(question, helped))

    def _greedy(self, prompt: list[int]) -> Reply:
        decoder, vocabulary = self.decoder, self.room.vocabulary
        decoder.clear()
        for start in range(0, len(prompt), BATCH):
            decoder.feed(prompt[start : start + BATCH])
        ids: list[int] = []
        logprobs: list[float] = []
        while len(ids) < LONGEST:
            token, logprob = _likeliest(decoder.logits())
            logprobs.append(logprob)
            if vocabulary.is_end(token):
                return Reply(vocabulary.decode(ids).strip(), math.exp(min(logprobs)), True, tuple(ids))
            ids.append(token)
            decoder.feed([token])
        return Reply(vocabulary.decode(ids).strip(), math.exp(min(logprobs)), False, tuple(ids))

    def dialogue(self, turns: Sequence[Turn]) -> str:
        """The answer to the last turn of a dialogue whose earlier answers are given, with the help line."""
        messages = [Message("system", self.topics.help_text(turns[-1].question))]
        for turn in turns[:-1]:
            messages += [Message("user", turn.question), Message("assistant", turn.answer)]
        prompt = Prompt((*messages, Message("user", turns[-1].question)))
        return self._greedy(list(encode(prompt, self.room.vocabulary, self.room.prompt_format))).text

    def losses(self, question: str, answer: str, helped: bool) -> list[float]:
        """Negative log-likelihood of each token of a given answer, the end included."""
        decoder, vocabulary = self.decoder, self.room.vocabulary
        ids = self.prompt_ids(question, helped)
        answer_ids = [*_plain_ids(self.room, answer), vocabulary.eos]
        decoder.clear()
        decoder.feed(ids)
        found = [-_logprob(decoder.logits(), answer_ids[0])]
        for start in range(0, len(answer_ids) - 1, AT_ONCE):
            part = answer_ids[start : start + AT_ONCE]
            wanted = answer_ids[start + 1 : start + 1 + len(part)]
            decoder.feed(part, outputs=len(part))
            found += [-_logprob(decoder.logits(row), token) for row, token in enumerate(wanted)]
        return found


def remembered(guide: Guide, count: int) -> dict[str, float]:
    """The share of right last answers by kind of dialogue, drawn by a seed of their own."""
    writer = Writer(DIALOGUE_SEED)
    found = {}
    for kind, draw in {"follow": writer.follow, "memory": writer.memory}.items():
        dialogues = [draw() for _ in range(count)]
        found[kind] = _share(guide.dialogue(turns) == turns[-1].answer for turns in dialogues)
    return found


def _plain_ids(room: LoadedModel, text: str) -> list[int]:
    from chat.prompts.segments import Text

    return list(room.vocabulary.encode((Text(text),)))


def _likeliest(logits: Any) -> tuple[int, float]:
    token = int(logits.argmax())
    return token, _logprob(logits, token)


def _logprob(logits: Any, token: int) -> float:
    import numpy as np

    top = float(logits.max())
    return float(logits[token]) - top - math.log(float(np.exp(logits.astype(np.float64) - top).sum()))


def judge(path: Path, topics: Ranker | None, questions: Sequence[Question], *, alone: bool) -> dict[str, Any]:
    """All figures of one file."""
    guide = Guide(path, topics)
    result: dict[str, Any] = {"type": guide.room.info.type, "bytes": path.stat().st_size}
    result["sha256"] = sha256(path.read_bytes()).hexdigest()
    for helped in (True, False) if alone else (True,):
        began = time.monotonic()
        replies = [guide.reply(question.text, helped) for question in questions]
        name = "helped" if helped else "alone"
        result[name] = _shares(questions, replies)
        result[name]["seconds_per_answer"] = round((time.monotonic() - began) / len(questions), 4)
        result[name]["wrong"] = [
            [list(question.topics), question.text, reply.text[:60], round(reply.surety, 3)]
            for question, reply in zip(questions, replies, strict=True)
            if not is_right(question, reply.text)
        ]
        losses = [
            loss
            for question in questions
            for loss in guide.losses(question.text, known()[question.topics[0]].answer, helped)
        ]
        result[name]["perplexity"] = round(math.exp(sum(losses) / len(losses)), 4)
    result["remembered"] = remembered(guide, DIALOGUES)
    result["newcomers"] = halves(guide, read_questions(NEWCOMERS))
    guide.room.close()
    return result


def _shares(questions: Sequence[Question], replies: Sequence[Reply]) -> dict[str, Any]:
    pairs = list(zip(questions, replies, strict=True))
    mine = [pair for pair in pairs if ELSE not in pair[0].topics]
    others = [pair for pair in pairs if ELSE in pair[0].topics]
    return {
        "facts": len(mine),
        "right": _share(is_right(*_text(pair)) for pair in mine),
        "strangers": len(others),
        "refused": _share(is_right(*_text(pair)) for pair in others),
        "endless": sum(not reply.ended for reply in replies),
    }


def _text(pair: tuple[Question, Reply]) -> tuple[Question, str]:
    return pair[0], pair[1].text


def _share(truths: Iterable[bool]) -> float:
    found = list(truths)
    return round(sum(found) / len(found), 4)


def halves(guide: Guide, questions: Sequence[Question], *, shown: bool = False) -> dict[str, dict[str, int]]:
    """For the first and the second questions of each pair: how often the likeliest topic and the answer are right.

    `shown` prints every question with its topics, the likeliest topic and the answer; `!` marks a wrong answer.
    """
    counts = {}
    for name, half in (("first", questions[::2]), ("second", questions[1::2])):
        found = counts[name] = {"questions": len(half), "topic": 0, "answer": 0}
        for question in half:
            topic = guide.topics.matches(question.text)[0].topic
            text = guide.reply(question.text, helped=True).text
            right = is_right(question, text)
            found["topic"] += topic in question.topics
            found["answer"] += right
            if shown:
                mark = " " if right else "!"
                print(f"{mark} {', '.join(question.topics)} ({topic}): {question.text}\n      {text}")
    return counts


def main() -> None:
    """Judge the files that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--topics", type=Path, help="the classifier that goes with them")
    parser.add_argument("--questions", type=Path, default=HELD_OUT)
    parser.add_argument("--helped", action="store_true", help="with the help line only")
    parser.add_argument("--pairs", action="store_true", help="only judge the two halves, and print all answers")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    questions = read_questions(given.questions)
    topics = read(given.topics) if given.topics else None
    if given.pairs:
        for path in given.files:
            print(path.name, halves(Guide(path, topics), questions, shown=True))
        return
    results = {}
    for path in given.files:
        result = results[path.name] = judge(path, topics, questions, alone=not given.helped)
        for name in result.keys() & {"helped", "alone"}:
            shown = {key: value for key, value in result[name].items() if key != "wrong"}
            print(path.name, result["type"], result["bytes"], name, shown, flush=True)
        print(path.name, "dialogues", result["remembered"], "newcomers", result["newcomers"], flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
