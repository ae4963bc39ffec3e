"""Bring a checkpoint's tensors into the GGUF's layout: permuted, stacked, checked against the sizes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from chat.errors import DataError
from chat.gguf.keys import LATENT_ARCHITECTURE
from convert.checkpoint.rows import ConstantRow, GatheredColumns, GatheredRows, GivenRow, MappedRows, Rows, StackedRows
from convert.tensors.latent import GATE_AND_UP, GATE_AND_UP_PARTS, KEY_PART, VALUE_PART, split_keys_and_values
from convert.tensors.names import BIAS, KEYS_AND_VALUES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from convert.architecture.hyperparameters import Hyperparameters, Shape
    from convert.checkpoint.mapped_file import TensorEntry, TensorFile
    from convert.tensors.names import Meaning

COMPARED_NUMBERS = 1 << 20  # at a time
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


@dataclass(frozen=True)
class SettledModel:
    """A model's tensors and sizes, with the output layer that it uses."""

    tensors: tuple[SourceTensor, ...]
    sizes: Hyperparameters
    warnings: tuple[str, ...] = ()


def settle_output(sources: Sequence[SourceTensor], hparams: Hyperparameters) -> SettledModel:
    """Decide whether the embedding is the output layer too, as transformers does when it loads a model.

    A model that calls itself tied is not where the checkpoint holds an output layer with other numbers. Where it holds
    only one of the two, that one is both.
    """
    embedding, output = (_first(sources, part) for part in ("token_embd", "output"))
    if not hparams.is_tied or output is None:
        return SettledModel(tuple(sources), hparams)
    if embedding is None:
        return SettledModel(_renamed(sources, output, "token_embd"), hparams)
    if _are_equal(embedding.rows, output.rows):
        return SettledModel(tuple(sources), hparams)
    warning = (
        f"{output.file.path}: the configuration ties the output layer to the embedding, but "
        f"`{output.entry.name}` holds other numbers: it is kept as the output layer"
    )
    return SettledModel(tuple(sources), replace(hparams, is_tied=False), (warning,))


def _first(sources: Sequence[SourceTensor], part: str) -> SourceTensor | None:
    return next((source for source in sources if source.meaning.part == part), None)


def _renamed(sources: Sequence[SourceTensor], which: SourceTensor, part: str) -> tuple[SourceTensor, ...]:
    new = replace(which, meaning=replace(which.meaning, part=part))
    return tuple(new if source is which else source for source in sources)


