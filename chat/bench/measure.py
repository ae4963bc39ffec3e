"""Measure a model in its own process.

Run by `chat.worker.task`: messages are `progress` and in the end the `report`.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from chat.bench.baseline import BaselineLoop, baseline_sampler
from chat.bench.results import BenchReport, Beside, Point, Resume, RowTimes, Subject
from chat.bench.system_load import memory_now
from chat.bench.turns import PROMPT, SAMPLING, bounds_of, generate, measure_drafting, plain_engine, prompt_ids, read
from chat.core.request import EngineOptions
from chat.errors import UsageError
from chat.gguf.keys import ModelKey
from chat.gguf.reader import read_gguf
from chat.gguf.validate_model import check_model
from chat.inference.generator import Generator
from chat.inference.loaded_model import LoadedModel, load_model
from chat.inference.prompt_cache import STATE_TOKENS
from chat.llama.batch_invariance import MAX_BATCH_INVARIANT_ROWS
from chat.llama.kv_snapshots import Snapshots
from chat.llama.library import build_name, llama
from chat.llama.memory_estimate import OUTPUTS
from chat.llama.sliding_window import choose_window
from chat.worker.protocol import build
from chat.worker.task import serve_isolated_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.worker.task import Message

MOST_BESIDE_TOKENS = 512  # of the prompt that both loops read
ENOUGH_SECONDS = 4.0  # of measuring one thing; slow models get two rounds
MOST_ROUNDS = 8
BATCHES = (1, 2, 4, MAX_BATCH_INVARIANT_ROWS, OUTPUTS)
BATCH_DEPTH = 64


def answer(question: Message, send: Callable[[Message], None]) -> None:
    """Measure everything that `question` asks for: its `options`, `tokens` and `contexts`."""
    options = build(EngineOptions, question["options"])
    tokens, contexts = int(question["tokens"]), [int(each) for each in question["contexts"]]
    with tempfile.TemporaryDirectory(prefix="mistral-chat-bench-") as folder:
        needed = max(contexts[-1], PROMPT) + tokens * 2 + 2
        options = _with_context(replace(options, state_folder=folder), needed)

        def say(words: str, seconds_left: float | None = None) -> None:
            send({"progress": words, "seconds_left": seconds_left})

        say("loading")
        loaded = load_model(options)
        subject = _subject(loaded)
        say("reading and decoding, beside a bare loop")
        beside = _beside(loaded, min(contexts[0], MOST_BESIDE_TOKENS), tokens)
        points, reading_seconds = _points(loaded, contexts, tokens, beside.read, say)
        say("resuming a saved state")
        resume = _resume(loaded, reading_seconds)
        say("batches of several tokens")
        batches = _batches(loaded)
        say("answers with and without drafts")
        send({"report": BenchReport(subject, beside, tuple(points), resume, batches, measure_drafting(loaded, tokens))})


def _with_context(options: EngineOptions, needed: int) -> EngineOptions:
    """The options with a cache as large as the bench needs it, unless a window makes it endless."""
    file = read_gguf(Path(options.model_path))
    check_model(file)
    trained = file.key(ModelKey.CONTEXT_LENGTH, needed)
    if choose_window(file, options.window).rolling and options.context is None:
        return options
    limit = min(trained, options.context or trained)
    if needed > limit:
        raise UsageError(
            f"`--contexts` and `-n` need {needed:,} tokens of context, but {limit:,} is the limit",
            hint="give smaller `--contexts`",
        )
    return replace(options, context=needed)


def _subject(loaded: LoadedModel) -> Subject:
    details = loaded.info.details
    return Subject(
        path=loaded.info.path,
        type=loaded.info.type,
        architecture=loaded.info.architecture,
        window=loaded.info.window,
        build=build_name(),
        threads=details["threads"],
        batch=details["batch"],
        kv_type=details["kv_type"],
        gpu_layers=details["gpu_layers"],
        repack=details["repack"],
        load_seconds=loaded.load_seconds,
    )


def _beside(loaded: LoadedModel, prompt: int, tokens: int) -> Beside:
    """Run both loops in turns; the medians of the tokens, the best of the rounds."""
    engine = plain_engine(loaded)
    bare = BaselineLoop(loaded.model, engine.context.settings)
    ids, bounds = prompt_ids(prompt, loaded.vocabulary.size), bounds_of(loaded, prompt)
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    python: list[float] = []
    begun = time.perf_counter()
    while len(ours) < 2 or (len(ours) < MOST_ROUNDS and time.perf_counter() - begun < ENOUGH_SECONDS):
        engine.context.clear()
        seconds = read(engine, ids)
        taken = generate(loaded, engine, tokens)
        ours.append((seconds, median(taken.steps)))
        python.append(taken.python_seconds)
        seconds = bare.read(ids, bounds)
        chain = baseline_sampler(SAMPLING)
        theirs.append((seconds, median(bare.decode(chain, tokens))))
        llama().llama_sampler_free(chain)
    bare.close()
    best = [min(each[kind] for each in runs) for runs in (ours, theirs) for kind in (0, 1)]
    return Beside(
        prompt_tokens=prompt,
        tokens=tokens,
        rounds=len(ours),
        read=prompt / best[0],
        bare_read=prompt / best[2],
        decode=1 / best[1],
        bare_decode=1 / best[3],
        python_ms=min(python) * 1e3,
    )


def _points(
    loaded: LoadedModel, contexts: list[int], tokens: int, speed: float, say: Callable[[str, float | None], None]
) -> tuple[list[Point], float]:
    """Speed and memory at each context, one growing text; and what reading all of it would take."""
    engine = plain_engine(loaded)
    decoder = engine.context
    decoder.clear()
    ids = prompt_ids(contexts[-1], loaded.vocabulary.size)
    points: list[Point] = []
    total = 0.0
    for context in contexts:
        held = decoder.position
        say(f"reading up to {context:,} tokens", (contexts[-1] - held) / speed)
        new = max(context - held, 1)
        seconds = read(engine, [*decoder.ids, *ids[held : held + new]])
        total += seconds / new * (decoder.position + tokens - held)
        step = median(generate(loaded, engine, tokens).steps)
        points.append(Point(context, new / seconds, 1 / step, *memory_now()))
    return points, total


def _resume(loaded: LoadedModel, reading_seconds: float) -> Resume | None:
    """Save what the cache holds, clear it, and resume from the disk as a new process does."""
    decoder, states = loaded.generator.context, loaded.generator.cache.store
    ids = list(decoder.ids)
    if states is None or len(ids) <= STATE_TOKENS:
        return None
    snapshot = decoder.snapshot()
    size = len(snapshot.data)
    if states.save("bench", snapshot) is None:
        return None
    del snapshot
    decoder.clear()
    engine = Generator(decoder, Snapshots(0), states)
    begun = time.perf_counter()
    kept = engine.cache.reuse(ids)
    read(engine, ids)
    seconds = time.perf_counter() - begun
    return Resume(len(ids), size, seconds, reading_seconds) if kept else None


def _batches(loaded: LoadedModel) -> tuple[RowTimes, ...]:
    """The best time of batches of several tokens, each with its logits, after a short text."""
    decoder = plain_engine(loaded).context
    ids = prompt_ids(BATCH_DEPTH + BATCHES[-1], loaded.vocabulary.size)
    decoder.clear()
    decoder.feed(ids[:BATCH_DEPTH])
    best: dict[int, float] = {}
    begun = time.perf_counter()
    for turn in range(MOST_ROUNDS * 4):
        if turn >= 2 and time.perf_counter() - begun > ENOUGH_SECONDS:
            break
        for rows in BATCHES:
            since = time.perf_counter()
            decoder.feed(ids[BATCH_DEPTH : BATCH_DEPTH + rows], rows)
            decoder.logits(rows - 1)
            best[rows] = min(best.get(rows, float("inf")), time.perf_counter() - since)
            decoder.rewind(BATCH_DEPTH)
    return tuple(RowTimes(rows, seconds) for rows, seconds in best.items())


if __name__ == "__main__":
    serve_isolated_task(answer)
