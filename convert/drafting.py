"""Decide what a conversion would write: open the source, and draft a file for each type that is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chat.errors import UsageError
from convert.fit import draft_fit
from convert.from_checkpoint import DEFAULT_TYPE, draft_projector, open_checkpoint_model
from convert.from_gguf import open_gguf_model
from convert.from_lora import draft_adapter
from convert.gguf_source import is_gguf
from convert.lora.adapter import is_adapter
from convert.quantize.imatrix import read_imatrix
from convert.quantize.recipes import find_recipe
from convert.quantize.type_overrides import read_type_overrides

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from convert.draft import ConversionDraft, ConversionOptions
    from convert.from_checkpoint import CheckpointModel
    from convert.from_gguf import GgufModel
    from convert.quantize.type_overrides import TypeOverrides


def make_draft(options: ConversionOptions) -> ConversionDraft:
    """As `make_drafts`, for one type.

    Raises:
        ChatError: the options or the source are not usable.
    """
    (draft,) = make_drafts(options)
    return draft


def make_drafts(options: ConversionOptions) -> tuple[ConversionDraft, ...]:
    """Decide what `convert` would write, without reading weights or writing a byte: one file for each type.

    Raises:
        ChatError: the options or the source are not usable.
    """
    if writes_adapter(options):
        _refuse_projector_options(options, "an adapter has no picture encoder")
        check_choices(_type_names(options), options.output)
        if options.fit is not None:
            raise UsageError("`--fit` has no effect on an adapter", hint="use it for the model that it is merged into")
        return _placed([draft_adapter(replace(options, type=name)) for name in _type_names(options)], options)
    if options.projector == "only":
        check_projector_alone(options)
        return (draft_projector(options),)
    if options.fit is not None:
        importance = read_imatrix(options.imatrix) if options.imatrix else None
        return (draft_fit(open_model(options), options, importance),)
    types = read_types(options)
    return draft_model(open_model(options, keeps_types=types == (None,)), types, options)


def check_choices(type_names: Sequence[str | None], output: Path | None) -> None:
    """Check the types and the output of a conversion, before anything is downloaded for it.

    Args:
        type_names: of each file; None is a type that the source decides.
        output: a file, or the folder of several files.

    Raises:
        UsageError: a type is unknown or given twice, or the output is not a folder where one is needed.
    """
    recipes = [find_recipe(name) for name in type_names if name is not None]
    for recipe in recipes:
        if recipes.count(recipe) > 1:
            raise UsageError(f"`-t {recipe.name}` is given twice")
    if len(recipes) > 1 and output is not None and not output.is_dir():
        raise UsageError(
            f"`-o {output}` is not a folder, and {len(recipes)} files are to be written",
            hint="name an existing folder with `-o`, or leave it out",
        )


def writes_adapter(options: ConversionOptions) -> bool:
    """Whether the new file is an adapter's, as opposed to a model's."""
    return options.base is not None or is_adapter(options.source)


def read_types(options: ConversionOptions) -> tuple[TypeOverrides | None, ...]:
    """The types that the user asks for, for each file; None where the tensors of a GGUF keep theirs.

    Raises:
        ChatError: they are not usable.
    """
    check_choices(_type_names(options), options.output)
    if options.type is None and is_gguf(options.source):
        if options.tensor_types or options.imatrix or options.calibrate:
            option = "--tensor-type" if options.tensor_types else "--imatrix" if options.imatrix else "--calibrate"
            raise UsageError(f"`{option}` needs a type for the rest of a GGUF", hint="add `-t Q4_K_M`")
        return (None,)
    return read_type_overrides(
        [name or DEFAULT_TYPE for name in _type_names(options)],
        options.tensor_types,
        options.imatrix,
        is_to_be_measured=options.calibrate is not None,
    )


def open_model(options: ConversionOptions, *, keeps_types: bool = False) -> CheckpointModel | GgufModel:
    """Open the model that is converted, without reading weights.

    Args:
        options: of the conversion.
        keeps_types: the tensors keep the types that they have in a GGUF.

    Raises:
        ChatError: the options or the source are not usable.
    """
    if is_gguf(options.source):
        _refuse_projector_options(options, "a GGUF of a model holds no picture encoder")
        return open_gguf_model(options, keeps_types=keeps_types)
    return open_checkpoint_model(options)


def draft_model(
    model: CheckpointModel | GgufModel, types: Sequence[TypeOverrides | None], options: ConversionOptions
) -> tuple[ConversionDraft, ...]:
    """Draft a file of an opened model for each choice of types.

    Raises:
        ChatError: the types are not usable for this model.
    """
    return _placed([model.draft(each, options.file) for each in types], options)


def _type_names(options: ConversionOptions) -> tuple[str | None, ...]:
    return (options.type, *options.further_types)


def _placed(drafts: Sequence[ConversionDraft], options: ConversionOptions) -> tuple[ConversionDraft, ...]:
    """The drafts with their paths in the folder that the user names."""
    if options.folder is None:
        return tuple(drafts)
    return tuple(draft.within(options.folder) for draft in drafts)


def check_projector_alone(options: ConversionOptions) -> None:
    """See that no option of the model goes with `--mmproj`, which writes none.

    Raises:
        UsageError: one does.
    """
    of_model = {
        "-t": options.type,
        "--fit": options.fit,
        "--lora": options.adapters,
        "--tensor-type": options.tensor_types,
        "--imatrix": options.imatrix,
        "--calibrate": options.calibrate,
    }
    for name, value in of_model.items():
        if value:
            hint = "`--mmproj-type` chooses its type" if name == "-t" else f"leave out `{name}`"
            raise UsageError(f"`--mmproj` writes no model, so `{name}` has no effect", hint=hint)
    if is_gguf(options.source):
        _refuse_projector_options(options, "a GGUF of a model holds no picture encoder")


def _refuse_projector_options(options: ConversionOptions, reason: str) -> None:
    if options.projector == "only" or options.projector_type is not None:
        name = "--mmproj" if options.projector == "only" else "--mmproj-type"
        raise UsageError(f"`{name}` has no effect: {reason}", hint="convert the checkpoint for it")
