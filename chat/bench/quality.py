"""Measure in a process of its own how well models predict a text, and how far they are from a reference.

Run by `chat.worker.task`: messages are `progress` and in the end the `report`. The models are loaded one after another,
the reference first. What it makes of each token is kept in a temporary file, as llama-perplexity keeps it: the log
probabilities of the whole vocabulary in 16 bits. Both models in memory would need no file, but twice the memory, and
the reference would have to read the text again for each file.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from chat.bench.log_probabilities import (
    Comparison,
    PackedProbabilities,
    compare,
    divergence,
    pack,
    perplexity,
    token_losses,
)
from chat.bench.quality_results import FileQuality, QualityQuestion, QualityReport
from chat.errors import FileError, ModelError, UsageError, reason_text
from chat.inference.load_job import LoadJob
from chat.inference.loaded_model import load_vocabulary
from chat.inference.text_chunks import cut_text
from chat.llama.hardware import worker_threads
from chat.llama.library import build_name
from chat.system.terminal_text import size_text
from chat.worker.protocol import build
from chat.worker.task import serve_isolated_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from chat.core.backend import ModelInfo
    from chat.core.request import EngineOptions
    from chat.gguf.reader import GgufFile
    from chat.llama.context import LlamaContext
    from chat.worker.task import Message

BLOCK_NUMBERS = 1 << 19  # logits that one thread works on at a time: 2 MiB, which stay in its cache
MOST_OUTPUTS = 512  # rows of logits of a batch; no batch of ours is larger

# Views of logits, each (vocabulary,) float32, and the tokens that follow them, (rows,)
Block = tuple[list["NDArray[np.float32]"], "NDArray[np.intp]"]


@dataclass(frozen=True)
class CheckedFile:
    """A checked file, and the ids that it reads.

    Attributes:
        chunks: each of `context` ids; the first is BOS where the model begins its prompts with one.
    """

    options: EngineOptions
    file: GgufFile
    info: ModelInfo
    vocabulary_size: int
    text_ids: tuple[int, ...]
    chunks: tuple[tuple[int, ...], ...]


class ChunkProgress:
    """Says what is being done, and how long all files will take, by the chunks that were read so far."""

    def __init__(self, send: Callable[[Message], None], total_chunks: int) -> None:
        self._send = send
        self._left = total_chunks
        self._read = 0
        self._seconds = 0.0

    def say(self, words: str) -> None:
        """Send a message."""
        left = self._seconds / self._read * self._left if self._read else None
        self._send({"progress": words, "seconds_left": left})

    def notify(self, notices: Iterable[str]) -> None:
        """Send sentences for the user."""
        for notice in notices:
            self._send({"notice": notice})

    def advance(self, seconds: float) -> None:
        """Count a chunk."""
        self._read, self._left, self._seconds = self._read + 1, self._left - 1, self._seconds + seconds


@dataclass(frozen=True)
class ReferenceRows:
    """The log probabilities of the reference, one batch of rows after another in a file that has no name."""

    file: IO[bytes]
    vocabulary_size: int
    folder: str

    def write(self, blocks: Iterable[PackedProbabilities]) -> None:
        """Add rows.

        Raises:
            FileError: the disk is full.
        """
        try:
            for block in blocks:
                self.file.write(block.to_bytes())
        except OSError as error:
            raise FileError(f"{self.folder}: cannot be written: {reason_text(error)}") from error

    def rewind(self) -> None:
        """Read from the first row again."""
        try:
            self.file.seek(0)
        except OSError as error:  # what was still buffered
            raise FileError(f"{self.folder}: cannot be written: {reason_text(error)}") from error

    def read(self, rows: int) -> PackedProbabilities:
        """The next rows, as many as were written together."""
        return PackedProbabilities.from_bytes(
            self.file.read(PackedProbabilities.size(rows, self.vocabulary_size)), rows
        )


def answer(question: Message, send: Callable[[Message], None]) -> None:
    """Measure what `question`, a `QualityQuestion`, asks for."""
    asked = build(QualityQuestion, question)
    send({"progress": "reading the text", "seconds_left": None})
    reference = None if asked.reference is None else examine(asked.reference, asked)
    subjects = [examine(options, asked) for options in asked.files]
    if reference is not None:
        for subject in subjects:
            require_same_text(subject, reference)
    first = reference or subjects[0]
    context = len(first.chunks[0])
    scored = context - 1 - context // 2
    progress = ChunkProgress(send, sum(len(each.chunks) for each in [*([reference] if reference else []), *subjects]))
    with ExitStack() as stack:
        rows = None
        if reference is not None:
            require_space(asked.folder, len(first.chunks) * PackedProbabilities.size(scored, first.vocabulary_size))
            file = stack.enter_context(tempfile.TemporaryFile(dir=asked.folder))
            rows = ReferenceRows(file, reference.vocabulary_size, asked.folder)
        found = None if reference is None else measure(reference, None, rows, progress)
        files = tuple(measure(subject, rows, None, progress) for subject in subjects)
    report = QualityReport(
        build=build_name(),
        text_tokens=len(first.text_ids),
        context=context,
        chunks=len(first.chunks),
        scored_tokens=scored * len(first.chunks),
        reference=found,
        files=files,
        is_same_text=all(subject.text_ids == first.text_ids for subject in subjects),
    )
    send({"report": report})


def examine(options: EngineOptions, asked: QualityQuestion) -> CheckedFile:
    """Check a file and cut the text into chunks of its tokens.

    Raises:
        ModelError: the file cannot be used.
        UsageError: an option does not fit the model.
        DataError: the text is too short.
    """
    loaded = load_vocabulary(options)
    size = options.context or loaded.info.trained_context
    if size > loaded.info.trained_context:
        raise UsageError(
            f"`--context {size}` is more than the {loaded.info.trained_context:,} tokens of {options.model_path}"
        )
    remedy = "give a longer `--text`, or a smaller `--context`"
    ids, chunks = cut_text(loaded.vocabulary, asked.text, size, remedy=remedy)
    loaded.close()
    return CheckedFile(options, loaded.file, loaded.info, loaded.vocabulary.size, ids, chunks[: asked.chunks])


def require_same_text(subject: CheckedFile, reference: CheckedFile) -> None:
    """Refuse a file whose probabilities are not for the same tokens as the reference's.

    Raises:
        ModelError: with what differs.
    """
    names = subject.options.model_path, reference.options.model_path
    if subject.vocabulary_size != reference.vocabulary_size:
        raise ModelError(
            f"{names[0]} has a vocabulary of {subject.vocabulary_size:,} pieces, but {names[1]} one of "
            f"{reference.vocabulary_size:,}",
            hint="the models are compared token by token, so they must have the same vocabulary",
        )
    if subject.text_ids != reference.text_ids:
        raise ModelError(
            f"{names[0]} has other tokens for the text than {names[1]}",
            hint="the models are compared token by token, so they must have the same vocabulary",
        )


def require_space(folder: str, needed: int) -> None:
    """Refuse to begin where the reference's log probabilities will not fit on the disk.

    Raises:
        FileError: with need and free space.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FileError(
            f"{folder}: {size_text(needed)} are needed for what the reference makes of the text, but {size_text(free)} "
            "are free",
            hint="read less of it with `--chunks`",
        )


