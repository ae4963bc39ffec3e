"""Matrices of float32 rows that are read in pieces: mapped, gathered, stacked or constant."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from chat.errors import DataError
from convert.native.widen import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from convert.checkpoint.mapped_file import TensorEntry, TensorFile

    Floats = npt.NDArray[np.float32]


class Rows(Protocol):
    """A matrix that exists only while it is read. Reading from several threads is safe."""

    @property
    def count(self) -> int:
        """How many rows there are."""

    @property
    def columns(self) -> int:
        """Numbers in each row."""

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32, a new array."""


@runtime_checkable
class StoredRows(Protocol):
    """Rows that can also be read in the form in which they are stored."""

    def read_stored(self, start: int, stop: int) -> Numbers:
        """Rows [start, stop) as (stop - start, columns), a new array."""


def read_stored(rows: Rows, start: int, stop: int) -> Numbers:
    """Rows [start, stop) as (stop - start, columns), a new array: as they are stored, or as float32."""
    if isinstance(rows, StoredRows):
        return rows.read_stored(start, stop)
    return Numbers("F32", rows.read(start, stop))


_DTYPES: Mapping[str, str] = MappingProxyType({"BF16": "<u2", "F16": "<f2", "F32": "<f4"})  # of a form of Numbers


def _stored(form: str) -> Callable[[memoryview], Floats]:
    return lambda raw: Numbers(form, np.frombuffer(raw, dtype=_DTYPES[form])).widened()


def _plain(dtype: str) -> Callable[[memoryview], Floats]:
    return lambda raw: np.frombuffer(raw, dtype=dtype).astype(np.float32)


DECODERS: Mapping[str, Callable[[memoryview], Floats]] = MappingProxyType(
    {"BF16": _stored("BF16"), "F16": _stored("F16"), "F32": _plain("<f4"), "F64": _plain("<f8")}
)

READ_AHEAD = 8  # times what is read now: the threads read one run of rows after another


@dataclass(frozen=True)
class MappedRows:
    """A tensor of a file, its leading axes taken together; a vector is one row. Pages that were read are given back."""

    file: TensorFile
    entry: TensorEntry

    def __post_init__(self) -> None:
        if self.entry.dtype not in DECODERS:
            raise DataError(f"{self.file.path}: tensor `{self.entry.name}` holds {self.entry.dtype}, not floats")

    @property
    def count(self) -> int:
        """Product of all axes but the last."""
        return self.entry.elements // self.columns if self.columns else 0

    @property
    def columns(self) -> int:
        """The last axis; 1 for a scalar."""
        return self.entry.shape[-1] if self.entry.shape else 1

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32."""
        return self.read_stored(start, stop).widened()

    def read_stored(self, start: int, stop: int) -> Numbers:
        """Rows [start, stop) as (stop - start, columns); float64 as float32."""
        row_bytes = self.entry.nbytes // self.count
        offset, nbytes = self.entry.offset + start * row_bytes, (stop - start) * row_bytes
        self.file.file.ask_for(offset, READ_AHEAD * nbytes)
        raw, dtype, shape = self.file.file.view(offset, nbytes), self.entry.dtype, (stop - start, self.columns)
        if dtype in _DTYPES:
            numbers = Numbers(dtype, np.frombuffer(raw, dtype=_DTYPES[dtype]).copy().reshape(shape))
        else:
            numbers = Numbers("F32", DECODERS[dtype](raw).reshape(shape))
        self.file.file.release(offset, nbytes)
        return numbers


LAST_RUNS = 4  # of a transposed matrix, each of which gives its pages back


@dataclass(frozen=True)
class TransposedRows:
    """The columns of the rows [first, first + columns) of a file's tensor, as rows.

    Each run of rows is gathered from all over the matrix, so its pages stay mapped until the last runs have been read
    (the last few, as threads may finish in another order); a single row is a sample, with no run after it.
    """

    file: TensorFile
    entry: TensorEntry
    first: int
    columns: int

    @property
    def count(self) -> int:
        """Columns of the tensor."""
        return self.entry.shape[-1]

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32."""
        row_bytes = self.entry.nbytes // (self.entry.elements // self.count)
        item_bytes = row_bytes // self.count
        offset, nbytes = self.entry.offset + self.first * row_bytes, self.columns * row_bytes
        stored = np.frombuffer(self.file.file.view(offset, nbytes), dtype=f"u{item_bytes}")
        turned = np.ascontiguousarray(stored.reshape(self.columns, self.count)[:, start:stop].T)
        if stop - start == 1 or stop + LAST_RUNS * (stop - start) > self.count:
            self.file.file.release(offset, nbytes)
        return DECODERS[self.entry.dtype](turned.data.cast("B")).reshape(stop - start, self.columns)


