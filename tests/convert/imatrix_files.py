"""Importance matrices as llama-imatrix writes them, in both formats, from a seed."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from chat.gguf.reader import read_gguf
from chat.gguf.writer import KeyValue, encode_header
from convert.quantize.kernels import BLOCK_TYPES
from convert.quantize.recipes import PlannedTensor

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """Sums of squares, (experts, columns), and how many tokens each expert saw."""

    sums: Floats
    counts: tuple[int, ...]


def measure(model: Path, seed: int = 7, idle_expert: bool = True) -> dict[str, Measured]:
    """Numbers for every tensor of a GGUF that is multiplied with, the output left out as llama-imatrix does."""
    generator = np.random.default_rng(seed)
    found = {}
    for name, info in read_gguf(model).tensors.items():
        if len(info.shape) < 2 or name in ("token_embd.weight", "output.weight"):
            continue
        experts = info.shape[2] if len(info.shape) > 2 else 1
        sums = generator.gamma(0.5, 100.0, (experts, info.shape[0])).astype(np.float32)
        counts = [int(count) for count in generator.integers(1, 5000, experts)]
        if idle_expert and experts > 1:
            counts[1], sums[1] = 0, 0.0
        found[name] = Measured(sums, tuple(counts))
    return found


def plain_means(measured: Mapping[str, Measured]) -> dict[str, list[float]]:
    """What llama-quantize makes of them, number by number."""
    means = {}
    for name, each in measured.items():
        rows = zip(each.sums, each.counts, strict=True)
        means[name] = [float(x / np.float32(count)) if count else 1.0 for row, count in rows for x in row]
    return means


def write_gguf(path: Path, measured: Mapping[str, Measured], datasets: tuple[str, ...] = ("wiki.txt",)) -> Path:
    """The format since 2025."""
    keys = [
        KeyValue("general.type", "str", "imatrix"),
        KeyValue("imatrix.datasets", "str", datasets),
        KeyValue("imatrix.chunk_count", "u32", 12),
        KeyValue("imatrix.chunk_size", "u32", 512),
    ]
    planned, parts, at = [], [], 0
    for name, each in measured.items():
        counts = np.array(each.counts, dtype=np.float32)[:, None]
        for suffix, array in ((".in_sum2", each.sums), (".counts", counts)):
            raw = array.tobytes()
            planned.append(PlannedTensor(name + suffix, array.shape, BLOCK_TYPES["F32"], at, len(raw)))
            parts.append(raw + bytes(-len(raw) % 32))
            at += len(parts[-1])
    path.write_bytes(encode_header(keys, planned) + b"".join(parts))
    return path


def write_legacy(path: Path, values: Mapping[str, Floats], calls: int, tail: tuple[int, bytes] | None) -> Path:
    """The older format: sums over `calls`; at the end the chunks and the text they came from, or nothing."""
    raw = struct.pack("<i", len(values))
    for name, numbers in values.items():
        raw += struct.pack("<i", len(name)) + name.encode()
        raw += struct.pack("<ii", calls, numbers.size) + numbers.tobytes()
    if tail:
        raw += struct.pack("<ii", tail[0], len(tail[1])) + tail[1]
    path.write_bytes(raw)
    return path
