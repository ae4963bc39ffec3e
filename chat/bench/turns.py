"""Time our generation loop token by token, with everything that the program does for a token, and with drafts.

To measure drafts, the generated ids are forced or drawn from a few, so that any model makes text that repeats, and text
that does not.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from chat.bench.results import DraftGain
from chat.core.events import TextDelta
from chat.core.request import Sampling
from chat.inference.generator import GenerationRun, Generator, chunk_bounds
from chat.llama.kv_snapshots import Snapshots
from chat.llama.library import llama
from chat.llama.sampler import Sampler
from chat.llama.tokenizer.tokenizer import StreamDecoder
from chat.worker.protocol import pack_event, to_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.inference.loaded_model import LoadedModel

SAMPLING = Sampling(seed=1)
IN_C = ("llama_decode", "llama_sampler_sample", "llama_get_logits_ith")  # a GPU is waited for in the last
PROMPT = 64  # ids without a pattern; the repeating answer consists of them
FEW = 4  # ids that the other answer is drawn from: any of them may follow any three
ENOUGH_SECONDS = 4.0
MOST_ROUNDS = 8


@dataclass
class Clock:
    """Seconds spent inside llama.cpp."""

    seconds: float = 0.0


@dataclass
class Taken:
    """Seconds from each token to the next, and seconds of Python for each token."""

    steps: list[float] = field(default_factory=list)
    python_seconds: float = 0.0


def prompt_ids(count: int, vocabulary: int) -> list[int]:
    """Ids without a pattern that a cache or a draft could use, the same each time."""
    return [3 + (at * at * 31 + at * 7919) % (vocabulary - 3) for at in range(count)]


def plain_engine(loaded: LoadedModel) -> Generator:
    """An engine on the loaded's decoder that keeps no states in memory and drafts nothing."""
    return Generator(loaded.generator.context, Snapshots(0))


def read(engine: Generator, ids: Sequence[int]) -> float:
    """Seconds for reading what the cache does not hold yet of a prompt, as the program reads it."""
    begun = time.perf_counter()
    for event in engine.read(ids):
        to_line(pack_event(event))
    engine.context.logits()
    return time.perf_counter() - begun


def generate(loaded: LoadedModel, engine: Generator, count: int) -> Taken:
    """Make `count` tokens after the first, each as far as the line that goes to the parent."""
    taken = Taken()
    text = StreamDecoder(loaded.vocabulary)
    sampler = Sampler(SAMPLING, loaded.vocabulary.size)
    run = GenerationRun(sampler, count + 1, lambda _: False)
    with timed() as clock:
        begun = since = time.perf_counter()
        for token in engine.generate(run):
            to_line({"id": 1, "event": pack_event(TextDelta(text.push(token)))})
            now = time.perf_counter()
            taken.steps.append(now - since)
            since = now
        taken.python_seconds = (since - begun - clock.seconds) / (count + 1)
    sampler.close()
    del taken.steps[0]  # the first was read already: it is drawn only
    return taken


def bounds_of(loaded: LoadedModel, count: int) -> list[int]:
    """Where the chunks of a prompt end, the cache being empty."""
    return chunk_bounds(0, count, loaded.generator.context.settings.batch)


@contextmanager
def timed() -> Iterator[Clock]:
    """Count the time in llama.cpp's functions, whoever calls them."""
    api, clock = llama(), Clock()
    kept = {name: getattr(api, name) for name in IN_C}

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            begun = time.perf_counter()
            result = function(*arguments)
            clock.seconds += time.perf_counter() - begun
            return result

        return call

    for name, function in kept.items():
        setattr(api, name, counted(function))
    try:
        yield clock
    finally:
        for name, function in kept.items():
            setattr(api, name, function)


def measure_drafting(loaded: LoadedModel, tokens: int) -> DraftGain:
    """Both answers with drafts and without, in turns; the best of each."""
    drafter, reason = loaded.generator.drafter, str(loaded.info.details["draft"])
    if drafter is None:
        return DraftGain(reason, None, None)
    plain = plain_engine(loaded)
    ids = prompt_ids(PROMPT, loaded.vocabulary.size)
    plain.context.clear()
    plain.context.feed(ids)
    found = []
    for keep in (lambda made: ids[made % PROMPT :][:1], lambda _: ids[:FEW]):
        ahead = Generator(plain.context, Snapshots(0), None, drafter)  # it measures what drafts gain here
        best = {ahead: float("inf"), plain: float("inf")}
        begun, rounds = time.perf_counter(), 0
        while rounds < 2 or (rounds < MOST_ROUNDS and time.perf_counter() - begun < ENOUGH_SECONDS):
            for engine in best:
                best[engine] = min(best[engine], _seconds(engine, loaded, ids, tokens, keep))
            rounds += 1
        found.append(best[plain] / best[ahead])
    return DraftGain(reason, *found)


def _seconds(
    engine: Generator, loaded: LoadedModel, ids: list[int], tokens: int, keep: Callable[[int], list[int]]
) -> float:
    """Seconds for an answer to the prompt, of which each id is one that `keep` names."""
    decoder = engine.context
    decoder.rewind(len(ids) - 1)
    decoder.feed(ids[-1:])
    made: list[int] = []

    def mask(logits: NDArray[np.float32]) -> None:
        """Forbid all ids but the allowed ones; logits: (vocabulary,) float32, changed in place."""
        allowed = keep(len(made))
        logits[:] = float("-inf")
        logits[allowed] = 0

    sampler = Sampler(replace(SAMPLING, temperature=1.0), loaded.vocabulary.size)
    run = GenerationRun(sampler, tokens + 1, lambda _: False, [mask], [made.append])
    begun = 0.0
    for _ in engine.generate(run):
        begun = begun or time.perf_counter()  # the first id was read already: it is drawn only
    seconds = time.perf_counter() - begun
    sampler.close()
    return seconds
