"""Verify a written file: two readers agree on it, every byte reads back, sampled rows match the source, it runs."""

from __future__ import annotations

import ctypes
import os
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from chat import platform
from chat.errors import ChatError, DataError, FileError, MemoryLimitError
from chat.gguf.keys import PICTURE_ARCHITECTURE, ModelKey
from chat.gguf.reader import read_gguf
from chat.gguf.validate_model import check_model
from chat.gguf.writer import encode_header
from convert.output.tensor_writer import Checksum, Job, checksum_of, usable_cpus
from convert.quantize.kernels import library

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.gguf.writer import KeyValue
    from chat.system.progress import Progress
    from convert.checkpoint.rows import Floats
    from convert.quantize.recipes import PlannedTensor

SAMPLED_ROWS = 4  # of each tensor
# The largest allowed norm of (written - source) of a row, relative to the source's norm: about three times that of
# normally distributed numbers.
ERROR_BOUNDS = {
    "F32": 0.0,
    "F16": 0.002,
    "BF16": 0.01,
    "Q8_0": 0.03,
    "Q6_K": 0.08,
    "Q5_K": 0.15,
    "Q5_1": 0.15,
    "Q5_0": 0.15,
    "Q4_1": 0.3,
    "Q4_0": 0.3,
    "Q4_K": 0.3,
    "IQ4_NL": 0.3,
    "IQ4_XS": 0.3,
}
TRIAL_CONTEXT = 16  # tokens
ENCODER_TRIAL = "chat.worker.encoder_trial"
NEGLIGIBLE = 1e-4  # rows whose largest number is smaller may vanish in float16 scales


def verify(path: Path, jobs: Sequence[Job], checksums: Sequence[Checksum], progress: Progress) -> None:
    """Compare a written file with its plan, its checksums and the source.

    Args:
        path: The file.
        jobs: The planned tensors with the source's rows.
        checksums: Of all chunks, as they were written.
        progress: Advances by the bytes that were read again.


    Raises:
        DataError: the file is not what was written, or its numbers are not the source's.
        FileError: it cannot be read.
    """
    offsets = _compare_tensors(path, [job.tensor for job in jobs])
    try:
        with path.open("rb") as file, ThreadPoolExecutor(usable_cpus()) as threads:
            read_again = partial(_checksum_at, file.fileno())
            for checksum, found in zip(checksums, threads.map(read_again, checksums), strict=True):
                if found != checksum.value:
                    threads.shutdown(cancel_futures=True)
                    raise DataError(
                        f"{path}: `{checksum.tensor}` reads back differently", hint="the disk may be failing"
                    )
                progress.advance(checksum.nbytes)
            for job in (job for job in jobs if not job.copied):  # the checksums of copies are the source's
                for row in _sample(job.tensor):
                    _compare_row(job, row, _read_row(file, job.tensor, offsets[job.tensor.name], row))
    except OSError as error:
        raise FileError(f"{path}: {error.strerror} while reading it again") from error


def try_out(path: Path) -> str | None:
    """Load a written model in the engine's child process and decode one token.

    Returns:
        A warning where this machine lacks the memory, else None.

    Raises:
        DataError: the model cannot be run.
    """
    from chat.core.request import EngineOptions, Prompt, Request, Sampling
    from chat.worker.client import LocalBackend

    written = read_gguf(path)
    if written.is_adapter:
        return None  # it runs only beside its model; the readers have checked it
    context = min(TRIAL_CONTEXT, written.key(ModelKey.CONTEXT_LENGTH))
    window = "auto" if written.window else "off"  # so that a noted window does not limit the context
    options = EngineOptions(str(path), context=context, window=window, gpu_layers="0", repack="off", draft="off")
    engine = LocalBackend(options)
    try:
        for _ in engine.reply(Request(Prompt(text="Hello"), Sampling(temperature=0.0), max_tokens=1)):
            pass
    except ChatError as error:
        return _untried(path, error)
    finally:
        engine.close()
    return None


def try_out_encoder(path: Path, model_keys: Sequence[KeyValue]) -> str | None:
    """Load a written picture encoder in a child process, with the header of its model, and encode a small picture.

    Args:
        path: of the mmproj file.
        model_keys: of its model.

    Returns:
        A warning where this machine lacks the memory, else None.

    Raises:
        DataError: pictures cannot be read with it.
    """
    from chat.worker.task import run_isolated_task

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.gguf"
        try:
            model.write_bytes(encode_header(model_keys, ()))
            for _ in run_isolated_task(ENCODER_TRIAL, {"mmproj": str(path), "model": str(model)}):
                pass
        except OSError as error:
            raise FileError(f"{model}: cannot be written: {error.strerror}") from error
        except ChatError as error:
            return _untried(path, error)
    return None


def _untried(path: Path, error: ChatError) -> str:
    """The warning of a file that this machine lacks the memory to run.

    Raises:
        DataError: it cannot be run for another reason.
    """
    reason = error.message.replace(str(path), "it")
    if isinstance(error, MemoryLimitError):
        return f"the file was not tried here: {reason}"
    raise DataError(
        f"the file was written, but cannot be run: {reason}", hint="it was removed; `--no-verify` keeps it"
    ) from error


