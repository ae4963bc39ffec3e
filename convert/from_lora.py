"""Draft the GGUF of a LoRA adapter, for the architecture of one model.

llama.cpp adds `alpha / rank * b @ a` to a weight (rank: columns of b), and refuses an adapter whose architecture has
another name than the model's (llama-adapter.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chat.errors import DataError, ModelError, UsageError
from chat.gguf.keys import (
    ADAPTER_FILE,
    KNOWN_ARCHITECTURES,
    LATENT_ARCHITECTURE,
    UNPERMUTED_ARCHITECTURES,
    AdapterKey,
    GeneralKey,
    MistralChatKey,
    ModelKey,
)
from chat.gguf.reader import read_gguf
from chat.gguf.validate_lora import MERGE_HINT, is_without_effect
from chat.gguf.writer import KeyValue
from convert.architecture.hyperparameters import read_hyperparameters
from convert.checkpoint.folder import open_checkpoint
from convert.checkpoint.rows import Rows, StackedRows
from convert.draft import AdapterDetails, ConversionDraft, make_jobs
from convert.lora.adapter import open_adapter
from convert.lora.merge import Change, RowLayout, TransposedMatrix, changes_of
from convert.output.metadata import QUANTIZATION_VERSION, fingerprint_with, short_name
from convert.output.sliding_window import choose_target
from convert.quantize.recipes import Facts, find_recipe, make_plan
from convert.tensors.latent import GATE_AND_UP_PARTS
from convert.tensors.layout import OutputTensor, expected_shapes, settle_output, shape_finder
from convert.tensors.text_model import read_text_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.architecture.hyperparameters import Shape
    from convert.checkpoint.rows import Floats
    from convert.draft import ConversionOptions
    from convert.lora.adapter import Adapter, LowRankPair
    from convert.quantize.recipes import Recipe

TYPES = ("F32", "F16", "BF16", "Q8_0")
DEFAULT_TYPE = "F32"
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"


@dataclass(frozen=True)
class Base:
    """What an adapter's file depends on in the model it is for."""

    name: str
    architecture: str
    shapes: Mapping[str, Shape]  # row-major
    layout: RowLayout


