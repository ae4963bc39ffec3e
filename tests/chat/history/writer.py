"""A program that writes to the history until it is killed, and reports each message before and after it is stored."""

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
        report(f"+ {question.id}")
        store.append(session, question)
        report(f"= {question.id}")
        answer = Node(f"{writer}-{number}-a", question.id, Message("assistant", "part", (number,)))
        store.begin_answer(session, answer)
        store.update_answer(session, Node(answer.id, answer.parent, Message("assistant", "part of it", (number, 1))))
        report(f"+ {answer.id}")
        store.finish_answer(
            session, Node(answer.id, answer.parent, Message("assistant", "all of it", (number,), "stop"))
        )
        report(f"= {answer.id}")
        parent = answer.id
    for notice in store.take_notices():
        report(f"! {notice.text}")


def report(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # one write, so a line is complete or missing


if __name__ == "__main__":
    main(*sys.argv[1:])