def _compare_tensors(path: Path, planned: Sequence[PlannedTensor]) -> dict[str, int]:
    """Check that both readers find the planned tensors; the offset of each tensor in bytes, by name."""
    file = read_gguf(path)
    if file.architecture != PICTURE_ARCHITECTURE:
        check_model(file)
    found = file.tensors
    if list(found) != [tensor.name for tensor in planned]:
        raise DataError(f"{path}: the written file does not have the tensors that were planned")
    for tensor in planned:
        info = found[tensor.name]
        if (info.shape[::-1], info.type, info.bytes) != (tensor.shape, tensor.type.name, tensor.nbytes):
            raise DataError(f"{path}: `{tensor.name}` was written with another shape or type than planned")
    expected = [
        TensorPlace(tensor.name, _four_axes(tensor), tensor.type.ggml_id, found[tensor.name].offset, tensor.nbytes)
        for tensor in planned
    ]
    if list(read_places(path)) != expected:
        raise DataError(f"{path}: llama.cpp reads other tensors than were planned")
    return {name: info.offset for name, info in found.items()}


def _four_axes(tensor: PlannedTensor) -> tuple[int, ...]:
    return (*reversed(tensor.shape), *(1,) * (4 - len(tensor.shape)))


def _checksum_at(descriptor: int, written: Checksum) -> int:
    return checksum_of(platform.read_at(descriptor, written.nbytes, written.offset))


def _read_at(file: BinaryIO, offset: int, nbytes: int) -> bytes:
    file.seek(offset)
    return file.read(nbytes)


def _sample(tensor: PlannedTensor) -> list[int]:
    """The numbers of the first row, the last, and others drawn with a fixed seed."""
    generator = np.random.default_rng(zlib.crc32(tensor.name.encode()))
    others = generator.integers(0, tensor.row_count, SAMPLED_ROWS - 2)
    return sorted({0, tensor.row_count - 1, *(int(row) for row in others)})


def _read_row(file: BinaryIO, tensor: PlannedTensor, offset: int, row: int) -> Floats:
    from gguf import GGMLQuantizationType, dequantize  # the decoders that llama.cpp's Python side wrote independently

    row_bytes = tensor.type.row_bytes(tensor.columns)
    raw = np.frombuffer(_read_at(file, offset + row * row_bytes, row_bytes), dtype=np.uint8)
    numbers: Floats = dequantize(raw, GGMLQuantizationType(tensor.type.ggml_id))
    return numbers


def _compare_row(job: Job, row: int, written: Floats) -> None:
    source = job.rows.read(row, row + 1)[0].astype(np.float64)  # the square of a sink overflows float32
    bound = ERROR_BOUNDS[job.tensor.type.name]
    norm, error = float(np.linalg.norm(source)), float(np.linalg.norm(written - source))
    if error > bound * norm and (bound == 0.0 or np.abs(source).max() >= NEGLIGIBLE):
        raise DataError(
            f"`{job.tensor.name}` differs from its source in row {row} by {error / norm:.1%}, "
            f"more than {job.tensor.type.name} may"
        )


@dataclass(frozen=True)
class TensorPlace:
    """A tensor's place in the file as llama.cpp reads it."""

    name: str
    shape: tuple[int, ...]  # ggml's order, four axes
    type_id: int  # enum ggml_type
    offset: int  # bytes from the start of the file
    nbytes: int


class _InitParams(ctypes.Structure):
    """struct gguf_init_params."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


@cache
def _functions() -> ctypes.CDLL:
    handle, index = ctypes.c_void_p, ctypes.c_int64
    for name, result, arguments in (
        ("gguf_init_from_file", handle, (ctypes.c_char_p, _InitParams)),
        ("gguf_free", None, (handle,)),
        ("gguf_get_data_offset", ctypes.c_size_t, (handle,)),
        ("gguf_get_n_tensors", ctypes.c_int64, (handle,)),
        ("gguf_get_tensor_name", ctypes.c_char_p, (handle, index)),
        ("gguf_get_tensor_ne", ctypes.POINTER(ctypes.c_int64), (handle, index)),
        ("gguf_get_tensor_type", ctypes.c_int, (handle, index)),
        ("gguf_get_tensor_offset", ctypes.c_size_t, (handle, index)),
        ("gguf_get_tensor_size", ctypes.c_size_t, (handle, index)),
    ):
        function = getattr(library(), name)
        function.restype, function.argtypes = result, arguments
    return library()


def read_places(path: Path) -> tuple[TensorPlace, ...]:
    """All tensors in the order of the file.

    Raises:
        DataError: llama.cpp cannot read the file.
    """
    functions = _functions()
    handle = functions.gguf_init_from_file(os.fsencode(path), _InitParams(True, None))
    if not handle:
        raise DataError(f"{path}: llama.cpp cannot read what was written")
    try:
        start = functions.gguf_get_data_offset(handle)
        return tuple(
            TensorPlace(
                functions.gguf_get_tensor_name(handle, number).decode(),
                tuple(functions.gguf_get_tensor_ne(handle, number)[:4]),
                functions.gguf_get_tensor_type(handle, number),
                start + functions.gguf_get_tensor_offset(handle, number),
                functions.gguf_get_tensor_size(handle, number),
            )
            for number in range(functions.gguf_get_n_tensors(handle))
        )
    finally:
        functions.gguf_free(handle)