def measure(
    subject: CheckedFile, expected: ReferenceRows | None, kept: ReferenceRows | None, progress: ChunkProgress
) -> FileQuality:
    """Load a file and read the text with it.

    Args:
        subject: the file.
        expected: what it is compared with, from the first row on; None for nothing.
        kept: gets its log probabilities; None keeps none.
        progress: of all files.

    Raises:
        MemoryLimitError: there is not enough memory.
        ModelError: it cannot be loaded, or computes no numbers.
        FileError: the log probabilities cannot be written.
    """
    path = subject.options.model_path
    progress.say(f"loading {Path(path).name}")
    options = replace(subject.options, first_prompt_bytes=4 * len(subject.chunks) * len(subject.chunks[0]))
    loaded = LoadJob.prepare(options, subject.file, outputs=MOST_OUTPUTS).run()
    progress.notify(loaded.notices)
    if expected is not None:
        expected.rewind()
    losses: list[NDArray[np.float64]] = []
    compared: list[Comparison] = []
    started = time.perf_counter()
    with ThreadPoolExecutor(options.threads or worker_threads()) as pool:
        for number, chunk in enumerate(subject.chunks, 1):
            since = time.perf_counter()
            for blocks in scored_rows(loaded.context, chunk):
                if expected is not None:
                    references = [expected.read(len(tokens)) for _, tokens in blocks]
                    found = list(pool.map(compare_block, blocks, references))
                    compared += found
                    losses += [each.losses for each in found]
                else:
                    losses += pool.map(block_losses, blocks)
                if kept is not None:
                    kept.write(pool.map(pack_block, blocks))
            so_far = perplexity(np.concatenate(losses)).value
            if not np.isfinite(so_far):
                raise ModelError(
                    f"{path} computes NaN or infinite numbers", hint="`mistral-chat doctor` looks for the reason"
                )
            progress.advance(time.perf_counter() - since)
            progress.say(f"{Path(path).name}: chunk {number} of {len(subject.chunks)}, perplexity {so_far:.4f}")
    seconds = time.perf_counter() - started
    loaded.context.close()
    loaded.context.model.close()
    return FileQuality(
        path=path,
        type=subject.info.type,
        architecture=subject.info.architecture,
        size=subject.info.size,
        window=subject.info.window,
        perplexity=perplexity(np.concatenate(losses)),
        divergence=divergence(Comparison.joined(compared)) if compared else None,
        read_speed=len(subject.chunks) * len(subject.chunks[0]) / seconds,
    )


def scored_rows(context: LlamaContext, chunk: Sequence[int]) -> Iterator[list[Block]]:
    """Read a chunk from an empty cache, batch by batch.

    Args:
        context: its batches are no larger than its outputs.
        chunk: ids; the second half is scored.

    Yields:
        The scored rows of each batch in blocks, valid until the next.

    Raises:
        EngineError: llama.cpp failed.
    """
    context.clear()
    following = np.array(chunk[1:], np.intp)
    batch, first = context.settings.batch, len(chunk) // 2
    height = max(BLOCK_NUMBERS // context.model.vocabulary_size, 1)
    for start in range(0, len(chunk), batch):
        stop = min(start + batch, len(chunk))
        context.feed(chunk[start:stop], max(stop - max(start, first), 1))
        places = range(max(start, first), min(stop, len(chunk) - 1))
        parts = (places[at : at + height] for at in range(0, len(places), height))
        yield [([context.logits(place - start) for place in part], following[part.start : part.stop]) for part in parts]


def block_losses(block: Block) -> NDArray[np.float64]:
    """The losses of a block, (rows,) float64."""
    rows, tokens = block
    return token_losses(np.stack(rows), tokens)


def pack_block(block: Block) -> PackedProbabilities:
    """The log probabilities of a block."""
    return pack(np.stack(block[0]))


def compare_block(block: Block, reference: PackedProbabilities) -> Comparison:
    """A block beside the reference's rows."""
    rows, tokens = block
    return compare(np.stack(rows), reference, tokens)


if __name__ == "__main__":
    serve_isolated_task(answer)
