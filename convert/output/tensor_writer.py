"""Read, pack and write tensors in chunks on all cores, so that the three steps overlap."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convert.quantize.kernels import PackedRows, quantize

if TYPE_CHECKING:
    from chat.system.progress import Progress
    from convert.checkpoint.rows import Floats, Rows
    from convert.output.gguf_writer import PartialFile
    from convert.quantize.recipes import PlannedTensor

CHUNK_NUMBERS = 1 << 18  # 1 MiB of float32: amortises the cost of a call, and fits the caches


@dataclass(frozen=True)
class Job:
    """One tensor to be written; `importance` is (experts, columns) float32."""

    tensor: PlannedTensor
    rows: Rows
    importance: Floats | None = None

    @property
    def copied(self) -> PackedRows | None:
        """The rows where the source has them in the tensor's own type, so that their bytes are copied."""
        return self.rows if isinstance(self.rows, PackedRows) and self.rows.kind == self.tensor.type else None


@dataclass(frozen=True)
class Chunk:
    """Rows [start, stop) of a job, all of one expert."""

    job: Job
    start: int
    stop: int


@dataclass(frozen=True)
class Checksum:
    """`checksum_of` the bytes [offset, offset + nbytes) of the file, as they were written."""

    tensor: str
    offset: int
    nbytes: int
    value: int


def checksum_of(raw: bytes | memoryview) -> int:
    """The sum of all 64-bit words, modulo 2^64: ten times as fast as a CRC, and it finds any change of one word."""
    whole = len(raw) & ~7
    words = np.frombuffer(raw, dtype="<u8", count=whole // 8)
    return (int(words.sum(dtype=np.uint64)) + int.from_bytes(raw[whole:], "little")) % (1 << 64)


def usable_cpus() -> int:
    """Processors that this process may use, by its affinity and its control group's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, -(-int(quota) // int(period)))
    except (OSError, ValueError):  # no control group, or no quota ("max")
        pass
    return max(1, count)


def cut(jobs: Sequence[Job]) -> Iterator[Chunk]:
    """The chunks of all tensors, in the order of the file."""
    for job in jobs:
        height = max(1, CHUNK_NUMBERS // job.tensor.columns)
        for first in range(0, job.tensor.row_count, job.tensor.rows_per_matrix):
            last = first + job.tensor.rows_per_matrix
            for start in range(first, last, height):
                yield Chunk(job, start, min(start + height, last))


def write_tensors(
    jobs: Sequence[Job], file: PartialFile, data_start: int, threads: int, progress: Progress
) -> tuple[Checksum, ...]:
    """Write the tensors of all jobs; each thread holds one chunk in memory, as floats and as blocks.

    Args:
        data_start: Bytes from the start of the file to the tensor data.

    Returns:
        The checksums of all chunks, in the order of the file.

    Raises:
        DataError: a tensor holds a number that cannot be written.
        FileError: the disk is full or fails.
    """
    checksums: list[Checksum] = []

    def write(chunk: Chunk) -> int:
        raw, offset = _pack(chunk)
        file.write(raw, data_start + offset)
        checksums.append(Checksum(chunk.job.tensor.name, data_start + offset, raw.nbytes, checksum_of(raw)))
        return raw.nbytes

    _run(cut(jobs), write, threads, progress)
    return tuple(sorted(checksums, key=lambda checksum: checksum.offset))


def _pack(chunk: Chunk) -> tuple[memoryview, int]:
    job, tensor = chunk.job, chunk.job.tensor
    offset = tensor.offset + chunk.start * tensor.type.row_bytes(tensor.columns)
    if job.copied:
        return memoryview(job.copied.raw(chunk.start, chunk.stop)), offset
    importance = None if job.importance is None else job.importance[chunk.start // tensor.rows_per_matrix]
    packed = quantize(job.rows.read(chunk.start, chunk.stop), tensor.type, tensor.name, chunk.start, importance)
    return packed.data.cast("B"), offset


class _Shared:
    """The state that the threads share: the chunks that are left, the progress and the first error."""

    def __init__(self, chunks: Iterator[Chunk], progress: Progress) -> None:
        self.chunks = chunks
        self.progress = progress
        self.lock = threading.Lock()
        self.fault: BaseException | None = None
        self.is_stopped = False

    def take(self) -> Chunk | None:
        with self.lock:
            return None if self.is_stopped else next(self.chunks, None)

    def count(self, nbytes: int) -> None:
        with self.lock:
            self.progress.advance(nbytes)

    def stop(self, fault: BaseException | None = None) -> None:
        with self.lock:
            self.is_stopped = True
            self.fault = self.fault or fault


def _run(chunks: Iterator[Chunk], work: Callable[[Chunk], int], threads: int, progress: Progress) -> None:
    """Work on all chunks with threads; the first error, or Ctrl+C in this thread, stops all of them."""
    shared = _Shared(chunks, progress)

    def loop() -> None:
        try:
            while (chunk := shared.take()) is not None:
                shared.count(work(chunk))
        except BaseException as fault:
            shared.stop(fault)

    workers = [threading.Thread(target=loop, name=f"convert-{number}", daemon=True) for number in range(threads)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        shared.stop()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
    if shared.fault is not None:
        raise shared.fault
