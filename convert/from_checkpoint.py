"""Draft the GGUF of a checkpoint, with adapters merged into it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from convert.architecture.hyperparameters import read_hyperparameters
from convert.checkpoint.folder import open_checkpoint
from convert.draft import ConversionDraft, ModelDetails, make_jobs, plan_model
from convert.lora.adapter import open_adapters
from convert.lora.merge import merge_all, need_own_ends, tied_warnings
from convert.output.metadata import Origin, fingerprint, fingerprint_with, make_keys
from convert.output.sliding_window import choose_target
from convert.quantize.type_overrides import read_type_overrides
from convert.tensors.layout import count_parameters, lay_out, rope_factors, settle_output, shape_finder, sinks, untie
from convert.tensors.text_model import read_text_model
from convert.tokenizer.load import read_vocabulary
from convert.tokenizer.prompt_formats import RAW, is_base_model

if TYPE_CHECKING:
    from convert.draft import ConversionOptions
    from convert.tokenizer.vocabulary import GgufVocabulary

DEFAULT_TYPE = "Q4_K_M"


def draft_checkpoint(options: ConversionOptions) -> ConversionDraft:
    """Open a checkpoint and decide everything, without reading weights or writing a byte.

    Raises:
        ChatError: the options, the checkpoint or an adapter are not usable.
    """
    types = read_type_overrides(
        options.type or DEFAULT_TYPE,
        options.tensor_types,
        options.imatrix,
        is_to_be_measured=options.calibrate is not None,
    )
    checkpoint = open_checkpoint(options.source)
    model = read_text_model(checkpoint)
    stated = read_hyperparameters(checkpoint.config_path, model.config, shape_finder(model.tensors))
    settled = settle_output(model.tensors, stated)
    adapters = open_adapters(options.adapters)
    # before the vocabulary: sizes that no tensor has must not fill one
    outputs, own = lay_out(settled.tensors, settled.sizes), settled.sizes
    if need_own_ends(adapters):
        outputs, own = untie(outputs, own)
    target = choose_target(own, options.window)
    vocabulary = read_vocabulary(checkpoint.folder, own.vocabulary)
    if not options.adapters:  # which may have taught the model to answer
        vocabulary = _as_base_model(vocabulary, checkpoint.name)
    outputs = merge_all(outputs, adapters, own)
    origin = Origin(
        name="+".join((checkpoint.name, *(adapter.name for adapter, _ in adapters))),
        sha256=fingerprint_with(fingerprint(checkpoint), adapters),
        parameters=count_parameters(outputs),
    )
    outputs += rope_factors(own)
    if target.is_windowed:
        outputs += sinks(own)
    plan = plan_model(outputs, own, types)
    return ConversionDraft(
        path=options.output or Path(f"{origin.short_name}-{plan.type_name}.gguf"),
        keys=(*make_keys(target, vocabulary, types.recipe, origin), *types.keys()),
        plan=plan,
        jobs=make_jobs(plan, outputs, types),
        architecture=target.architecture,
        source=origin.name,
        details=ModelDetails(
            window=target.sizes.window,
            context=own.context,
            prompt_format=vocabulary.prompt_format,
            parameters=origin.parameters,
            source_bytes=checkpoint.nbytes,
            source_sha256=origin.sha256,
            filled_in=own.filled_in,
        ),
        warnings=(
            *model.warnings,
            *settled.warnings,
            *(warning for adapter, _ in adapters for warning in adapter.warnings),
            *(tied_warnings(adapters) if settled.sizes.is_tied else ()),
            *types.warnings(plan),
            *vocabulary.warnings,
        ),
    )


def _as_base_model(vocabulary: GgufVocabulary, name: str) -> GgufVocabulary:
    """Give a base model the prompt format `raw`, unless it has a chat template: it continues text."""
    if vocabulary.chat_templates or not is_base_model(name):
        return vocabulary
    taught = vocabulary.prompt_format
    way_out = f"; `--prompt-format {taught}` at chat time asks it as if it were" if taught else ""
    warning = f"{name} is a base model, which continues text and was not taught to answer{way_out}"
    return replace(vocabulary, prompt_format=RAW, warnings=(*vocabulary.warnings, warning))
