"""A program that writes to the history until it is killed, and says what was stored after it was stored."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from chat.core.conversation import Message, Node
from chat.history.store import open_store


def main(path: str, session: str, writer: str, turns: str) -> None:
    store = open_store(Path(path))
    parent = None
    for number in range(int(turns)):
        question = Node(f"{writer}-{number}-q", parent, Message("user", f"question {number} of {writer} " * 20))
        say(f"+ {question.id}")
        store.append(session, question)
        say(f"= {question.id}")
        answer = Node(f"{writer}-{number}-a", question.id, Message("assistant", "part", (number,)))
        store.begin_answer(session, answer)
        store.update_answer(session, Node(answer.id, answer.parent, Message("assistant", "part of it", (number, 1))))
        say(f"+ {answer.id}")
        store.finish_answer(
            session, Node(answer.id, answer.parent, Message("assistant", "all of it", (number,), "stop"))
        )
        say(f"= {answer.id}")
        parent = answer.id
    for notice in store.take_notices():
        say(f"! {notice.text}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # one write: whole or not at all


if __name__ == "__main__":
    main(*sys.argv[1:])
