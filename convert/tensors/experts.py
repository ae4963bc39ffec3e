"""Split tensors that hold all experts of a layer into one tensor per expert."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chat.errors import DataError
from convert.checkpoint.rows import SlicedRows, TransposedRows
from convert.tensors.layout import SourceTensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from convert.checkpoint.rows import Rows
    from convert.tensors.names import Meaning

ROUTER = "ffn_gate_inp"
MATRICES = {"experts": 1, "transposed": 1, "gate_and_up": 2}  # of one expert, in a tensor of this form


def divide_experts(sources: Sequence[SourceTensor]) -> tuple[SourceTensor, ...]:
    """Replace every tensor of several experts by one for each; the others stay.

    Raises:
        DataError: a layer has no router to tell how many experts it has, or the tensor does not divide by them.
    """
    experts = {source.meaning.layer: source.entry.shape[0] for source in sources if source.meaning.part == ROUTER}
    return tuple(piece for source in sources for piece in _divide(source, experts))


def _divide(source: SourceTensor, experts: Mapping[int | None, int]) -> Iterator[SourceTensor]:
    if source.meaning.form not in MATRICES:
        yield source
        return
    rows, columns = source.rows.count, source.rows.columns
    matrices = MATRICES[source.meaning.form]
    count = experts.get(source.meaning.layer, 0)
    if not count or rows % (count * matrices) or (len(source.entry.shape) > 2 and source.entry.shape[0] != count):
        raise DataError(
            f"{source.file.path}: tensor `{source.entry.name}` of shape {list(source.entry.shape)} cannot be divided "
            f"among the {count} experts that its layer's router has"
        )
    height = rows // (count * matrices)
    for number in range(count * matrices):
        expert, place = divmod(number, matrices)
        meaning = replace(source.meaning, part=_part(source.meaning, place), form="plain", expert=expert)
        shape = (columns, height) if source.meaning.form == "transposed" else (height, columns)
        entry = replace(source.entry, name=f"{source.entry.name}[{expert}]", shape=shape)
        yield SourceTensor(meaning, source.file, entry, _rows(source, number * height, height))


def _part(meaning: Meaning, place: int) -> str:
    return "ffn_up_exps" if place else meaning.part


def _rows(source: SourceTensor, first: int, height: int) -> Rows:
    if source.meaning.form != "transposed":
        return SlicedRows(source.rows, first, height)
    if source.unpacked is not None:
        raise DataError(f"{source.file.path}: tensor `{source.entry.name}` is quantized and transposed")
    return TransposedRows(source.file, source.entry, first, height)
