"""The guide: a small Mistral inside the package that knows mistral-chat and the Mistral 7B family, and nothing else.

The files of this package are read when the guide answers:

- `guide.gguf`, the model: grouped-query attention, a sliding window of 256 tokens, the v3 instruct format, a vocabulary
  of its own; made by `mistral-chat convert`;
- `facts.toml`, `talk.toml`, `dialogues.toml`, `off_topic.toml`, `phrasings.txt`, `synonyms.txt`: its training data as
  text; `facts` reads them and expands their patterns;
- `topics`: which help topics a question is likeliest about, by a small linear classifier (`topics.bin`). Its line
  stands before the question as the system prompt, where `--dry-run` shows it; the model reads it and writes the answer;
- `known_answer.json`: what it answers to one question, id by id, for the doctor.

How it was made, and how well it answers, is in tests/guide/making.
"""

from __future__ import annotations

from pathlib import Path

NAME = "guide"
PATH = Path(__file__).parent / "guide.gguf"
KNOWN_ANSWER = Path(__file__).parent / "known_answer.json"
