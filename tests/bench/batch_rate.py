"""Requests per second of a batch, so many at a time, on the same file, each way in a process of its own.

    python tests/bench/batch_rate.py MODEL.gguf [1:14 7:14 16:16] [--tokens 64] [--threads N] [--ids FILE]

A way is how many are answered at a time and how many requests are asked; all ways ask the first ones of the same list,
which share a long instruction as the lines of a batch do. It is read once, so that ways of fewer requests seem slower
by it. The rate of the first way is what the others are compared with, and at temperature 0 their ids. Nothing is
drafted, as one by one it would be where random weights fall into loops. On a busy machine only the ratio says
something.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from chat.core.conversation import Message
from chat.core.events import Completion
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.worker.client import LocalBackend

INSTRUCTION = (
    "You read what customers write to a shop. Say in one short sentence what the customer wants, then name the "
    "department that should answer: sales, delivery, repairs or accounts. The message: "
)
PEOPLE = ("My lamp", "The blue chair", "Order 1724", "The kettle you sent", "Our new table", "The second parcel")
TROUBLES = (
    "came with a broken leg",
    "has not arrived, though I paid on Monday",
    "costs less on your other page",
    "hums all night and gets warm",
    "was charged twice",
)
Way = tuple[int, int]  # at a time, and requests


def way_of(text: str) -> Way:
    """`7:14`."""
    parallel, count = map(int, text.split(":"))
    return parallel, count


def requests(count: int, tokens: int) -> list[Request]:
    """The first of the list, no two alike."""
    texts = [f"{PEOPLE[at % len(PEOPLE)]} {TROUBLES[at % len(TROUBLES)]}." for at in range(count)]
    prompts = [Prompt(messages=(Message("user", INSTRUCTION + text),)) for text in texts]
    return [Request(prompt, Sampling(temperature=0), max_tokens=tokens) for prompt in prompts]


def answers(options: EngineOptions, way: Way, tokens: int) -> tuple[float, dict[int, Completion]]:
    """Seconds for all requests of a way once the model is loaded and warm, and the replies."""
    parallel, count = way
    engine = LocalBackend(options)
    warm = Request(Prompt(ids=(5,)), Sampling(temperature=0), max_tokens=1)  # nothing in common with the others
    list(engine.reply(warm))
    begun = time.perf_counter()
    found = {}
    for index, outcome in engine.answer_all(requests(count, tokens), parallel):
        if not isinstance(outcome, Completion):
            raise outcome
        found[index] = outcome
    seconds = time.perf_counter() - begun
    engine.close()
    return seconds, found


def compared(first: dict[int, Completion], other: dict[int, Completion]) -> str:
    """Of how many requests the ids are the same, and at which id the others leave."""
    both = [(first[at].ids or (), other[at].ids or ()) for at in sorted(first.keys() & other.keys())]
    left = [next((at for at, (a, b) in enumerate(zip(*pair, strict=False)) if a != b), -1) for pair in both]
    same = sum(one == two for one, two in both)
    where = [at for at, (one, two) in zip(left, both, strict=True) if one != two]
    return f"the same ids in {same} of {len(both)}" + (f", the others up to id {where}" if where else "")


def main() -> None:
    """Print the rate of each way, its ratio to the first, and whether the ids are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("ways", nargs="*", type=way_of, default=[(1, 14), (7, 14), (16, 16)])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--ids", type=Path, help="a JSON file that gets the ids of each way")
    given = parser.parse_args()
    options = EngineOptions(given.model, repack="off", draft="off", threads=given.threads)
    first: tuple[float, dict[int, Completion]] | None = None
    kept: dict[str, list[tuple[int, ...] | None]] = {}
    for way in given.ways:
        seconds, found = answers(options, way, given.tokens)
        rate = way[1] / seconds
        tokens = sum(each.tokens.generated for each in found.values())
        beside = f", ratio {rate / first[0]:.2f}, {compared(first[1], found)}" if first else ""
        print(f"{way[0]:3} at a time, {way[1]:3} requests: {rate:7.4f}/s, {tokens / seconds:6.2f} tokens/s{beside}")
        read = [each.tokens.prompt - each.tokens.cached for _, each in sorted(found.items())]
        print(f"    {seconds:.1f} s; ids of each prompt that were read: {read}", flush=True)
        first = first or (rate, found)
        kept[f"{way[0]}:{way[1]}"] = [found[at].ids for at in sorted(found)]
        if given.ids:
            given.ids.write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
