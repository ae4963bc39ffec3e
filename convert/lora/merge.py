"""Merge adapters into a model's tensors while they are read: base + scale * B @ A."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from chat.errors import ModelError
from chat.gguf.validate_lora import MERGE_HINT
from convert.checkpoint.rows import GatheredRows, MappedRows, SlicedRows, TurnedRows
from convert.tensors.latent import GATE_AND_UP, GATE_AND_UP_PARTS, KEY_PART, VALUE_PART
from convert.tensors.layout import OutputTensor, rotary_order
from convert.tensors.names import KEYS_AND_VALUES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.architecture.hyperparameters import Hyperparameters, Shape
    from convert.architecture.latent import LatentAttention
    from convert.checkpoint.rows import Floats, Rows
    from convert.dequantize.parts import Part
    from convert.lora.adapter import Adapter, FullTensor, LowRankPair
    from convert.tensors.names import Meaning

# Products are computed in blocks that start at multiples of this row, so that a row's bits do not depend on the reads.
BLOCK_ROWS = 16
# Larger products start OpenBLAS's own threads, which compete with ours: ten times the time was measured.
BLOCK_PRODUCTS = 262_144


@dataclass(frozen=True)
class TransposedMatrix(TurnedRows):
    """A small matrix transposed, held in memory from its first use on."""

    @cached_property
    def _matrix(self) -> Floats:
        return np.ascontiguousarray(self.base.read(0, self.base.count).T)

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32, a new array."""
        return self._matrix[start:stop].copy()


