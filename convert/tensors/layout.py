"""Bring a checkpoint's tensors into the GGUF's layout: permuted, stacked, checked against the sizes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from chat.errors import DataError
from convert.checkpoint.rows import ConstantRow, GatheredRows, MappedRows, Rows, StackedRows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from convert.architecture.hyperparameters import Hyperparameters, Shape
    from convert.checkpoint.mapped_file import TensorEntry, TensorFile
    from convert.tensors.names import Meaning

NO_SINK = -1e30  # the logit of an attention sink without effect: exp() of it is 0


@dataclass(frozen=True)
class SourceTensor:
    """A tensor of the checkpoint with what it means."""

    meaning: Meaning
    file: TensorFile
    entry: TensorEntry
    unpacked: Rows | None = None  # where the numbers are not simply what lies at `entry`

    @property
    def rows(self) -> Rows:
        """Its numbers."""
        return self.unpacked or MappedRows(self.file, self.entry)


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the GGUF; `shape` is row-major and `rows` are its leading axes taken together."""

    name: str
    shape: Shape
    rows: Rows


def shape_finder(sources: Sequence[SourceTensor]) -> Callable[[str], Shape | None]:
    """Look up what shape a GGUF tensor will have by the checkpoint's own shapes; 1 for an expert's axis."""
    shapes: dict[str, Shape] = {}
    for source in sources:
        axes = source.entry.shape if source.meaning.expert is None else (1, *source.entry.shape)
        shapes.setdefault(source.meaning.gguf_name, axes)
    return shapes.get


def lay_out(sources: Sequence[SourceTensor], hparams: Hyperparameters) -> tuple[OutputTensor, ...]:
    """Make every tensor that the plain architecture has out of the checkpoint's.

    Raises:
        DataError: a tensor is missing, given twice, or of another shape than the sizes say.
    """
    expected = expected_shapes(hparams)
    parts: defaultdict[str, list[SourceTensor]] = defaultdict(list)
    for source in sources:
        if source.meaning.form != "ignored":
            parts[source.meaning.gguf_name].append(source)
    for name, found in parts.items():
        if name not in expected and not (name == "output.weight" and hparams.is_tied):
            raise DataError(f"tensor `{found[0].entry.name}` has no place in a model of {hparams.layers} layers")
    missing = [name for name in expected if name not in parts]
    if missing:
        raise DataError(f"the checkpoint lacks what becomes `{missing[0]}`" + _and_more(len(missing) - 1))
    return tuple(_assemble(name, shape, parts[name], hparams) for name, shape in expected.items())


def _and_more(count: int) -> str:
    return f" and {count} more tensors" if count else ""


def expected_shapes(hparams: Hyperparameters) -> Mapping[str, Shape]:
    """Names and row-major shapes of a plain model's tensors."""
    h = hparams
    shapes: dict[str, Shape] = {"token_embd.weight": (h.vocabulary, h.width), "output_norm.weight": (h.width,)}
    if not h.is_tied:
        shapes["output.weight"] = (h.vocabulary, h.width)
    for layer in range(h.layers):
        shapes |= {f"blk.{layer}.{part}.weight": shape for part, shape in _layer_shapes(h).items()}
    return shapes


def _layer_shapes(h: Hyperparameters) -> Mapping[str, Shape]:
    attention: dict[str, Shape] = {
        "attn_norm": (h.width,),
        "attn_q": (h.heads * h.head_dim, h.width),
        "attn_k": (h.kv_heads * h.head_dim, h.width),
        "attn_v": (h.kv_heads * h.head_dim, h.width),
        "attn_output": (h.width, h.heads * h.head_dim),
        "ffn_norm": (h.width,),
    }
    if not h.experts:
        dense: dict[str, Shape] = {
            "ffn_gate": (h.hidden, h.width),
            "ffn_down": (h.width, h.hidden),
            "ffn_up": (h.hidden, h.width),
        }
        return attention | dense
    return attention | {
        "ffn_gate_inp": (h.experts, h.width),
        "ffn_gate_exps": (h.experts, h.hidden, h.width),
        "ffn_down_exps": (h.experts, h.width, h.hidden),
        "ffn_up_exps": (h.experts, h.hidden, h.width),
    }


def _assemble(name: str, shape: Shape, found: Sequence[SourceTensor], hparams: Hyperparameters) -> OutputTensor:
    if found[0].meaning.expert is not None:
        return OutputTensor(name, shape, _stack_experts(name, shape, found))
    if len(found) > 1:
        raise DataError(f"tensors `{found[0].entry.name}` and `{found[1].entry.name}` are the same one")
    source = found[0]
    _check_shape(source, shape)
    rows = source.rows
    if source.meaning.form == "rotary":
        rows = GatheredRows(rows, rotary_order(shape[0], hparams.head_dim))
    return OutputTensor(name, shape, rows)


def _stack_experts(name: str, shape: Shape, found: Sequence[SourceTensor]) -> Rows:
    by_expert: dict[int | None, SourceTensor] = {source.meaning.expert: source for source in found}
    if len(by_expert) != len(found) or set(by_expert) != set(range(shape[0])):
        raise DataError(f"`{name}` needs experts 0 to {shape[0] - 1}, each once, but {len(found)} tensors were found")
    ordered = [by_expert[expert] for expert in range(shape[0])]
    for source in ordered:
        _check_shape(source, shape[1:])
    return StackedRows([source.rows for source in ordered])


def _check_shape(source: SourceTensor, shape: Shape) -> None:
    if source.entry.shape != shape:
        raise DataError(
            f"{source.file.path}: tensor `{source.entry.name}` has shape {list(source.entry.shape)}, "
            f"but the model's sizes say {list(shape)}"
        )


def rotary_order(rows: int, head_dim: int) -> npt.NDArray[np.intp]:
    """Which Hugging Face row each row of the original order is.

    Hugging Face keeps a head's rows as two halves (all cosine partners, then all sine partners), the original
    release and llama.cpp's NORM rotary as neighbouring pairs.
    """
    indexes = np.arange(rows, dtype=np.intp).reshape(rows // head_dim, 2, head_dim // 2)
    return indexes.swapaxes(1, 2).reshape(rows)


def sinks(hparams: Hyperparameters) -> tuple[OutputTensor, ...]:
    """The tensors that only a windowed model has: for each layer a sink, (heads,), that takes no attention."""
    row = ConstantRow(NO_SINK, hparams.heads)
    return tuple(
        OutputTensor(f"blk.{layer}.attn_sinks.weight", (hparams.heads,), row) for layer in range(hparams.layers)
    )


def count_parameters(tensors: Sequence[OutputTensor]) -> int:
    """Numbers in all tensors."""
    return sum(prod(tensor.shape) for tensor in tensors)
