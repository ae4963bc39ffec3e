"""Estimate how long a conversion takes on this machine, by doing a small part of it: read, pack, write, verify."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections import defaultdict
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from chat import platform
from chat.errors import DataError
from chat.system.progress import Silent
from convert.output.tensor_writer import checksum_of, chunk_at, pack, usable_cpus, work_on_chunks
from convert.quantize.kernels import load_library, packer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convert.checkpoint.rows import Floats
    from convert.draft import ConversionDraft
    from convert.output.tensor_writer import Chunk, Job

    Jobs = tuple[Job, ...]  # of one tensor, for each file

SECONDS_PER_KIND = 0.12  # of measuring
MOST_CHUNKS = 64  # of one kind that are tried
SMALL_SHARE = 0.005  # of the numbers: kinds of tensors with fewer are as fast as the others
SYNC_BYTES_PER_SECOND = 1e9  # of writing to the disk: nothing is written that would tell
TRIAL_SECONDS = 1.0  # of a file in the engine's process


@dataclass(frozen=True)
class RandomRows:
    """Numbers in the place of weights that are not here, as (count, columns) float32."""

    count: int
    columns: int

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32: normal numbers from a seed."""
        generator = np.random.default_rng(start)
        return generator.standard_normal((stop - start, self.columns), dtype=np.float32) * np.float32(0.02)


def expected_seconds(drafts: Sequence[ConversionDraft], *, is_whole: bool, is_verified: bool) -> float:
    """Seconds that writing these files takes, without a download or the reading of a text.

    Args:
        drafts: of files that are written in one reading.
        is_whole: the source has its weights; else numbers are made in their place.
        is_verified: the files are verified.

    Raises:
        ChatError: llama.cpp's library cannot be loaded.
    """
    load_library()
    kinds: defaultdict[tuple[str, ...], list[Jobs]] = defaultdict(list)
    for jobs in zip(*(draft.jobs for draft in drafts), strict=True):
        kinds[tuple(job.tensor.type.name for job in jobs)].append(jobs)
    numbers = {kind: sum(map(_numbers, tensors)) for kind, tensors in kinds.items()}
    whole = sum(numbers.values())
    large = [kind for kind, count in numbers.items() if count >= SMALL_SHARE * whole]
    measured = sum(_seconds(kinds[kind], is_whole, is_verified) for kind in large)
    seconds = measured * whole / sum(numbers[kind] for kind in large)
    seconds += sum(draft.size for draft in drafts) / SYNC_BYTES_PER_SECOND
    projector = drafts[0].projector
    if projector is not None:
        seconds += expected_seconds((projector,), is_whole=is_whole, is_verified=False)
    return seconds + (TRIAL_SECONDS * len(drafts) if is_verified else 0.0)


def time_text(seconds: float) -> str:
    """A time to expect, rounded as befits an estimate: `about 50 s`, `about 3 min`."""
    if seconds < 1:
        return "under a second"
    if seconds < 100:
        return f"about {seconds:.0f} s" if seconds < 10 else f"about {round(seconds / 5) * 5} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def _numbers(jobs: Jobs) -> int:
    return jobs[0].tensor.row_count * jobs[0].tensor.columns


def _spread(tensors: Sequence[Jobs]) -> list[Chunk]:
    """Chunks of these tensors, evenly spread over their numbers."""
    ends = list(accumulate(map(_numbers, tensors)))
    found: dict[tuple[int, int], Chunk] = {}
    for number in range(MOST_CHUNKS):
        place = (2 * number + 1) * ends[-1] // (2 * MOST_CHUNKS)
        index = bisect_right(ends, place)
        jobs = tensors[index]
        chunk = chunk_at(jobs, (place - ends[index]) // jobs[0].tensor.columns + jobs[0].tensor.row_count)
        found[index, chunk.start] = chunk
    return list(found.values())


def _seconds(tensors: Sequence[Jobs], is_whole: bool, is_verified: bool) -> float:
    """Seconds for all tensors of one kind, measured on some of their chunks with all threads."""
    for job in tensors[0]:
        packer_of(job.tensor.type, has_importance=job.importance is not None)  # which compares a sample first
    threads = usable_cpus()
    chosen = _spread(tensors)
    if not is_whole:
        chosen = [_with_random_rows(chunk) for chunk in chosen]
    done: list[int] = []
    with ExitStack() as stack:
        file = _memory_file(stack)
        started = time.monotonic()

        def work(chunk: Chunk) -> int:
            if time.monotonic() - started > SECONDS_PER_KIND:
                return 0
            with suppress(DataError):  # of damaged weights, which stop the writing, not a dry run
                for raw in pack(chunk):
                    checksum_of(raw)
                    if file is not None:
                        platform.write_at(file, raw, 0)
                        if is_verified:
                            checksum_of(platform.read_at(file, raw.nbytes, 0))
            done.append((chunk.stop - chunk.start) * chunk.jobs[0].tensor.columns)
            return 0

        work_on_chunks(iter(chosen), work, threads, Silent())
        elapsed = time.monotonic() - started
    return elapsed * sum(map(_numbers, tensors)) / sum(done)


def _memory_file(stack: ExitStack) -> int | None:
    """A file that is in memory only, as the new file's pages are at first; None where there is none."""
    descriptor = platform.memory_file()
    if descriptor is not None:
        stack.callback(os.close, descriptor)
    return descriptor


def _with_random_rows(chunk: Chunk) -> Chunk:
    first = chunk.jobs[0]
    rows = RandomRows(first.tensor.row_count, first.tensor.columns)
    return replace(chunk, jobs=tuple(replace(job, rows=rows) for job in chunk.jobs))