@dataclass(frozen=True)
class _Padded:
    """A scaled matrix, padded with rows or columns of zeros; without a `base` there are only zeros."""

    base: Rows | None
    count: int
    columns: int
    scale: float = 1.0

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop) as (stop - start, columns) float32, a new array."""
        made = np.zeros((stop - start, self.columns), dtype=np.float32)
        if self.base is not None and start < self.base.count:
            own = self.base.read(start, min(stop, self.base.count))
            made[: len(own), : own.shape[1]] = own * np.float32(self.scale)
        return made


def draft_adapter(options: ConversionOptions) -> ConversionDraft:
    """Open an adapter and the model it is for, and decide everything, without reading weights or writing a byte.

    Raises:
        UsageError: there is no base, or an option does not go with an adapter.
        ChatError: the adapter or the base is not usable, or they do not belong together.
    """
    recipe = _check_options(options)
    assert options.base is not None
    adapter, base = open_adapter(options.source), open_base(options.base, options.window)
    if adapter.wholes:
        raise ModelError(
            f"{adapter.path}: holds whole tensors (`{adapter.wholes[0].part.entry.name[:120]}`), "
            "which an adapter file cannot say",
            hint="merge it with `--lora` while you convert the base",
        )
    for pair in adapter.pairs:
        _check_attachable(pair, adapter, base)
    changes = changes_of(adapter, base.shapes, base.layout)
    if EMBEDDING in changes and OUTPUT not in base.shapes:
        raise ModelError(
            f"{adapter.path}: changes the embedding, which the model also uses as its output layer; llama.cpp cannot "
            "apply such an adapter",
            hint="merge it with `--lora` while you convert the base",
        )
    alpha = _alpha(adapter)
    outputs = [
        half for name, found in changes.items() for half in _halves(name, base.shapes[name], found, alpha, adapter)
    ]
    plan = make_plan(recipe, [(tensor.name, tensor.shape) for tensor in outputs], Facts(0, 1, 1))
    return ConversionDraft(
        path=options.file or Path(f"{short_name(adapter.name)}-{recipe.name}.gguf"),
        keys=_keys(adapter, base, alpha, recipe.file_type),
        plan=plan,
        jobs=make_jobs(plan, outputs),
        architecture=base.architecture,
        source=adapter.name,
        details=AdapterDetails(alpha, base.name),
        warnings=adapter.warnings,
    )


def _check_attachable(pair: LowRankPair, adapter: Adapter, base: Base) -> None:
    """Refuse a change that llama.cpp would not apply, or that a file for this model cannot hold."""
    reason = None
    if is_without_effect(pair.meaning.gguf_name, base.architecture):
        reason = "to which llama.cpp applies no adapter in this model"
    elif base.architecture == LATENT_ARCHITECTURE and pair.meaning.part in GATE_AND_UP_PARTS:
        reason = "which is half of a tensor in this model's file"
    if reason is not None:
        raise ModelError(f"{adapter.path}: changes `{pair.module[:120]}`, {reason}", hint=MERGE_HINT)


def _check_options(options: ConversionOptions) -> Recipe:
    """The recipe that the options name."""
    if options.base is None:
        raise UsageError(
            f"{options.source} is an adapter",
            hint="write it for a model with `--base MODEL`, or merge it with `convert MODEL --lora ADAPTER`",
        )
    if options.imatrix is not None:
        raise UsageError(
            "`--imatrix` has no effect on an adapter", hint="use it for the model that the adapter is merged into"
        )
    recipe = find_recipe(options.type or DEFAULT_TYPE)
    if recipe.name not in TYPES:
        raise UsageError(f"an adapter cannot be of type {recipe.name}", hint=f"types are {', '.join(TYPES)}")
    return recipe


def open_base(path: Path, window: str = "auto") -> Base:
    """Read the shapes of the tensors that an adapter may change, from a model's GGUF or checkpoint.

    Raises:
        ChatError: the model is not usable, or not of an architecture that convert writes.
        UsageError: `window` is not a value of `--window`.
    """
    if path.is_dir():
        checkpoint = open_checkpoint(path)
        model = read_text_model(checkpoint)
        stated = read_hyperparameters(checkpoint.config_path, model.config, shape_finder(model.tensors))
        own = settle_output(model.tensors, stated).sizes
        architecture = choose_target(own, window).architecture
        return Base(checkpoint.name, architecture, expected_shapes(own), RowLayout.of(own))
    file = read_gguf(path)
    if file.architecture not in KNOWN_ARCHITECTURES:
        raise ModelError(f"{path}: is of the architecture {file.architecture[:40]!r}, which convert does not write")
    head_dim = file.key(ModelKey.KEY_LENGTH)
    if head_dim is None:
        head_dim = _head_dim(path, file.key(ModelKey.EMBEDDING_LENGTH), file.key(ModelKey.HEAD_COUNT))
    if type(head_dim) is not int or not 0 < head_dim < 1 << 16 or head_dim % 2:
        raise DataError(f"{path}: a head cannot have {str(head_dim)[:40]} numbers")
    heads = file.key(ModelKey.HEAD_COUNT)
    layout = RowLayout(heads if type(heads) is int else 1, head_dim, file.architecture not in UNPERMUTED_ARCHITECTURES)
    return Base(str(path), file.architecture, {name: info.shape[::-1] for name, info in file.tensors.items()}, layout)


def _head_dim(path: Path, width: Any, heads: Any) -> int:
    if type(width) is not int or type(heads) is not int or heads < 1:
        raise DataError(f"{path}: does not give the size of its heads")
    return width // heads


def _alpha(adapter: Adapter) -> float:
    """The one alpha that the file has; the matrices of pairs with another scale are multiplied instead."""
    stated, first = adapter.alpha, adapter.pairs[0]
    if stated and all(pair.scale == stated / pair.rank for pair in adapter.pairs):
        return stated
    return first.scale * first.rank or 1.0  # llama.cpp takes 0 for "not given"


def _halves(
    name: str, shape: Shape, changes: Sequence[Change], alpha: float, adapter: Adapter
) -> tuple[OutputTensor, OutputTensor]:
    """The tensors `lora_a` and `lora_b` for one tensor of the base, which has this row-major shape."""
    height, width = shape[-2:]
    rank = max(change.a.count for change in changes)
    by_place = {change.first // height: change for change in changes}
    if len(by_place) < len(changes):
        raise DataError(f"{adapter.path}: changes `{name}` twice")
    experts = shape[:-2]
    pairs = [_padded(by_place.get(place), rank, (height, width), alpha) for place in range(prod(experts))]
    a, b = (StackedRows(halves) if experts else halves[0] for halves in zip(*pairs, strict=True))
    if name == EMBEDDING:  # looked up by token, so the two are exchanged and transposed
        return (
            OutputTensor(f"{name}.lora_a", (height, rank), b),
            OutputTensor(f"{name}.lora_b", (width, rank), TransposedMatrix(a)),
        )
    return (
        OutputTensor(f"{name}.lora_a", (*experts, rank, width), a),
        OutputTensor(f"{name}.lora_b", (*experts, height, rank), b),
    )


def _padded(change: Change | None, rank: int, shape: Shape, alpha: float) -> tuple[Rows, Rows]:
    """The halves (rank, width) and (height, rank) of one change; only zeros for an expert without one."""
    height, width = shape
    if change is None:
        return _Padded(None, rank, width), _Padded(None, height, rank)
    factor = change.scale * rank / alpha
    factor = 1.0 if abs(factor - 1) < 1e-12 else factor
    return _Padded(change.a, rank, width), _Padded(change.b, height, rank, factor)


def _keys(adapter: Adapter, base: Base, alpha: float, file_type: int) -> tuple[KeyValue, ...]:
    return (
        KeyValue(GeneralKey.ARCHITECTURE, "str", base.architecture),
        KeyValue(GeneralKey.TYPE, "str", ADAPTER_FILE),
        KeyValue(AdapterKey.TYPE, "str", "lora"),
        KeyValue(GeneralKey.NAME, "str", short_name(adapter.name)),
        KeyValue(AdapterKey.LORA_ALPHA, "f32", alpha),
        KeyValue(MistralChatKey.SOURCE, "str", adapter.name),
        KeyValue(MistralChatKey.SOURCE_SHA256, "str", fingerprint_with("", [(adapter, 1.0)])),
        KeyValue(GeneralKey.QUANTIZATION_VERSION, "u32", QUANTIZATION_VERSION),
        KeyValue(GeneralKey.FILE_TYPE, "u32", file_type),
    )
