"""Requests per second of a batch, several together against one by one, on the same file, in one process each.

`python tests/bench/batch_rate.py MODEL.gguf [PARALLEL] [REQUESTS] [NEW_TOKENS]`. Both ways see the same prompts; the
texts are at temperature 0 and compared. On a busy machine only the ratio says something.
"""

from __future__ import annotations

import sys
import time

from chat.conversation import Message
from chat.engine.client import LocalEngine
from chat.events import Done
from chat.request import EngineOptions, Prompt, Request, Sampling

QUESTIONS = (
    "Name a river in France.",
    "What is the capital of Peru?",
    "Translate 'good morning' into Italian.",
    "Why is the sky blue?",
    "Give a word that rhymes with house.",
    "How many legs has a spider?",
    "Who wrote Faust?",
    "Is seventeen a prime number?",
)


def answers(path: str, parallel: int, requests: list[Request]) -> tuple[float, dict[int, Done]]:
    """Seconds for all requests once the model is loaded and warm, and the replies."""
    engine = LocalEngine(EngineOptions(path, repack="off"))
    warm = Request(Prompt(ids=(5,)), Sampling(temperature=0), max_tokens=1)  # nothing in common with the others
    list(engine.reply(warm))
    begun = time.perf_counter()
    found = {}
    for index, outcome in engine.answer_all(requests, parallel):
        if not isinstance(outcome, Done):
            raise outcome
        found[index] = outcome
    seconds = time.perf_counter() - begun
    engine.close()
    return seconds, found


def main() -> None:
    """Print both rates, their ratio, and whether the texts are the same."""
    path = sys.argv[1]
    parallel, count, new_tokens = (int(given) for given in (sys.argv[2:] + ["4", "8", "16"][len(sys.argv) - 2 :]))
    prompts = [Prompt(messages=(Message("user", QUESTIONS[at % len(QUESTIONS)]),)) for at in range(count)]
    requests = [Request(prompt, Sampling(temperature=0), max_tokens=new_tokens) for prompt in prompts]
    one_seconds, one = answers(path, 1, requests)
    print(f"one by one     {count / one_seconds:8.4f} requests/s  {one_seconds:8.1f} s", flush=True)
    many_seconds, many = answers(path, parallel, requests)
    same = sum(one[at].ids == many[at].ids for at in range(count))
    print(f"{parallel} together     {count / many_seconds:8.4f} requests/s  {many_seconds:8.1f} s")
    print(f"ratio          {one_seconds / many_seconds:8.2f}, the same ids in {same} of {count}")
    print(f"prompt tokens  {[each.tokens.prompt for _, each in sorted(many.items())]}")
    print(f"drafted        {sum(each.tokens.drafted for each in one.values())} of {count * new_tokens}, one by one")


if __name__ == "__main__":
    main()
