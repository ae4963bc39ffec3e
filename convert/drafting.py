"""Decide what a conversion would write: open the source, and draft the new file with the types that are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.errors import UsageError
from convert.from_checkpoint import DEFAULT_TYPE, open_checkpoint_model
from convert.from_gguf import open_gguf_model
from convert.from_lora import draft_adapter
from convert.gguf_source import is_gguf
from convert.lora.adapter import is_adapter
from convert.quantize.type_overrides import read_type_overrides

if TYPE_CHECKING:
    from convert.draft import ConversionDraft, ConversionOptions
    from convert.from_checkpoint import CheckpointModel
    from convert.from_gguf import GgufModel
    from convert.quantize.type_overrides import TypeOverrides


def make_draft(options: ConversionOptions) -> ConversionDraft:
    """Decide what `convert` would write, without reading weights or writing a byte.

    Raises:
        ChatError: the options or the source are not usable.
    """
    if writes_adapter(options):
        return draft_adapter(options)
    types = read_types(options)
    return open_model(options, keeps_types=types is None).draft(types, options.output)


def writes_adapter(options: ConversionOptions) -> bool:
    """Whether the new file is an adapter's, as opposed to a model's."""
    return options.base is not None or is_adapter(options.source)


def read_types(options: ConversionOptions) -> TypeOverrides | None:
    """The types that the user asks for; None where the tensors of a GGUF keep theirs.

    Raises:
        ChatError: they are not usable.
    """
    if options.type is not None or not is_gguf(options.source):
        return read_type_overrides(
            options.type or DEFAULT_TYPE,
            options.tensor_types,
            options.imatrix,
            is_to_be_measured=options.calibrate is not None,
        )
    if options.tensor_types or options.imatrix or options.calibrate:
        option = "--tensor-type" if options.tensor_types else "--imatrix" if options.imatrix else "--calibrate"
        raise UsageError(f"`{option}` needs a type for the rest of a GGUF", hint="add `-t Q4_K_M`")
    return None


def open_model(options: ConversionOptions, *, keeps_types: bool = False) -> CheckpointModel | GgufModel:
    """Open the model that is converted, without reading weights.

    Args:
        options: of the conversion.
        keeps_types: the tensors keep the types that they have in a GGUF.

    Raises:
        ChatError: the options or the source are not usable.
    """
    if is_gguf(options.source):
        return open_gguf_model(options, keeps_types=keeps_types)
    return open_checkpoint_model(options)