@dataclass(frozen=True)
class RowLayout:
    """In what order a model's attention rows lie in the GGUF, seen from Hugging Face's layout."""

    heads: int
    head_dim: int  # numbers in a head
    is_half_split: bool = True  # Hugging Face's rotary rows are two halves of a head
    latent: LatentAttention | None = None

    @classmethod
    def of(cls, sizes: Hyperparameters) -> RowLayout:
        """The layout of a model of these sizes."""
        return cls(sizes.heads, sizes.head_dim, sizes.has_half_split_rows, sizes.latent)


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
    outputs: Sequence[OutputTensor], adapter: Adapter, strength: float, sizes: Hyperparameters
) -> tuple[OutputTensor, ...]:
    """Merge one adapter into a model's tensors.

    Args:
        outputs: The model's tensors.
        adapter: The adapter.
        strength: The factor of the adapter's own scales.
        sizes: The model's.

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
    layout = RowLayout.of(sizes)
    replaced = {whole.meaning.gguf_name: _whole_rows(whole, adapter, shapes, layout) for whole in adapter.wholes}
    changes = changes_of(adapter, shapes, layout)
    made = []
    for tensor in outputs:
        rows = replaced.get(tensor.name, tensor.rows)
        own = tuple(replace(change, scale=change.scale * strength) for change in changes.get(tensor.name, ()))
        made.append(replace(tensor, rows=ChangedRows(rows, own) if own else rows))
    return tuple(made)


def merge_all(
    outputs: Sequence[OutputTensor], adapters: Sequence[tuple[Adapter, float]], sizes: Hyperparameters
) -> tuple[OutputTensor, ...]:
    """Merge adapters, each with its scale, in their order.

    Raises:
        ModelError: as `merge`.
    """
    for adapter, strength in adapters:
        outputs = merge(outputs, adapter, strength, sizes)
    return tuple(outputs)


def need_own_ends(adapters: Sequence[tuple[Adapter, float]]) -> bool:
    """Whether a tied model no longer is with the adapters; see `untie`."""
    return any(adapter.has_own_ends for adapter, _ in adapters)


def tied_warnings(adapters: Sequence[tuple[Adapter, float]]) -> tuple[str, ...]:
    """What to say of adapters that replace or change an end of a model that ties its two ends, `ENDS`."""
    unties = need_own_ends(adapters)
    return tuple(
        _tied_warning(adapter) for adapter, _ in adapters if (adapter.has_own_ends if unties else adapter.changes_ends)
    )


def _tied_warning(adapter: Adapter) -> str:
    what = f"{adapter.path}: the model uses its embedding as the output layer too"
    if adapter.has_own_ends:
        if adapter.wholes:
            return f"{what}, and the adapter replaces one of them: they are written apart, as PEFT merges them"
        return f"{what}, and the adapter changes the latter: they are written apart, as PEFT advises"
    return f"{what}, and the adapter changes both, though it was trained on one of them, as PEFT merges it"


def changes_of(adapter: Adapter, shapes: Mapping[str, Shape], layout: RowLayout) -> dict[str, list[Change]]:
    """What an adapter adds to each tensor, by name, of a model with these row-major shapes and this order of rows.

    Raises:
        ModelError: the adapter was made for another model.
    """
    found: dict[str, list[Change]] = {}
    for pair in adapter.pairs:
        name = pair.meaning.gguf_name
        if pair.meaning.part == KEYS_AND_VALUES and name not in shapes and layout.latent is not None:
            for part, changes in _latent_changes(pair, adapter, layout.heads, layout.latent).items():
                found.setdefault(name.replace(KEYS_AND_VALUES, part), []).extend(changes)
            continue
        joined = name.replace(pair.meaning.part, GATE_AND_UP)
        if pair.meaning.part in GATE_AND_UP_PARTS and name not in shapes and joined in shapes:
            found.setdefault(joined, []).append(_joined_change(pair, adapter, shapes[joined]))
            continue
        shape = _target(adapter, pair.meaning, pair.a, shapes)
        found.setdefault(name, []).append(_change(pair, adapter, shape, layout))
    return found


def _latent_changes(
    pair: LowRankPair, adapter: Adapter, heads: int, latent: LatentAttention
) -> dict[str, tuple[Change, ...]]:
    """A change of what makes keys and values of latent vectors, head by head: keys are transposed in the GGUF."""
    a: Rows = MappedRows(pair.a.file, pair.a.entry)  # (rank, latent)
    b: Rows = MappedRows(pair.b.file, pair.b.entry)  # (heads * (plain + value), rank)
    height = latent.plain + latent.value
    _check_fits(pair, adapter, (b.count, a.columns), (heads * height, latent.rank))
    turned = TransposedMatrix(a)
    keys = [TransposedMatrix(SlicedRows(b, head * height, latent.plain)) for head in range(heads)]
    values = [SlicedRows(b, head * height + latent.plain, latent.value) for head in range(heads)]
    return {
        KEY_PART: tuple(Change(key, turned, pair.scale, head * latent.rank) for head, key in enumerate(keys)),
        VALUE_PART: tuple(Change(a, value, pair.scale, head * latent.value) for head, value in enumerate(values)),
    }


def _joined_change(pair: LowRankPair, adapter: Adapter, shape: Shape) -> Change:
    """A change of one expert's gate or up where both are one tensor, (experts, 2 * hidden, width), the gate above."""
    a, b = MappedRows(pair.a.file, pair.a.entry), MappedRows(pair.b.file, pair.b.entry)
    experts, height, width = shape
    expert, half = pair.meaning.expert or 0, GATE_AND_UP_PARTS.index(pair.meaning.part)
    if expert >= experts:
        raise ModelError(f"{adapter.path}: tensor `{pair.a.entry.name[:120]}` is of an expert that the model lacks")
    _check_fits(pair, adapter, (b.count, a.columns), (height // 2, width))
    return Change(a, b, pair.scale, expert * height + half * (height // 2))


def _check_fits(pair: LowRankPair, adapter: Adapter, changes: Shape, matrix: Shape) -> None:
    if changes != matrix:
        raise ModelError(
            f"{adapter.path}: `{pair.module[:120]}` changes {changes[0]} x {changes[1]} weights, "
            f"but the model has {' x '.join(map(str, matrix))}",
            hint="the adapter belongs to another model",
        )


def _target(adapter: Adapter, meaning: Meaning, part: Part, shapes: Mapping[str, Shape]) -> Shape:
    """The shape of the tensor that a part changes."""
    shape = shapes.get(meaning.gguf_name) if meaning.form != "ignored" else None
    if shape is None:
        hint, more = "the adapter belongs to another model", ""
        if meaning.part == "output":
            more = "; the model has no output layer of its own"
            hint = MERGE_HINT
        raise ModelError(f"{adapter.path}: tensor `{part.entry.name[:120]}` has no place in the model{more}", hint=hint)
    is_expert = meaning.expert is not None
    if is_expert != (len(shape) == 3) or (meaning.expert is not None and meaning.expert >= shape[0]):
        raise ModelError(f"{adapter.path}: tensor `{part.entry.name[:120]}` is of an expert that the model lacks")
    return shape


def _change(pair: LowRankPair, adapter: Adapter, shape: Shape, layout: RowLayout) -> Change:
    """A pair as a change of the GGUF's tensor, which has this row-major shape."""
    a: Rows = MappedRows(pair.a.file, pair.a.entry)
    b: Rows = MappedRows(pair.b.file, pair.b.entry)
    if pair.is_embedding:  # the transposed product: (B A)^T = A^T B^T
        a, b = TransposedMatrix(b), TransposedMatrix(a)
    matrix = shape[-2:]
    _check_fits(pair, adapter, (b.count, a.columns), matrix)
    if pair.meaning.form == "rotary" and layout.is_half_split:
        b = GatheredRows(b, rotary_order(b.count, layout.head_dim))
    return Change(a, b, pair.scale, (pair.meaning.expert or 0) * matrix[0])


def _whole_rows(whole: FullTensor, adapter: Adapter, shapes: Mapping[str, Shape], layout: RowLayout) -> Rows:
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
    if whole.meaning.form == "rotary" and layout.is_half_split:
        rows = GatheredRows(rows, rotary_order(prod(shape[:-1]), layout.head_dim))
    return rows