@dataclass(frozen=True)
class GatheredRows:
    """Another matrix with its rows in the order `order`, an index for each row."""

    base: Rows
    order: npt.NDArray[np.intp]

    @property
    def count(self) -> int:
        """As many as there are indexes."""
        return len(self.order)

    @property
    def columns(self) -> int:
        """Those of the base."""
        return self.base.columns

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32."""
        return self.read_stored(start, stop).widened()

    def read_stored(self, start: int, stop: int) -> Numbers:
        """Rows [start, stop) as (stop - start, columns), read as one run of the base."""
        wanted = self.order[start:stop]
        first = int(wanted.min())
        run = read_stored(self.base, first, int(wanted.max()) + 1)
        return Numbers(run.form, run.values[wanted - first])


@dataclass(frozen=True)
class GatheredColumns:
    """Another matrix with its columns in the order `order`, an index for each column."""

    base: Rows
    order: npt.NDArray[np.intp]

    @property
    def count(self) -> int:
        """Those of the base."""
        return self.base.count

    @property
    def columns(self) -> int:
        """As many as there are indexes."""
        return len(self.order)

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32."""
        return self.base.read(start, stop)[:, self.order]


@dataclass(frozen=True)
class GivenRow:
    """One row of known numbers, (columns,) float32."""

    numbers: Floats
    count: int = 1

    @property
    def columns(self) -> int:
        """As many as there are numbers."""
        return len(self.numbers)

    def read(self, start: int, stop: int) -> Floats:
        """The row, repeated: (stop - start, columns) float32."""
        return np.repeat(self.numbers[None, :], stop - start, axis=0)


@dataclass(frozen=True)
class SlicedRows:
    """Rows [first, first + count) of another matrix."""

    base: Rows
    first: int
    count: int

    @property
    def columns(self) -> int:
        """Those of the base."""
        return self.base.columns

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32."""
        return self.base.read(self.first + start, self.first + stop)

    def read_stored(self, start: int, stop: int) -> Numbers:
        """Rows [start, stop) as (stop - start, columns)."""
        return read_stored(self.base, self.first + start, self.first + stop)


@dataclass(frozen=True)
class TurnedRows:
    """A small matrix transposed; the whole of it is read each time."""

    base: Rows

    @property
    def count(self) -> int:
        """The columns of the base."""
        return self.base.columns

    @property
    def columns(self) -> int:
        """The rows of the base."""
        return self.base.count

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32."""
        return np.ascontiguousarray(self.base.read(0, self.base.count)[:, start:stop].T)


@dataclass(frozen=True)
class StackedRows:
    """Matrices of equal shape one below the other, as experts are."""

    parts: Sequence[Rows]

    @property
    def count(self) -> int:
        """Rows of all parts."""
        return len(self.parts) * self.parts[0].count

    @property
    def columns(self) -> int:
        """Those of every part."""
        return self.parts[0].columns

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32; they may cross from one part to the next."""
        return self.read_stored(start, stop).widened()

    def read_stored(self, start: int, stop: int) -> Numbers:
        """Rows [start, stop) as (stop - start, columns); they may cross from one part to the next."""
        height = self.parts[0].count
        pieces = []
        while start < stop:
            part, row = divmod(start, height)
            taken = min(stop - start, height - row)
            pieces.append(read_stored(self.parts[part], row, row + taken))
            start += taken
        if len(pieces) == 1:
            return pieces[0]
        return Numbers("F32", np.concatenate([piece.widened() for piece in pieces]))


@dataclass(frozen=True)
class ConstantRow:
    """One row of one number."""

    value: float
    columns: int
    count: int = 1

    def read(self, start: int, stop: int) -> Floats:
        """The row, repeated: (stop - start, columns) float32."""
        return np.full((stop - start, self.columns), self.value, dtype=np.float32)