def _are_equal(one: Rows, other: Rows) -> bool:
    """Whether two matrices hold the same numbers; different ones are told apart by their first rows as a rule."""
    if (one.count, one.columns) != (other.count, other.columns):
        return False
    step = max(1, COMPARED_NUMBERS // max(1, one.columns))
    pieces = ((at, min(at + step, one.count)) for at in range(0, one.count, step))
    return all(np.array_equal(one.read(*piece), other.read(*piece)) for piece in pieces)


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
    made = _split_latent(parts, hparams) | _join_experts(parts, hparams)
    for name, found in parts.items():
        if name.endswith(BIAS) and name not in expected:
            _check_without_effect(found[0])
        elif name not in expected and not (name == "output.weight" and hparams.is_tied):
            raise DataError(f"tensor `{found[0].entry.name}` has no place in a model of {hparams.layers} layers")
    missing = [name for name in expected if name not in parts and name not in made]
    if missing == ["output.weight"]:
        raise DataError(
            "the checkpoint has no output layer (`lm_head.weight`), and its configuration does not say that the "
            "embedding is used instead",
            hint="if the model is tied, set `tie_word_embeddings` in config.json, or `tied_embeddings` in "
            "params.json, to true; else a file of the checkpoint is missing",
        )
    if missing:
        raise DataError(f"the checkpoint lacks what becomes `{missing[0]}`" + _and_more(len(missing) - 1))
    return tuple(
        OutputTensor(name, shape, made[name]) if name in made else _assemble(name, shape, parts[name], hparams)
        for name, shape in expected.items()
    )


def untie(
    outputs: Sequence[OutputTensor], hparams: Hyperparameters
) -> tuple[tuple[OutputTensor, ...], Hyperparameters]:
    """Give a tied model an output layer of its own, with the numbers of its embedding; others stay as they are."""
    embedding = next((tensor for tensor in outputs if tensor.name == "token_embd.weight"), None)
    if not hparams.is_tied or embedding is None:
        return tuple(outputs), hparams
    return (*outputs, replace(embedding, name="output.weight")), replace(hparams, is_tied=False)


def _check_without_effect(source: SourceTensor) -> None:
    """Refuse a bias that the model does not have; some GPTQ programs write one of zeros for every layer."""
    if source.rows.read(0, 1).any():
        raise DataError(
            f"{source.file.path}: tensor `{source.entry.name[:120]}` is a bias, which the model's configuration "
            "does not have"
        )


def _split_latent(parts: dict[str, list[SourceTensor]], hparams: Hyperparameters) -> dict[str, Rows]:
    """Take the tensors that make keys and values of latent vectors out of `parts`, and give their halves by name."""
    latent, heads = hparams.latent, hparams.heads
    made: dict[str, Rows] = {}
    for name in [name for name in parts if f".{KEYS_AND_VALUES}." in name] if latent else ():
        assert latent is not None
        source = only(parts.pop(name))
        check_shape(source, (heads * (latent.plain + latent.value), latent.rank))
        for part, rows in split_keys_and_values(source.rows, heads, latent).items():
            made[name.replace(KEYS_AND_VALUES, part)] = rows
    return made


def _join_experts(parts: dict[str, list[SourceTensor]], hparams: Hyperparameters) -> dict[str, Rows]:
    """Take the experts' gates and ups out of `parts`, where the graph has them as one tensor, and give it by name."""
    made: dict[str, Rows] = {}
    mixture = hparams.mixture
    for name in [name for name in expected_shapes(hparams) if f".{GATE_AND_UP}." in name]:
        assert mixture is not None
        halves = []
        for part in GATE_AND_UP_PARTS:
            own = name.replace(GATE_AND_UP, part)
            if own not in parts:
                raise DataError(f"the checkpoint lacks what becomes `{name}`")
            halves.append(_experts_in_order(own, (hparams.experts, mixture.hidden, hparams.width), parts.pop(own)))
        made[name] = StackedRows([source.rows for pair in zip(*halves, strict=True) for source in pair])
    return made


def only(found: Sequence[SourceTensor]) -> SourceTensor:
    """The one tensor that becomes a tensor of the GGUF.

    Raises:
        DataError: there are several.
    """
    if len(found) > 1:
        raise DataError(f"tensors `{found[0].entry.name}` and `{found[1].entry.name}` are the same one")
    return found[0]


def _and_more(count: int) -> str:
    return f" and {count} more tensors" if count else ""


def expected_shapes(hparams: Hyperparameters) -> Mapping[str, Shape]:
    """Names and row-major shapes of a plain model's tensors."""
    h = hparams
    shapes: dict[str, Shape] = {"token_embd.weight": (h.vocabulary, h.width), "output_norm.weight": (h.width,)}
    if not h.is_tied:
        shapes["output.weight"] = (h.vocabulary, h.width)
    for layer in range(h.layers):
        parts = _attention_shapes(h) | _feed_forward_shapes(h, layer)
        shapes |= {f"blk.{layer}.{part}.weight": shape for part, shape in parts.items()}
        shapes |= {f"blk.{layer}.{part}{BIAS}": parts[part][:1] for part in h.biases}
    return shapes


def _attention_shapes(h: Hyperparameters) -> dict[str, Shape]:
    norms: dict[str, Shape] = {"attn_norm": (h.width,), "ffn_norm": (h.width,)}
    queries = h.heads * h.head_dim
    latent = h.latent
    if latent is None:
        if h.has_head_norms:
            norms |= {"attn_q_norm": (h.head_dim,), "attn_k_norm": (h.head_dim,)}
        return norms | {
            "attn_q": (queries, h.width),
            "attn_k": (h.kv_heads * h.head_dim, h.width),
            "attn_v": (h.kv_heads * h.head_dim, h.width),
            "attn_output": (h.width, queries),
        }
    own: dict[str, Shape] = {"attn_q": (queries, h.width)}
    if latent.query_rank is not None:
        own = {
            "attn_q_a": (latent.query_rank, h.width),
            "attn_q_a_norm": (latent.query_rank,),
            "attn_q_b": (queries, latent.query_rank),
        }
    return (
        norms
        | own
        | {
            "attn_kv_a_mqa": (latent.rank + latent.turned, h.width),
            "attn_kv_a_norm": (latent.rank,),
            KEY_PART: (h.heads, latent.rank, latent.plain),
            VALUE_PART: (h.heads, latent.value, latent.rank),
            "attn_output": (h.width, h.heads * latent.value),
        }
    )


def _feed_forward_shapes(h: Hyperparameters, layer: int) -> dict[str, Shape]:
    mixture = h.mixture
    if not h.experts or (mixture is not None and layer < mixture.dense_layers):
        return _matrices("", h.hidden, h.width)
    hidden = mixture.hidden if mixture else h.hidden
    routed = {part: (h.experts, *shape) for part, shape in _matrices("_exps", hidden, h.width).items()}
    if h.architecture == LATENT_ARCHITECTURE:
        routed = {GATE_AND_UP: (h.experts, 2 * hidden, h.width), "ffn_down_exps": routed["ffn_down_exps"]}
    shared = _matrices("_shexp", mixture.shared * mixture.hidden, h.width) if mixture else {}
    return {"ffn_gate_inp": (h.experts, h.width)} | routed | shared


def _matrices(suffix: str, hidden: int, width: int) -> dict[str, Shape]:
    return {
        f"ffn_gate{suffix}": (hidden, width),
        f"ffn_down{suffix}": (width, hidden),
        f"ffn_up{suffix}": (hidden, width),
    }


def _assemble(name: str, shape: Shape, found: Sequence[SourceTensor], hparams: Hyperparameters) -> OutputTensor:
    if found[0].meaning.expert is not None:
        return OutputTensor(name, shape, StackedRows([each.rows for each in _experts_in_order(name, shape, found)]))
    source = only(found)
    check_shape(source, shape)
    rows = source.rows
    if source.meaning.form == "rotary" and hparams.has_half_split_rows:
        order = rotary_order(shape[0], hparams.head_dim)
        rows = GatheredRows(rows, order) if shape[1:] else GatheredColumns(rows, order)
    return OutputTensor(name, shape, rows)


def _experts_in_order(name: str, shape: Shape, found: Sequence[SourceTensor]) -> Sequence[SourceTensor]:
    by_expert: dict[int | None, SourceTensor] = {source.meaning.expert: source for source in found}
    if len(by_expert) != len(found) or set(by_expert) != set(range(shape[0])):
        raise DataError(f"`{name}` needs experts 0 to {shape[0] - 1}, each once, but {len(found)} tensors were found")
    ordered = [by_expert[expert] for expert in range(shape[0])]
    for source in ordered:
        check_shape(source, shape[1:])
    return ordered


def check_shape(source: SourceTensor, shape: Shape) -> None:
    """See that a tensor has the shape that the model's sizes say.

    Raises:
        DataError: it has another one.
    """
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


def rope_factors(hparams: Hyperparameters) -> tuple[OutputTensor, ...]:
    """The tensor by which llama.cpp slows the pairs of a head's columns as Llama 3 does; none for other models."""
    scaling = hparams.scaling
    if scaling is None or scaling.slowing is None:
        return ()
    factors = scaling.slowing.factors(scaling.factor, hparams.rope_theta, hparams.head_dim)
    return (OutputTensor("rope_freqs.weight", factors.shape, GivenRow(factors)),)


def count_parameters(tensors: Sequence[OutputTensor]) -> int:
    """Numbers in all tensors."""
    return sum(prod(tensor.shape) for tensor in tensors)
