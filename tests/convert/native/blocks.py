"""Blocks of 256 numbers of every kind that decides something in a search for scales, and the guide's real weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from chat.gguf.reader import read_gguf
from chat.guide import PATH as GUIDE
from convert.quantize.kernels import ALL_TYPES, MAX_FLOAT16, dequantize

WIDTH = 256
Floats = np.ndarray[Any, np.dtype[np.float32]]
Maker = Callable[[np.random.Generator, int], np.ndarray[Any, Any]]


def normal(random: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    return random.standard_normal((count, WIDTH))


def powers(random: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return 10.0 ** random.uniform(low, high, shape)


def one_outlier(random: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    numbers = normal(random, count) / 100
    numbers[np.arange(count), random.integers(0, WIDTH, count)] *= 1e5
    return numbers


def one_number(random: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    numbers = np.zeros((count, WIDTH))
    numbers[np.arange(count), random.integers(0, WIDTH, count)] = random.standard_normal(count)
    return numbers


MAKERS: dict[str, Maker] = {
    "normal": lambda random, count: normal(random, count) / 50,
    "uniform": lambda random, count: random.random((count, WIDTH)) - 0.5,
    "positive": lambda random, count: random.random((count, WIDTH)) + 0.1,
    "negative": lambda random, count: -random.random((count, WIDTH)) - 0.1,
    "all zero": lambda random, count: np.zeros((count, WIDTH)),
    "zeros of both signs": lambda random, count: np.where(random.random((count, WIDTH)) < 0.5, -0.0, 0.0),
    "one number": one_number,
    "one outlier": one_outlier,
    "denormal": lambda random, count: normal(random, count) * 1e-39,
    "around the denormal": lambda random, count: normal(random, count) * powers(random, -45, -30, (count, 1)),
    "around the negligible": lambda random, count: normal(random, count) * powers(random, -17, -13, (count, 1)),
    "small": lambda random, count: normal(random, count) * powers(random, -30, -5, (count, 1)),
    "constant": lambda random, count: random.standard_normal((count, 1)).repeat(WIDTH, 1),
    "constant runs": lambda random, count: random.standard_normal((count, 16)).repeat(16, 1),
    "nearly constant": lambda random, count: (
        random.standard_normal((count, 1)) + normal(random, count) * powers(random, -9, -1, (count, 1))
    ),
    "alternating": lambda random, count: random.standard_normal((count, 1)) * np.where(np.arange(WIDTH) % 2, 1, -1),
    "huge": lambda random, count: normal(random, count) * 30000,
    "largest": lambda random, count: np.where(random.random((count, WIDTH)) < 0.5, -MAX_FLOAT16, MAX_FLOAT16),
    "integers": lambda random, count: np.rint(normal(random, count) * powers(random, 0, 3, (count, 1))),
    "sparse": lambda random, count: np.where(random.random((count, WIDTH)) < 0.05, normal(random, count), 0),
    "scales apart": lambda random, count: normal(random, count) * powers(random, -12, 3, (count, 16)).repeat(16, 1),
    "numbers apart": lambda random, count: normal(random, count) * powers(random, -20, 4, (count, WIDTH)),
    "heavy tails": lambda random, count: random.laplace(size=(count, WIDTH)) ** 3,
}


def blocks_of(kind: str, random: np.random.Generator, count: int) -> Floats:
    """(count, WIDTH) float32 of one kind, finite as float16."""
    return np.clip(MAKERS[kind](random, count), -MAX_FLOAT16, MAX_FLOAT16).astype(np.float32)


@cache
def real_blocks() -> Floats:
    """(n, WIDTH) float32: every matrix of the guide."""
    file = read_gguf(GUIDE)
    found = []
    with GUIDE.open("rb") as raw:
        for tensor in file.tensors.values():
            if tensor.type == "Q8_0":
                raw.seek(tensor.offset)
                columns, rows = tensor.shape
                found.append(dequantize(raw.read(tensor.bytes), ALL_TYPES["Q8_0"], rows, columns).reshape(-1, WIDTH))
    return np.concatenate(found)


def importances(random: np.random.Generator, columns: int) -> Iterator[Floats]:
    """Importances of columns, (columns,) float32: as they are measured, with zeros, all zero, far apart."""
    yield (random.standard_normal(columns) ** 2).astype(np.float32)
    yield np.where(random.random(columns) < 0.3, 0, random.random(columns)).astype(np.float32)
    yield np.zeros(columns, np.float32)
    yield powers(random, -20, 10, (columns,)).astype(np.float32)
