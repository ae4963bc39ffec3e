"""Merge adapters into a model's tensors while they are read: base + scale * B @ A."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from chat.errors import ModelError
from convert.checkpoint.rows import GatheredRows, MappedRows, Rows
from convert.tensors.layout import OutputTensor, rotary_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.architecture.hyperparameters import Shape
    from convert.checkpoint.rows import Floats
    from convert.dequantize.parts import Part
    from convert.lora.adapter import Adapter, FullTensor, LowRankPair
    from convert.tensors.names import Meaning

# Products are computed in blocks that start at multiples of this row, so that a row's bits do not depend on the reads.
BLOCK_ROWS = 16
# Larger products start OpenBLAS's own threads, which compete with ours: ten times the time was measured.
BLOCK_PRODUCTS = 262_144


@dataclass(frozen=True)
class TransposedMatrix:
    """A small matrix transposed, held in memory from its first use on."""

    base: Rows

    @property
    def count(self) -> int:
        """The columns of the base."""
        return self.base.columns

    @property
    def columns(self) -> int:
        """The rows of the base."""
        return self.base.count

    @cached_property
    def _matrix(self) -> Floats:
        return np.ascontiguousarray(self.base.read(0, self.base.count).T)

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32, a new array."""
        return self._matrix[start:stop].copy()


@dataclass(frozen=True)
class Change:
    """What one pair adds to rows [first, first + b.count) of a tensor: scale * b @ a, rows in the GGUF's order."""

    a: Rows  # (rank, columns)
    b: Rows  # (rows, rank)
    scale: float
    first: int = 0


