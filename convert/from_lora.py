"""Write an adapter as a GGUF of its own, for one base's architecture. Knows pairs of matrices, merges nothing.

llama.cpp adds `alpha / rank * b @ a` (rank: columns of b), and refuses an adapter of another architecture's name.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chat.errors import DataError, ModelError, UsageError
from chat.gguf.keys import ADAPTER_FILE, MISTRAL_ARCHITECTURES, AdapterKey, GeneralKey, MistralChatKey, ModelKey
from chat.gguf.reader import read_gguf
from chat.gguf.writer import KeyValue, encode_header
from convert.architecture.hyperparameters import read_hyperparameters
from convert.checkpoint.folder import open_checkpoint
from convert.checkpoint.rows import Rows, StackedRows
from convert.lora.adapter import open_adapter
from convert.lora.merge import Change, TurnedRows, changes_of
from convert.output import metadata
from convert.output.fingerprint import fingerprint_with
from convert.pipeline import choose_window, make_jobs, write_model
from convert.quantize.recipes import Facts, Plan, find_recipe, make_plan
from convert.tensors.layout import OutputTensor, expected_shapes, shape_finder
from convert.tensors.text_model import read_text_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.architecture.hyperparameters import Shape
    from convert.checkpoint.rows import Floats
    from convert.lora.adapter import Adapter
    from convert.pipeline import ConversionOptions

TYPES = ("F32", "F16", "BF16", "Q8_0")
EMBEDDING = "token_embd.weight"


@dataclass(frozen=True)
class Base:
    """What an adapter must know of the model it is for."""

    name: str
    architecture: str
    shapes: Mapping[str, Shape]  # row-major
    head_dim: int


@dataclass(frozen=True)
class AdapterDraft:
    """Everything that is known before the first weight is read."""

    adapter: Adapter
    base: Base
    outputs: tuple[OutputTensor, ...]
    plan: Plan
    alpha: float
    header: bytes
    path: Path

    @property
    def size(self) -> int:
        """Bytes of the file to be."""
        return len(self.header) + self.plan.data_bytes


@dataclass(frozen=True)
class AdapterReport:
    """What was made, or would be, for `--json` and the summary."""

    output: str
    size: int  # bytes
    type: str
    architecture: str
    alpha: float
    tensors: int
    source: str
    base: str
    warnings: tuple[str, ...]
    verified: bool

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Padded:
    """A matrix, scaled, with rows or columns of zeros after its own; `base` is None where there are only zeros."""

    base: Rows | None
    count: int
    columns: int
    scale: float = 1.0

    def read(self, start: int, stop: int) -> Floats:
        """Rows [start, stop)."""
        made = np.zeros((stop - start, self.columns), dtype=np.float32)
        if self.base is not None and start < self.base.count:
            own = self.base.read(start, min(stop, self.base.count))
            made[: len(own), : own.shape[1]] = own * np.float32(self.scale)
        return made


def draft_adapter(options: ConversionOptions, base_path: Path) -> AdapterDraft:
    """Open an adapter and its base, and decide everything.

    Raises:
        ChatError: they are not usable, or do not belong together.
    """
    recipe = find_recipe(options.type or "F32")
    if recipe.name not in TYPES:
        raise UsageError(f"an adapter cannot be of type {recipe.name}", hint=f"types are {', '.join(TYPES)}")
    adapter, base = open_adapter(options.source), open_base(base_path, options.window)
    if adapter.wholes:
        raise ModelError(
            f"{adapter.path}: holds whole tensors (`{adapter.wholes[0].part.entry.name[:120]}`), "
            "which an adapter file cannot say",
            hint="merge it with `--lora` while you convert the base",
        )
    changes = changes_of(adapter, base.shapes, base.head_dim)
    alpha = _alpha(adapter)
    outputs = tuple(
        half for name, found in changes.items() for half in _halves(name, base.shapes[name], found, alpha, adapter)
    )
    plan = make_plan(recipe, [(tensor.name, tensor.shape) for tensor in outputs], Facts(0, 1, 1))
    header = encode_header(_keys(adapter, base, alpha, recipe.file_type), plan.tensors)
    path = options.output or Path(f"{metadata.short_name(adapter.name)}-{recipe.name}.gguf")
    return AdapterDraft(adapter, base, outputs, plan, alpha, header, path)


def write_adapter(draft: AdapterDraft, options: ConversionOptions) -> AdapterReport:
    """Write an adapter, whole or not at all.

    Raises:
        ChatError: the source or the disk is not usable; nothing is left under the output's name.
    """
    write_model(draft.path, draft.header, make_jobs(draft.plan, draft.outputs), options, time.monotonic())
    return report_of(draft, verified=options.verify)


def report_of(draft: AdapterDraft, *, verified: bool = False) -> AdapterReport:
    """Say what a draft became, or would become."""
    return AdapterReport(
        output=str(draft.path),
        size=draft.size,
        type=draft.plan.type_name,
        architecture=draft.base.architecture,
        alpha=draft.alpha,
        tensors=len(draft.plan.tensors),
        source=draft.adapter.name,
        base=draft.base.name,
        warnings=draft.adapter.warnings,
        verified=verified,
    )


def open_base(path: Path, window: str = "auto") -> Base:
    """Read what a model's GGUF or checkpoint says about the tensors that an adapter may change.

    Raises:
        ChatError: it is not usable, or not of an architecture that convert writes.
    """
    if path.is_dir():
        checkpoint = open_checkpoint(path)
        sources = read_text_model(checkpoint)
        stated = read_hyperparameters(checkpoint.config_path, sources.config, shape_finder(sources.tensors))
        hparams = choose_window(stated, window)
        return Base(checkpoint.name, metadata.architecture_of(hparams), expected_shapes(hparams), hparams.head_dim)
    file = read_gguf(path)
    if file.architecture not in MISTRAL_ARCHITECTURES:
        raise ModelError(f"{path}: is of the architecture {file.architecture[:40]!r}, not a Mistral model")
    head_dim = file.key(ModelKey.KEY_LENGTH)
    if head_dim is None:
        head_dim = _head_dim(path, file.key(ModelKey.EMBEDDING_LENGTH), file.key(ModelKey.HEAD_COUNT))
    if type(head_dim) is not int or not 0 < head_dim < 1 << 16 or head_dim % 2:
        raise DataError(f"{path}: heads of {str(head_dim)[:40]} numbers are impossible")
    return Base(str(path), file.architecture, {name: info.shape[::-1] for name, info in file.tensors.items()}, head_dim)


def _head_dim(path: Path, width: Any, heads: Any) -> int:
    if type(width) is not int or type(heads) is not int or heads < 1:
        raise DataError(f"{path}: does not give the size of its heads")
    return width // heads


def _alpha(adapter: Adapter) -> float:
    """The one alpha that the file has; what other pairs need besides is in their matrices."""
    stated, first = adapter.alpha, adapter.pairs[0]
    if stated and all(pair.scale == stated / pair.rank for pair in adapter.pairs):
        return stated
    return first.scale * first.rank or 1.0  # llama.cpp takes 0 for "not given"


def _halves(
    name: str, shape: Shape, changes: Sequence[Change], alpha: float, adapter: Adapter
) -> tuple[OutputTensor, OutputTensor]:
    """The tensors `lora_a` and `lora_b` of one of the base's."""
    height, width = shape[-2:]
    rank = max(change.a.count for change in changes)
    by_place = {change.first // height: change for change in changes}
    if len(by_place) < len(changes):
        raise DataError(f"{adapter.path}: changes `{name}` twice")
    experts = shape[:-2]
    pairs = [_padded(by_place.get(place), rank, (height, width), alpha) for place in range(prod(experts))]
    a, b = (StackedRows(halves) if experts else halves[0] for halves in zip(*pairs, strict=True))
    if name == EMBEDDING:  # looked up by piece, so the two are exchanged and turned
        return (
            OutputTensor(f"{name}.lora_a", (height, rank), b),
            OutputTensor(f"{name}.lora_b", (width, rank), TurnedRows(a)),
        )
    return (
        OutputTensor(f"{name}.lora_a", (*experts, rank, width), a),
        OutputTensor(f"{name}.lora_b", (*experts, height, rank), b),
    )


def _padded(change: Change | None, rank: int, shape: Shape, alpha: float) -> tuple[Rows, Rows]:
    """The two halves of one change with `rank` rows and columns, of zeros where an expert has none."""
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
        KeyValue(GeneralKey.NAME, "str", metadata.short_name(adapter.name)),
        KeyValue(AdapterKey.LORA_ALPHA, "f32", alpha),
        KeyValue(MistralChatKey.SOURCE, "str", adapter.name),
        KeyValue(MistralChatKey.SOURCE_SHA256, "str", fingerprint_with("", [(adapter, 1.0)])),
        KeyValue(GeneralKey.QUANTIZATION_VERSION, "u32", metadata.QUANTIZATION_VERSION),
        KeyValue(GeneralKey.FILE_TYPE, "u32", file_type),
    )
