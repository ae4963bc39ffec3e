"""Read, pack and write tensors in chunks on all cores, so that the three steps overlap."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convert.checkpoint.rows import read_stored
from convert.native.widen import Numbers
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
class NewFile:
    """A file that gets the tensors of its jobs; `data_start` is in bytes from the start of the file."""

    jobs: Sequence[Job]
    file: PartialFile
    data_start: int


@dataclass(frozen=True)
class Chunk:
    """Rows [start, stop) of a tensor, all of one expert, with the tensor's job in each file."""

    jobs: tuple[Job, ...]
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


def cut(*files: Sequence[Job]) -> Iterator[Chunk]:
    """The chunks of all tensors, in the order of the files, which have the same tensors with other types."""
    for jobs in zip(*files, strict=True):
        row = 0
        while row < jobs[0].tensor.row_count:
            chunk = chunk_at(jobs, row)
            yield chunk
            row = chunk.stop


def chunk_at(jobs: tuple[Job, ...], row: int) -> Chunk:
    """The chunk of a tensor that holds a row."""
    tensor = jobs[0].tensor
    height = max(1, CHUNK_NUMBERS // tensor.columns)
    first = row - row % tensor.rows_per_matrix
    start = row - (row - first) % height
    return Chunk(jobs, start, min(start + height, first + tensor.rows_per_matrix))


def write_tensors(files: Sequence[NewFile], threads: int, progress: Progress) -> tuple[tuple[Checksum, ...], ...]:
    """Write the tensors of files with the same tensors in other types, reading each row once.

    Each thread holds one chunk in memory, as floats and as the blocks of each file.

    Returns:
        For each file the checksums of all chunks, in its order.

    Raises:
        DataError: a tensor holds a number that cannot be written.
        FileError: the disk is full or fails.
    """
    checksums: tuple[list[Checksum], ...] = tuple([] for _ in files)

    def write(chunk: Chunk) -> int:
        written = 0
        for new, job, found, raw in zip(files, chunk.jobs, checksums, pack(chunk), strict=True):
            offset = new.data_start + job.tensor.offset + chunk.start * job.tensor.type.row_bytes(job.tensor.columns)
            new.file.write(raw, offset)
            found.append(Checksum(job.tensor.name, offset, raw.nbytes, checksum_of(raw)))
            written += raw.nbytes
        return written

    work_on_chunks(cut(*(new.jobs for new in files)), write, threads, progress)
    return tuple(tuple(sorted(found, key=lambda checksum: checksum.offset)) for found in checksums)


def pack(chunk: Chunk) -> list[memoryview]:
    """The bytes of a chunk for each file; rows are read once, and packed once for each type.

    Raises:
        DataError: it holds a number that cannot be written.
    """
    rows = chunk.jobs[0].rows
    copied = next(filter(None, (job.copied for job in chunk.jobs)), None)
    raw = copied.raw(chunk.start, chunk.stop) if copied else b""
    stored: Numbers | None = None
    made: dict[str, memoryview] = {}
    for job in chunk.jobs:
        tensor = job.tensor
        if tensor.type.name in made:
            continue
        if job.copied:
            made[tensor.type.name] = memoryview(raw)
            continue
        if stored is None:
            stored = Numbers("F32", copied.unpack(raw)) if copied else read_stored(rows, chunk.start, chunk.stop)
        importance = None if job.importance is None else job.importance[chunk.start // tensor.rows_per_matrix]
        packed = quantize(stored, tensor.type, tensor.name, chunk.start, importance)
        made[tensor.type.name] = packed.data.cast("B")
    return [made[job.tensor.type.name] for job in chunk.jobs]


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


def work_on_chunks(chunks: Iterator[Chunk], work: Callable[[Chunk], int], threads: int, progress: Progress) -> None:
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
