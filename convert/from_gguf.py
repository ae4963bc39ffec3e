"""Open a GGUF and draft another: its window put in or taken out, adapters merged, tensors quantized again."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import UsageError
from chat.gguf.keys import PLAIN_ARCHITECTURE, MistralChatKey
from convert.draft import ConversionDraft, ModelDetails, make_jobs, plan_model
from convert.gguf_source import GgufSource, check_plain, open_gguf
from convert.lora.adapter import open_adapters
from convert.lora.merge import ChangedRows, merge_all, need_own_ends, tied_warnings
from convert.output.key_changes import change_keys, merged_names
from convert.output.metadata import short_name
from convert.output.sliding_window import TargetModel, apply_window_option, choose_target, no_window_error, window_note
from convert.quantize.kernels import ALL_TYPES, BLOCK_TYPES, PackedRows
from convert.quantize.recipes import Plan, place_tensors
from convert.tensors.layout import OutputTensor, count_parameters, sinks, untie
from convert.tokenizer.prompt_formats import RAW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convert.architecture.hyperparameters import Hyperparameters
    from convert.checkpoint.rows import Rows
    from convert.draft import ConversionOptions
    from convert.lora.adapter import Adapter
    from convert.output.tensor_writer import Job
    from convert.quantize.type_overrides import TypeOverrides

_WINDOW_AT_END = re.compile(r"-(?:no-window|window-\d+)$")
_TYPE_AT_END = re.compile(
    r"[-_.](?:I?Q\d\w*|TQ\d\w*|B?F\d\d|FP\d\d|MXFP4\w*|fit-[\d.]+[MGT]i?B(?:-ram)?)$", re.IGNORECASE
)


@dataclass(frozen=True)
class GgufModel:
    """An opened GGUF with the adapters that are merged into it.

    Attributes:
        tensors: of the new file.
        target: what the new file computes.
    """

    tensors: tuple[OutputTensor, ...]
    target: TargetModel
    _source: GgufSource
    _adapters: tuple[tuple[Adapter, float], ...]
    _parameters: int

    @property
    def sizes(self) -> Hyperparameters:
        """Of the model, which the types depend on."""
        return self.target.sizes

    def draft(self, types: TypeOverrides | None, output: Path | None) -> ConversionDraft:
        """Decide the whole new file.

        Args:
            types: of its tensors; None where they keep theirs.
            output: its path; None makes a name, in the current folder.

        Raises:
            UsageError: convert does not write a type that a tensor keeps.
            DataError: the importance matrix was made with another model.
        """
        source, target, adapters = self._source, self.target, self._adapters
        plan = plan_model(self.tensors, self.sizes, types) if types else _plan_as_it_is(source, self.tensors)
        jobs = make_jobs(plan, self.tensors, types)
        if types is None:
            _check_writable(jobs)
        note = window_note(target.noted_windows) if target.sizes.windows != source.applied_windows else ()
        file = source.file
        return ConversionDraft(
            path=output or _default_path(source, target, adapters, types),
            keys=change_keys(file, target, types, (*note, *merged_names(file, adapters))),
            plan=plan,
            jobs=jobs,
            architecture=target.architecture,
            source=file.path.name,
            details=ModelDetails(
                window=target.sizes.window,
                context=target.sizes.context,
                prompt_format=file.metadata.get(MistralChatKey.PROMPT_FORMAT),
                parameters=self._parameters,
                source_bytes=file.size,
                source_sha256=file.metadata.get(MistralChatKey.SOURCE_SHA256, ""),
            ),
            warnings=(
                *_loss_warnings(source, jobs),
                *(types.warnings(plan) if types else ()),
                *(warning for adapter, _ in adapters for warning in adapter.warnings),
                *(tied_warnings(adapters) if source.sizes.is_tied else ()),
                *_format_warnings(source, adapters),
            ),
        )


def open_gguf_model(options: ConversionOptions, *, keeps_types: bool) -> GgufModel:
    """Open a GGUF and decide everything but the types, without reading tensors or writing a byte.

    Args:
        options: of the conversion.
        keeps_types: no type is asked for, so that the tensors' bytes are copied where they do not change.

    Raises:
        UsageError: the options are not usable, or nothing would change.
        ChatError: the file or an adapter is not usable.
    """
    source = open_gguf(options.source)
    target = _choose_target(source, options.window)
    adapters = open_adapters(options.adapters)
    if keeps_types and not adapters and target.sizes.windows == source.applied_windows:
        raise _nothing_to_change(source, target)
    tensors = source.tensors(as_floats=bool(adapters) or not keeps_types)
    if need_own_ends(adapters):
        tensors, sizes = untie(tensors, target.sizes)
        target = replace(target, sizes=sizes)
    tensors = merge_all(tensors, adapters, target.sizes)
    return GgufModel(
        tensors=(*tensors, *_sinks(source, target)),
        target=target,
        _source=source,
        _adapters=tuple(adapters),
        _parameters=count_parameters(tensors),
    )


def _choose_target(source: GgufSource, wanted: str) -> TargetModel:
    """Decide what becomes of the window that the file applies, or notes where it applies none."""
    own = source.sizes
    chosen = apply_window_option(own, wanted)
    if chosen.windows == source.applied_windows:
        return TargetModel(chosen, source.file.architecture, own.windows)
    if own.architecture != PLAIN_ARCHITECTURE:
        raise no_window_error(wanted, own.architecture)
    target = choose_target(own, wanted)
    if target.is_windowed:
        return target
    if source.is_windowed:
        check_plain(source)
    return replace(target, noted_windows=own.windows)


def _nothing_to_change(source: GgufSource, target: TargetModel) -> UsageError:
    window = f"has the window {target.sizes.window}" if target.sizes.window else "has no window"
    return UsageError(
        f"{source.file.path}: is {source.file.type_name} and {window} already: nothing to change",
        hint="`--window N` puts a window in, `--window off` takes it out, `-t TYPE` quantizes again",
    )


def _sinks(source: GgufSource, target: TargetModel) -> tuple[OutputTensor, ...]:
    """The attention sinks of a windowed file, those of the source where it has any."""
    if not target.is_windowed:
        return ()
    return source.sinks() if source.is_windowed else sinks(target.sizes)


def _plan_as_it_is(source: GgufSource, outputs: Sequence[OutputTensor]) -> Plan:
    """Place the tensors with the types that they have in the source."""
    types = {info.name: ALL_TYPES[info.type] for info in source.file.tensors.values()}
    types.setdefault("output.weight", types["token_embd.weight"])  # of a tied model, where an adapter needs its own
    placed = [(tensor.name, tensor.shape, types.get(tensor.name, ALL_TYPES["F32"])) for tensor in outputs]
    return place_tensors(source.file.type_name, placed)


def _check_writable(jobs: Sequence[Job]) -> None:
    """Refuse a type that convert cannot write for a tensor that an adapter changes."""
    for job in jobs:
        kind = job.tensor.type.name
        if kind not in BLOCK_TYPES and not job.copied:
            raise UsageError(
                f"`{job.tensor.name}` is {kind}, which convert does not write", hint="choose a type with `-t`"
            )


def _loss_warnings(source: GgufSource, jobs: Sequence[Job]) -> tuple[str, ...]:
    again = [
        job for job in jobs if (packed := _packed(job.rows)) and packed.kind.is_quantized and not job.copied
    ]  # not the numbers of the checkpoint, but what an earlier quantization left of them
    if not again:
        return ()
    return (
        f"{len(again)} tensors of {source.file.type_name} are quantized a second time, which costs quality: "
        "the checkpoint, if you have it, makes a better file",
    )


def _packed(rows: Rows) -> PackedRows | None:
    """The packed rows below changes of an adapter, or None."""
    while isinstance(rows, ChangedRows):
        rows = rows.base
    return rows if isinstance(rows, PackedRows) else None


def _format_warnings(source: GgufSource, adapters: Sequence[tuple[Adapter, float]]) -> tuple[str, ...]:
    """Warn that an adapter may have taught a base model to answer, which its file does not say."""
    if not adapters or source.file.metadata.get(MistralChatKey.PROMPT_FORMAT) != RAW:
        return ()
    return (
        "the file is a base model's, which continues text: if an adapter taught it to answer, "
        "`--prompt-format` at chat time says how it is asked",
    )


def _default_path(
    source: GgufSource, target: TargetModel, adapters: Sequence[tuple[Adapter, float]], types: TypeOverrides | None
) -> Path:
    """The source's name with the parts replaced that name its type and window."""
    stem = source.file.path.stem
    name = _WINDOW_AT_END.sub("", stem)
    window = stem[len(name) :]
    if target.sizes.window != source.file.window:
        window = f"-window-{target.sizes.window}" if target.sizes.window else "-no-window"
    plain = _TYPE_AT_END.sub("", name)
    kind = f"-{types.recipe.name}" if types else name[len(plain) :]
    merged = short_name("".join(f"+{adapter.name}" for adapter, _ in adapters))
    return Path(f"{plain}{merged}{kind}{window}.gguf")