@dataclass(frozen=True)
class ChangedRows:
    """A matrix with changes added to it in float64, rounded to float32 once."""

    base: Rows
    changes: tuple[Change, ...]

    @property
    def count(self) -> int:
        """As the base."""
        return self.base.count

    @property
    def columns(self) -> int:
        """As the base."""
        return self.base.columns

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32, a new array."""
        total = self.base.read(start, stop).astype(np.float64)  # (n, columns)
        for change in self.changes:
            low, high = max(start, change.first), min(stop, change.first + change.b.count)
            if low < high:
                _add(total[low - start : high - start], change, low - change.first, high - change.first)
        return total.astype(np.float32)


def _add(total: np.ndarray[tuple[int, ...], np.dtype[np.float64]], change: Change, start: int, stop: int) -> None:
    """Add a change's rows [start, stop) to `total`, (stop - start, columns) float64, in place."""
    first = start // BLOCK_ROWS * BLOCK_ROWS
    last = min(-(-stop // BLOCK_ROWS) * BLOCK_ROWS, change.b.count)
    a = change.a.read(0, change.a.count).astype(np.float64)  # (rank, columns)
    a *= change.scale
    b = change.b.read(first, last).astype(np.float64)  # (rows, rank)
    width = max(64, BLOCK_PRODUCTS // (BLOCK_ROWS * len(a)))
    for block in range(first, last, BLOCK_ROWS):
        left = b[block - first : block - first + BLOCK_ROWS]  # (block's rows, rank)
        low, high = max(block, start), min(block + BLOCK_ROWS, stop, last)
        for column in range(0, a.shape[1], width):
            product = left @ a[:, column : column + width]
            total[low - start : high - start, column : column + width] += product[low - block : high - block]


def merge(
    outputs: Sequence[OutputTensor], adapter: Adapter, strength: float, head_dim: int
) -> tuple[OutputTensor, ...]:
    """Merge one adapter into a model's tensors.

    Args:
        outputs: The model's tensors.
        adapter: The adapter.
        strength: The factor of the adapter's own scales.
        head_dim: Numbers in an attention head, for the order of rotary rows.

    Raises:
        ModelError: the adapter was made for another model, or has whole tensors and a strength other than 1.
    """
    shapes = {tensor.name: tensor.shape for tensor in outputs}
    if adapter.wholes and strength != 1:
        raise ModelError(
            f"{adapter.path}: replaces whole tensors (`{adapter.wholes[0].part.entry.name[:120]}`), "
            "so it cannot be merged in part",
            hint="leave the scale out",
        )
    replaced = {whole.meaning.gguf_name: _whole_rows(whole, adapter, shapes, head_dim) for whole in adapter.wholes}
    changes = changes_of(adapter, shapes, head_dim)
    made = []
    for tensor in outputs:
        rows = replaced.get(tensor.name, tensor.rows)
        own = tuple(replace(change, scale=change.scale * strength) for change in changes.get(tensor.name, ()))
        made.append(replace(tensor, rows=ChangedRows(rows, own) if own else rows))
    return tuple(made)


def merge_all(
    outputs: Sequence[OutputTensor], adapters: Sequence[tuple[Adapter, float]], head_dim: int
) -> tuple[OutputTensor, ...]:
    """Merge adapters, each with its scale, in their order.

    Raises:
        ModelError: as `merge`.
    """
    for adapter, strength in adapters:
        outputs = merge(outputs, adapter, strength, head_dim)
    return tuple(outputs)


def tied_warning(adapter: Adapter) -> str:
    """What to say of an adapter that replaces or changes an end of a model that ties its two ends, `ENDS`."""
    what = f"{adapter.path}: the model uses its embedding as the output layer too"
    if adapter.has_own_ends:
        return f"{what}, and the adapter replaces one of them: they are written apart, as PEFT merges them"
    return f"{what}, and the adapter changes both, though it was trained on one of them, as PEFT merges it"


def changes_of(adapter: Adapter, shapes: Mapping[str, Shape], head_dim: int) -> dict[str, list[Change]]:
    """What an adapter adds to each tensor, by name, of a model with these row-major shapes.

    Raises:
        ModelError: the adapter was made for another model.
    """
    found: dict[str, list[Change]] = {}
    for pair in adapter.pairs:
        shape = _target(adapter, pair.meaning, pair.a, shapes)
        found.setdefault(pair.meaning.gguf_name, []).append(_change(pair, adapter, shape, head_dim))
    return found


def _target(adapter: Adapter, meaning: Meaning, part: Part, shapes: Mapping[str, Shape]) -> Shape:
    """The shape of the tensor that a part changes."""
    shape = shapes.get(meaning.gguf_name) if meaning.form != "ignored" else None
    if shape is None:
        hint, more = "the adapter belongs to another model", ""
        if meaning.part == "output":
            more = "; the model has no output layer of its own"
            hint = "save the model with an output layer of its own (`tie_word_embeddings` false), and merge into that"
        raise ModelError(f"{adapter.path}: tensor `{part.entry.name[:120]}` has no place in the model{more}", hint=hint)
    is_expert = meaning.expert is not None
    if is_expert != (len(shape) == 3) or (meaning.expert is not None and meaning.expert >= shape[0]):
        raise ModelError(f"{adapter.path}: tensor `{part.entry.name[:120]}` is of an expert that the model lacks")
    return shape


def _change(pair: LowRankPair, adapter: Adapter, shape: Shape, head_dim: int) -> Change:
    """A pair as a change of the GGUF's tensor, which has this row-major shape."""
    a: Rows = MappedRows(pair.a.file, pair.a.entry)
    b: Rows = MappedRows(pair.b.file, pair.b.entry)
    if pair.is_embedding:  # the transposed product: (B A)^T = A^T B^T
        a, b = TransposedMatrix(b), TransposedMatrix(a)
    matrix = shape[-2:]
    if (b.count, a.columns) != matrix:
        raise ModelError(
            f"{adapter.path}: `{pair.module[:120]}` changes {b.count} x {a.columns} weights, "
            f"but the model has {' x '.join(map(str, matrix))}",
            hint="the adapter belongs to another model",
        )
    if pair.meaning.form == "rotary":
        b = GatheredRows(b, rotary_order(b.count, head_dim))
    return Change(a, b, pair.scale, (pair.meaning.expert or 0) * matrix[0])


def _whole_rows(whole: FullTensor, adapter: Adapter, shapes: Mapping[str, Shape], head_dim: int) -> Rows:
    shape, entry = _target(adapter, whole.meaning, whole.part, shapes), whole.part.entry
    if entry.shape != shape:
        hint = "the adapter belongs to another model"
        if len(shape) == 2 and entry.shape[1:] == shape[1:]:
            hint = "it adds tokens to the vocabulary: merge it with PEFT's `merge_and_unload()` and convert the result"
        raise ModelError(
            f"{adapter.path}: tensor `{entry.name[:120]}` has shape {list(entry.shape)}, "
            f"but the model's is {list(shape)}",
            hint=hint,
        )
    rows: Rows = MappedRows(whole.part.file, entry)
    if whole.meaning.form == "rotary":
        rows = GatheredRows(rows, rotary_order(prod(shape[:-1]), head_dim))
    return rows
