"""Open a checkpoint, with adapters merged into it, and draft its GGUF."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import ModelError
from convert.architecture.hyperparameters import read_hyperparameters
from convert.checkpoint.folder import open_checkpoint
from convert.draft import ConversionDraft, ModelDetails, make_jobs, plan_model
from convert.lora.adapter import open_adapters
from convert.lora.merge import merge_all, need_own_ends, tied_warnings
from convert.output.metadata import Origin, fingerprint, fingerprint_with, make_keys, short_name
from convert.output.sliding_window import choose_target
from convert.projector import Projector, open_projector, path_beside, read_type
from convert.quantize.recipes import find_recipe
from convert.quantize.type_overrides import TypeOverrides
from convert.tensors.layout import count_parameters, lay_out, rope_factors, settle_output, shape_finder, sinks, untie
from convert.tensors.text_model import read_text_model
from convert.tokenizer.load import read_vocabulary
from convert.tokenizer.prompt_formats import RAW, is_base_model

if TYPE_CHECKING:
    from convert.architecture.hyperparameters import Hyperparameters
    from convert.draft import ConversionOptions
    from convert.output.sliding_window import TargetModel
    from convert.tensors.layout import OutputTensor
    from convert.tokenizer.vocabulary import GgufVocabulary
DEFAULT_TYPE = "Q4_K_M"


@dataclass(frozen=True)
class CheckpointModel:
    """An opened checkpoint with the adapters that are merged into it.

    Attributes:
        tensors: of the new file.
        sizes: of the model, which the types depend on.
        target: what the new file computes.
        projector: what the model sees with, which gets a file of its own; None where it does not see, or need not.
    """

    tensors: tuple[OutputTensor, ...]
    sizes: Hyperparameters
    target: TargetModel
    _vocabulary: GgufVocabulary
    _origin: Origin
    _source_bytes: int
    _warnings_before: tuple[str, ...]  # those about the types
    _warnings_after: tuple[str, ...]
    projector: Projector | None
    _projector_type: str

    def draft(self, types: TypeOverrides | None, output: Path | None) -> ConversionDraft:
        """Decide the whole new file.

        Args:
            types: of its tensors; None is Q4_K_M.
            output: its path; None makes a name, in the current folder.

        Raises:
            DataError: the importance matrix was made with another model.
        """
        types = types or TypeOverrides(find_recipe(DEFAULT_TYPE))
        plan = plan_model(self.tensors, self.sizes, types)
        origin = self._origin
        path = output or Path(f"{origin.short_name}-{plan.type_name}.gguf")
        beside = path_beside(path, plan.type_name, self._projector_type)
        own_keys = make_keys(self.target, self._vocabulary, types.recipe, origin)
        return ConversionDraft(
            path=path,
            keys=(
                *own_keys,
                *(self.projector.notes(beside) if self.projector else ()),
                *types.keys(),
            ),
            plan=plan,
            jobs=make_jobs(plan, self.tensors, types),
            architecture=self.target.architecture,
            source=origin.name,
            details=ModelDetails(
                window=self.target.sizes.window,
                context=self.sizes.context,
                prompt_format=self._vocabulary.prompt_format,
                parameters=origin.parameters,
                source_bytes=self._source_bytes,
                source_sha256=origin.sha256,
                filled_in=self.sizes.filled_in,
            ),
            warnings=(*self._warnings_before, *types.warnings(plan), *self._warnings_after),
            projector=self.projector.draft(self._projector_type, beside, own_keys) if self.projector else None,
        )


def open_checkpoint_model(options: ConversionOptions) -> CheckpointModel:
    """Open a checkpoint and decide everything but the types, without reading weights or writing a byte.

    Raises:
        ChatError: the options, the checkpoint or an adapter are not usable.
    """
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
    embedding = next(tensor for tensor in outputs if tensor.name == "token_embd.weight")
    outputs += rope_factors(own)
    if target.is_windowed:
        outputs += sinks(own)
    projector = None
    if options.projector != "off":
        projector = open_projector(checkpoint, embedding, vocabulary, model.warnings)
    left_out = () if projector or options.projector == "off" else model.left_out
    return CheckpointModel(
        tensors=outputs,
        sizes=own,
        target=target,
        _vocabulary=vocabulary,
        _origin=origin,
        _source_bytes=checkpoint.nbytes,
        _warnings_before=(
            *model.warnings,
            *left_out,
            *(projector.warnings if projector else ()),
            *settled.warnings,
            *(warning for adapter, _ in adapters for warning in adapter.warnings),
            *(tied_warnings(adapters) if settled.sizes.is_tied else ()),
        ),
        _warnings_after=vocabulary.warnings,
        projector=projector,
        _projector_type=read_type(options.projector_type),
    )


def draft_projector(options: ConversionOptions) -> ConversionDraft:
    """Decide the mmproj file alone, without reading weights or writing a byte.

    Raises:
        ModelError: the model does not see, or not in a way that can be converted.
        ChatError: as `open_checkpoint_model`.
    """
    model = open_checkpoint_model(options)
    if model.projector is None:
        raise ModelError(
            f"{options.source}: has no picture encoder that can be converted",
            hint="leave out `--mmproj` for its text part",
        )
    kind = read_type(options.projector_type)
    name = short_name(model.projector.name)
    path = options.file or Path(f"mmproj-{name}-{kind}.gguf")
    return model.projector.draft(kind, path, model.draft(None, None).keys)


def _as_base_model(vocabulary: GgufVocabulary, name: str) -> GgufVocabulary:
    """Give a base model the prompt format `raw`, unless it has a chat template: it continues text."""
    if vocabulary.chat_templates or not is_base_model(name):
        return vocabulary
    taught = vocabulary.prompt_format
    way_out = f"; `--prompt-format {taught}` at chat time asks it as if it were" if taught else ""
    warning = f"{name} is a base model, which continues text and was not taught to answer{way_out}"
    return replace(vocabulary, prompt_format=RAW, warnings=(*vocabulary.warnings, warning))
