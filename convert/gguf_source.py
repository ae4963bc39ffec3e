"""Open a GGUF as a source of tensors: check it, read its sizes, and give its tensors as rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chat.errors import ModelError
from chat.gguf.keys import (
    KNOWN_ARCHITECTURES,
    LATENT_ARCHITECTURES,
    PLAIN_ARCHITECTURE,
    WINDOWED_ARCHITECTURE,
    ModelKey,
)
from chat.gguf.reader import GgufFile, read_gguf
from chat.gguf.types import MAGIC
from chat.gguf.validate_model import check_model
from convert.architecture.hyperparameters import Hyperparameters
from convert.architecture.latent import LatentAttention
from convert.checkpoint.mapped_file import MappedFile, TensorEntry, TensorFile
from convert.checkpoint.rows import DECODERS, MappedRows
from convert.quantize.kernels import ALL_TYPES, PackedRows
from convert.tensors.layout import OutputTensor

if TYPE_CHECKING:
    from pathlib import Path

    from chat.gguf.reader import TensorInfo
    from convert.checkpoint.rows import Floats, Rows

SINKS = ".attn_sinks.weight"
DEFAULT_THETA = 10000.0  # llama.cpp's, where the file gives no `rope.freq_base`


@dataclass(frozen=True)
class GgufSource:
    """An opened GGUF of one of the architectures that convert writes."""

    file: GgufFile
    mapped: MappedFile

    @property
    def is_windowed(self) -> bool:
        """Whether the file's architecture applies a window."""
        return self.file.architecture == WINDOWED_ARCHITECTURE

    @cached_property
    def sizes(self) -> Hyperparameters:
        """The sizes that the file's keys give, with the windows that it applies, or else notes."""
        return _read_sizes(self.file)

    @property
    def applied_windows(self) -> tuple[int | None, ...]:
        """The window of each layer in tokens, as the file applies it."""
        return self.sizes.windows if self.is_windowed else (None,) * self.sizes.layers

    def tensors(self, *, as_floats: bool) -> tuple[OutputTensor, ...]:
        """All tensors but the attention sinks.

        Args:
            as_floats: Tensors of plain floats are read as numbers and checked, not copied as bytes.
        """
        return tuple(
            OutputTensor(info.name, info.shape[::-1], self._rows(info, as_floats))
            for info in self.file.tensors.values()
            if not info.name.endswith(SINKS)
        )

    def sinks(self) -> tuple[OutputTensor, ...]:
        """The attention sinks of a windowed file: for each layer (heads,) float32."""
        found = (info for info in self.file.tensors.values() if info.name.endswith(SINKS))
        return tuple(OutputTensor(info.name, info.shape[::-1], self._rows(info, as_floats=True)) for info in found)

    def _rows(self, info: TensorInfo, as_floats: bool) -> Rows:
        kind = ALL_TYPES[info.type]
        if as_floats and kind.name in DECODERS:
            entry = TensorEntry(info.name, kind.name, info.shape[::-1], info.offset, info.bytes)
            return MappedRows(TensorFile(self.mapped, {info.name: entry}), entry)
        columns = info.shape[0]
        return PackedRows(self.mapped, kind, info.offset, info.bytes // kind.row_bytes(columns), columns)


def is_gguf(path: Path) -> bool:
    """Whether a file has the name or the first bytes of a GGUF."""
    if not path.is_file():
        return False
    if path.suffix == ".gguf":
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def open_gguf(path: Path) -> GgufSource:
    """Open a GGUF of one of the Mistral architectures, with the checks that precede loading a model.

    Raises:
        ModelError: it cannot be run, or is of another architecture than Mistral's.
        DataError: it breaks a rule of the format or of its architecture.
        FileError: it cannot be read.
    """
    file = read_gguf(path)
    if file.is_adapter:
        raise ModelError(f"{path}: is an adapter, not a model")
    if file.architecture not in KNOWN_ARCHITECTURES:
        raise ModelError(
            f"{path}: the architecture {file.architecture[:60]!r} cannot be changed",
            hint=f"convert knows {' and '.join(KNOWN_ARCHITECTURES)}",
        )
    check_model(file)
    return GgufSource(file, MappedFile(path))


def _read_sizes(file: GgufFile) -> Hyperparameters:
    layers, heads, width = file.key(ModelKey.BLOCK_COUNT), _first(file.key(ModelKey.HEAD_COUNT)), _width(file)
    windows = file.noted_windows or (None,) * layers
    if file.window is not None:
        windows = tuple(file.window if on else None for on in file.key(ModelKey.SLIDING_WINDOW_PATTERN))
    latent = _read_latent(file)
    return Hyperparameters(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=_first(file.key(ModelKey.HEAD_COUNT_KV, heads)) or heads,
        head_dim=latent.plain + latent.turned if latent else file.key(ModelKey.KEY_LENGTH) or width // heads,
        hidden=_first(file.key(ModelKey.FEED_FORWARD_LENGTH, 0)),
        vocabulary=file.vocabulary_size,
        norm_epsilon=file.key(ModelKey.LAYER_NORM_RMS_EPSILON),
        rope_theta=file.key(ModelKey.ROPE_FREQ_BASE, DEFAULT_THETA),
        context=file.key(ModelKey.CONTEXT_LENGTH),
        windows=windows,
        experts=file.key(ModelKey.EXPERT_COUNT, 0),
        experts_used=_first(file.key(ModelKey.EXPERT_USED_COUNT, 0)),
        is_tied="output.weight" not in file.tensors,
        architecture=PLAIN_ARCHITECTURE if file.architecture == WINDOWED_ARCHITECTURE else file.architecture,
        latent=latent,
    )


def _read_latent(file: GgufFile) -> LatentAttention | None:
    """Sizes of latent attention whose keys and values are split; None where they are one tensor, or it is ordinary."""
    size = file.key(ModelKey.KEY_LENGTH_MLA, 0)
    if file.architecture not in LATENT_ARCHITECTURES or not size:
        return None
    turned = file.key(ModelKey.ROPE_DIMENSION_COUNT)
    query_rank, rank = file.key(ModelKey.Q_LORA_RANK, 0), file.key(ModelKey.KV_LORA_RANK)
    return LatentAttention(query_rank or None, rank, turned, size - turned, file.key(ModelKey.VALUE_LENGTH_MLA))


def _width(file: GgufFile) -> int:
    return int(file.key(ModelKey.EMBEDDING_LENGTH))


def _first(value: Any) -> int:
    """A number that a file may give once or per layer; llama-quantize's rules use the first layer's."""
    return int(value[0] if isinstance(value, tuple) else value)


# Keys of steps that the windowed graph has and Mistral lacks, with the values that switch each step off.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    ModelKey.LOGIT_SCALE: (1.0,),
    ModelKey.EMBEDDING_SCALE: (None, 0.0, 1.0),
    ModelKey.RESIDUAL_SCALE: (None, 0.0, 1.0),
    ModelKey.ATTENTION_SCALE: (None, 0.0),
    ModelKey.EXPERT_SHARED_FEED_FORWARD_LENGTH: (None, 0),
}
LARGEST_SINK = -1e9  # exp() of a smaller logit is 0 beside that of any attention score


def check_plain(source: GgufSource) -> None:
    """Refuse a windowed file that the plain graph cannot compute: a Granite model, not a Mistral.

    Raises:
        ModelError: the file uses a step that the plain graph lacks.
        DataError: a sink is NaN.
    """
    file = source.file
    for name, values in NEUTRAL.items():
        if file.key(name) not in values:
            raise _not_mistral(file, f"its `{name}` is {file.key(name)}")
    if not all(file.key(ModelKey.ROPE_PATTERN, (True,))):
        raise _not_mistral(file, "it has layers without rotary positions")
    if any(".ffn_gate_up_exps." in name for name in file.tensors):
        raise _not_mistral(file, "its experts' matrices are fused")
    for sinks in source.sinks():
        numbers: Floats = sinks.rows.read(0, 1)
        if numbers.size and not numbers.max() <= LARGEST_SINK:
            raise _not_mistral(file, f"`{sinks.name}` takes attention")


def _not_mistral(file: GgufFile, reason: str) -> ModelError:
    return ModelError(f"{file.path}: its window cannot be removed, because {reason}", hint="it is not a Mistral model")
