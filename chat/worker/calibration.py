"""Measure in a process of its own how much each column of a model's tensors matters: an importance matrix.

Run by `chat.worker.task`: messages are `chunks`, how many will be read, then `read` for each, and in the end the
`report`. The file is the one that llama-imatrix writes of the same text: source tools/imatrix/imatrix.cpp of llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from chat.core.calibration import CalibrationQuestion, CalibrationReport
from chat.core.request import EngineOptions
from chat.errors import FileError, reason_text
from chat.gguf.keys import GeneralKey, ImatrixKey
from chat.gguf.types import align
from chat.gguf.writer import KeyValue, encode_header
from chat.inference.load_job import LoadJob
from chat.inference.loaded_model import load_vocabulary
from chat.inference.text_chunks import cut_text
from chat.llama.activations import ActivationSums
from chat.worker.protocol import build
from chat.worker.task import serve_isolated_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chat.inference.text_chunks import Chunks
    from chat.llama.activations import ColumnSums
    from chat.worker.task import Message

CHUNK = 512  # tokens, as llama-imatrix has it
TOGETHER = 4  # chunks that llama-imatrix reads at once
ROWS = 512  # that llama.cpp computes at once in it
MOST_OUTPUTS = 512  # rows of a batch; no batch of ours is larger


@dataclass(frozen=True)
class Entry:
    """A tensor of the matrix's file."""

    name: str
    shape: tuple[int, ...]
    offset: int
    ggml_type: int = 0  # F32


def answer(question: Message, send: Callable[[Message], None]) -> None:
    """Measure what `question`, a `CalibrationQuestion`, asks for."""
    asked = build(CalibrationQuestion, question)
    options = EngineOptions(asked.model, repack="off", draft="off", needs_format=False)
    loaded = load_vocabulary(options)
    size = min(CHUNK, loaded.info.trained_context)
    _, chunks = cut_text(loaded.vocabulary, asked.text, size, remedy="give `--calibrate` a longer text")
    loaded.close()
    if asked.matrix is None:
        return
    send({"chunks": len(chunks)})
    options = replace(options, context=size, first_prompt_bytes=4 * size * len(chunks))
    sums = ActivationSums()
    read_chunks(LoadJob.prepare(options, loaded.file, MOST_OUTPUTS, sums.callback), chunks, sums, send)
    try:
        with Path(asked.matrix).open("wb") as file:
            write_matrix(file, sums.tensors, asked.dataset, len(chunks), size)
    except OSError as error:
        raise FileError(f"{asked.matrix}: cannot be written: {reason_text(error)}") from error
    counts = [found.counts for found in sums.tensors.values() if found.counts.size > 1]
    report = CalibrationReport(
        chunks=len(chunks),
        chunk_size=size,
        tensors=len(sums.tensors),
        experts=sum(each.size for each in counts),
        unused_experts=sum(int((each == 0).sum()) for each in counts),
    )
    send({"report": report})


def read_chunks(job: LoadJob, chunks: Chunks, sums: ActivationSums, send: Callable[[Message], None]) -> None:
    """Load the model and read each chunk from an empty cache.

    Every row gets logits: of the others llama.cpp leaves out the last layer.

    Raises:
        ChatError: the model cannot be loaded, there is not enough memory, or the model computes no numbers.
    """
    context = job.run().context
    batch = context.settings.batch
    for number, chunk in enumerate(chunks):
        context.clear()
        for start, stop in parts_of(len(chunk), batch, apart=rows_apart(number, len(chunks))):
            context.feed(chunk[start:stop], stop - start)
            sums.raise_fault()
        send({"read": 1})
    context.close()
    context.model.close()


def rows_apart(number: int, chunks: int) -> int:
    """How many rows at the end of a chunk llama-imatrix computes apart from the others.

    It reads four chunks at once, and as many rows of each as fit into 512: of three last chunks 3 x 170 at a time, so
    that two rows of each are left. Such small batches count for experts only.
    """
    together = min(TOGETHER, chunks - number // TOGETHER * TOGETHER)
    return CHUNK % (ROWS // together)


def parts_of(rows: int, batch: int, *, apart: int) -> Iterator[tuple[int, int]]:
    """Start and stop of each batch of a chunk.

    Args:
        rows: of the chunk.
        batch: the most rows of a batch.
        apart: rows at the end that are a batch of their own.
    """
    whole = rows - apart
    yield from ((start, min(start + batch, whole)) for start in range(0, whole, batch))
    if apart:
        yield whole, rows


def write_matrix(file: BinaryIO, tensors: Mapping[str, ColumnSums], dataset: str, chunks: int, chunk_size: int) -> None:
    """Write the sums as a GGUF in llama-imatrix's format.

    Args:
        file: new.
        tensors: by name.
        dataset: the name of the text.
        chunks: how many were read.
        chunk_size: tokens of each.

    Raises:
        OSError: it cannot be written.
    """
    keys = (
        KeyValue(GeneralKey.TYPE, "str", "imatrix"),
        KeyValue(ImatrixKey.DATASETS, "str", (dataset,)),
        KeyValue(ImatrixKey.CHUNK_COUNT, "u32", chunks),
        KeyValue(ImatrixKey.CHUNK_SIZE, "u32", chunk_size),
    )
    entries, parts, offset = [], [], 0
    for name in sorted(tensors):
        found = tensors[name]
        matrices = found.counts.size  # of a dense tensor all matrices have one count, and their sums lie in one row
        for suffix, numbers in ((".in_sum2", found.squares), (".counts", found.counts)):
            data = numbers.astype("<f4").tobytes()
            columns = numbers.size // matrices
            entries.append(Entry(name + suffix, (matrices, columns) if matrices > 1 else (columns,), offset))
            parts.append(data.ljust(align(len(data)), b"\0"))
            offset += len(parts[-1])
    file.write(encode_header(keys, entries))
    for part in parts:
        file.write(part)


if __name__ == "__main__":
    serve_isolated_task(answer)
