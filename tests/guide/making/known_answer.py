"""Store the ids that the guide answers one question with, for the doctor to check.

python tests/guide/making/known_answer.py       writes chat/guide/known_answer.json
"""

from __future__ import annotations

import json

from evaluate import Guide

from chat.guide import KNOWN_ANSWER, PATH

QUESTION = "How do I convert a checkpoint?"


def main() -> None:
    """Ask and store."""
    guide = Guide(PATH)
    prompt = guide.prompt_ids(QUESTION, helped=True)
    reply = guide.reply(QUESTION, helped=True)
    print(f"{reply.text}\nsurety {reply.surety:.4f}")
    stored = {"question": QUESTION, "answer": reply.text, "prompt_ids": prompt, "answer_ids": list(reply.ids)}
    KNOWN_ANSWER.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
