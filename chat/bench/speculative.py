"""Measure what drafting gains where the text repeats, and what it costs where it cannot help.

The generated ids are forced, or drawn from a few, so that both cases occur with any model.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from chat.bench.results import DraftGain
from chat.bench.turns import SAMPLING, plain_engine, prompt_ids
from chat.inference.generator import GenerationRun, Generator
from chat.llama.kv_snapshots import Snapshots
from chat.llama.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from chat.inference.loaded_model import LoadedModel

PROMPT = 64  # ids, without a pattern; the answer that repeats says them again
FEW = 4  # ids that the other answer is drawn from: after any three of them anyone may come
ENOUGH_SECONDS = 4.0
MOST_ROUNDS = 8


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
        ahead = Generator(plain.context, Snapshots(0), None, drafter)  # which learns what drafts are worth here
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
