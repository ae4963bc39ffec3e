"""The tensors of a checkpoint's text model as float rows, under their GGUF names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from convert.architecture.supported import text_config, text_names
from convert.dequantize.schemes import unpack
from convert.tensors.experts import divide_experts
from convert.tensors.layout import SourceTensor
from convert.tensors.names import is_known, meaning_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.checkpoint.folder import Checkpoint


@dataclass(frozen=True)
class TextModel:
    """What a checkpoint has of a text model."""

    tensors: tuple[SourceTensor, ...]
    config: Mapping[str, Any]  # as a model of text only would have it
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]  # what to say of the tensors of other parts where they are converted nowhere


def read_text_model(checkpoint: Checkpoint) -> TextModel:
    """Take the text part out of a checkpoint and undo its quantization.

    Raises:
        ModelError: it is of a kind that cannot be run, or quantized in a way that cannot be read.
        DataError: its tensors are not those of a Mistral model, or do not fit each other.
    """
    config = text_config(checkpoint.config_path, checkpoint.config)
    names = text_names(checkpoint.tensors, checkpoint.config)
    used = {own: plain for own, plain in names.plain.items() if own not in checkpoint.unlisted or is_known(plain)}
    kept = {plain: checkpoint.tensors[own] for own, plain in used.items()}
    if len(kept) < len(used):
        raise DataError(f"{checkpoint.folder}: tensors of the text part are there under two names")
    unpacked = unpack(replace(checkpoint, tensors=kept))
    tensors = tuple(
        SourceTensor(meaning_of(name), weight.file, weight.entry, weight.rows)
        for name, weight in unpacked.tensors.items()
    )
    return TextModel(divide_experts(tensors), config, (*checkpoint.warnings, *unpacked.warnings), names.left_out)
