"""The corridor from a GGUF to another: its window put in or taken out, adapters merged, tensors quantized again."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import UsageError
from chat.gguf.keys import PLAIN_ARCHITECTURE, WINDOWED_ARCHITECTURE, MistralChatKey
from chat.gguf.writer import encode_header
from convert.checkpoint.rows import ConstantRow
from convert.gguf_source import GgufSource, check_plain, open_gguf, read_sizes
from convert.lora.adapter import Adapter, open_adapter
from convert.lora.merge import ChangedRows, merge
from convert.output import metadata
from convert.output.key_changes import change_keys, merged_names
from convert.pipeline import ConversionOptions, ConversionReport, choose_window, make_jobs, plan_outputs, write_model
from convert.quantize.block_types import ALL_TYPES, BLOCK_TYPES
from convert.quantize.packed_rows import PackedRows
from convert.quantize.recipes import Plan, place_tensors
from convert.quantize.type_overrides import TypeOverrides, read_type_overrides
from convert.tensors.layout import OutputTensor, count_parameters, sinks
from convert.tokenizer.prompt_formats import RAW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.gguf.writer import KeyValue
    from convert.architecture.hyperparameters import Hyperparameters
    from convert.checkpoint.rows import Rows

_WINDOW_AT_END = re.compile(r"-(?:no-window|window-\d+)$")
_TYPE_AT_END = re.compile(r"[-_.](?:I?Q\d\w*|TQ\d\w*|B?F\d\d|FP\d\d|MXFP4\w*)$", re.IGNORECASE)


@dataclass(frozen=True)
class GgufTarget:
    """What a file is to be: its sizes with the new window, and what to note of that where it is new."""

    sizes: Hyperparameters
    architecture: str
    note: tuple[KeyValue, ...] = ()


@dataclass(frozen=True)
class GgufConversion:
    """Everything that is known before the first tensor is read."""

    source: GgufSource
    sizes: Hyperparameters  # with the new window
    outputs: tuple[OutputTensor, ...]
    plan: Plan
    header: bytes
    path: Path
    choices: TypeOverrides | None  # None where the tensors keep their types
    warnings: tuple[str, ...]


def convert_gguf(options: ConversionOptions) -> ConversionReport:
    """Make a GGUF of a GGUF, whole or not at all.

    Raises:
        ChatError: the options, the source or the disk are not usable; nothing is left under the output's name.
    """
    started = time.monotonic()
    draft = draft_gguf(options)
    jobs = make_jobs(draft.plan, draft.outputs, draft.choices)
    written = write_model(draft.path, draft.header, jobs, options, started)
    return written.added_to(report_of(draft), verified=options.verify)


def preview_gguf(options: ConversionOptions) -> tuple[Plan, ConversionReport]:
    """What `convert_gguf` would write.

    Raises:
        ChatError: the options or the file are not usable, or nothing would change.
    """
    draft = draft_gguf(options)
    return draft.plan, report_of(draft)


def draft_gguf(options: ConversionOptions) -> GgufConversion:
    """Open the file and decide everything, without reading tensors or writing a byte.

    Raises:
        ChatError: the options, the file or an adapter are not usable, or nothing would change.
    """
    choices = _read_choices(options)
    source = open_gguf(options.source)
    target = _choose_target(source, options.window)
    adapters = [(open_adapter(path), scale) for path, scale in options.adapters]
    if choices is None and not adapters and not target.note:
        raise _nothing_to_change(source, target.sizes)
    outputs = _outputs(source, target, adapters, as_floats=bool(choices or adapters))
    plan = _plan(source, target.sizes, outputs, choices)
    changed = (*target.note, *merged_names(source.file, adapters))
    keys = change_keys(source.file, target.architecture, target.sizes, choices, changed)
    header = encode_header(keys, plan.tensors)
    path = options.output or _default_path(source, target.sizes, adapters, choices)
    warnings = (
        *_warnings(source, outputs, plan),
        *(choices.warnings(plan) if choices else ()),
        *(warning for adapter, _ in adapters for warning in adapter.warnings),
        *_warnings_of_format(source, adapters),
    )
    return GgufConversion(source, target.sizes, outputs, plan, header, path, choices, warnings)


def _choose_target(source: GgufSource, wanted: str) -> GgufTarget:
    """What becomes of the window: as the file applies it, or else notes it, where nothing else is wanted."""
    own = read_sizes(source.file)
    applied = own.windows if source.is_windowed else (None,) * own.layers
    sizes = choose_window(own, wanted)
    architecture = metadata.architecture_of(sizes) if sizes.windows != applied else source.file.architecture
    if architecture == PLAIN_ARCHITECTURE:
        sizes = sizes.with_window(None)
    if sizes.windows == applied:
        return GgufTarget(sizes, architecture)
    if architecture == PLAIN_ARCHITECTURE:
        check_plain(source)
    return GgufTarget(sizes, architecture, metadata.window_note(sizes.windows if sizes.window else own.windows))


def _read_choices(options: ConversionOptions) -> TypeOverrides | None:
    if options.type is not None:
        return read_type_overrides(options.type, options.tensor_types, options.imatrix)
    if options.tensor_types or options.imatrix:
        option = "--tensor-type" if options.tensor_types else "--imatrix"
        raise UsageError(f"`{option}` needs a type for the rest of a GGUF", hint="add `-t Q4_K_M`")
    return None


def _nothing_to_change(source: GgufSource, sizes: Hyperparameters) -> UsageError:
    window = f"has the window {sizes.window}" if sizes.window else "has no window"
    return UsageError(
        f"{source.file.path}: is {source.file.type_name} and {window} already: nothing to change",
        hint="`--window N` puts a window in, `--window off` takes it out, `-t TYPE` quantizes again",
    )


def _outputs(
    source: GgufSource, target: GgufTarget, adapters: Sequence[tuple[Adapter, float]], *, as_floats: bool
) -> tuple[OutputTensor, ...]:
    tensors = source.tensors(as_floats=as_floats)
    for adapter, scale in adapters:
        tensors = merge(tensors, adapter, scale, target.sizes.head_dim)
    if target.architecture == PLAIN_ARCHITECTURE:
        return tensors
    return (*tensors, *(source.sinks() if source.is_windowed else sinks(target.sizes)))


def _plan(
    source: GgufSource, sizes: Hyperparameters, outputs: tuple[OutputTensor, ...], choices: TypeOverrides | None
) -> Plan:
    if choices is None:
        types = {info.name: ALL_TYPES[info.type] for info in source.file.tensors.values()}
        placed = [(tensor.name, tensor.shape, types.get(tensor.name, ALL_TYPES["F32"])) for tensor in outputs]
        plan = place_tensors(source.file.type_name, placed)
        _check_packable(plan, outputs)
        return plan
    return plan_outputs(outputs, sizes, choices)


def _check_packable(plan: Plan, outputs: tuple[OutputTensor, ...]) -> None:
    """See that what an adapter changes can keep its type."""
    for job in make_jobs(plan, outputs):
        kind = job.tensor.type.name
        if kind not in BLOCK_TYPES and not job.copied:
            raise UsageError(
                f"`{job.tensor.name}` is {kind}, which convert does not write", hint="choose a type with `-t`"
            )


def _warnings(source: GgufSource, outputs: tuple[OutputTensor, ...], plan: Plan) -> tuple[str, ...]:
    again = [
        job
        for job in make_jobs(plan, outputs)
        if (packed := _packed(job.rows)) and packed.kind.is_quantized and not job.copied
    ]
    if not again:
        return ()
    return (
        f"{len(again)} tensors of {source.file.type_name} are quantized a second time, which costs quality: "
        "the checkpoint, if you have it, makes a better file",
    )


def _packed(rows: Rows) -> PackedRows | None:
    """The packed rows that these are made of, if they are."""
    while isinstance(rows, ChangedRows):
        rows = rows.base
    return rows if isinstance(rows, PackedRows) else None


def _warnings_of_format(source: GgufSource, adapters: Sequence[tuple[Adapter, float]]) -> tuple[str, ...]:
    """An adapter may have taught a base model to answer, which a base model's file does not know."""
    if not adapters or source.file.metadata.get(MistralChatKey.PROMPT_FORMAT) != RAW:
        return ()
    return (
        "the file is a base model's, which continues text: if an adapter taught it to answer, "
        "`--prompt-format` at chat time says how it is asked",
    )


def _default_path(
    source: GgufSource, sizes: Hyperparameters, adapters: Sequence[tuple[Adapter, float]], choices: TypeOverrides | None
) -> Path:
    stem = source.file.path.stem
    name = _WINDOW_AT_END.sub("", stem)
    window = stem[len(name) :]
    if sizes.window != source.file.window:
        window = f"-window-{sizes.window}" if sizes.window else "-no-window"
    plain = _TYPE_AT_END.sub("", name)
    kind = f"-{choices.recipe.name}" if choices else name[len(plain) :]
    merged = metadata.short_name("".join(f"+{adapter.name}" for adapter, _ in adapters))
    return Path(f"{plain}{merged}{kind}{window}.gguf")


def report_of(draft: GgufConversion) -> ConversionReport:
    """Say what a draft would become."""
    file = draft.source.file
    window = draft.sizes.window
    return ConversionReport(
        output=str(draft.path),
        size=len(draft.header) + draft.plan.data_bytes,
        type=draft.plan.type_name,
        architecture=WINDOWED_ARCHITECTURE if window else PLAIN_ARCHITECTURE,
        window=window,
        context=draft.sizes.context,
        prompt_format=file.metadata.get(MistralChatKey.PROMPT_FORMAT),
        parameters=count_parameters([tensor for tensor in draft.outputs if not _is_sink(tensor)]),
        tensors=len(draft.plan.tensors),
        tensor_bytes=draft.plan.data_bytes,
        source=file.path.name,
        source_bytes=file.size,
        source_sha256=file.metadata.get(MistralChatKey.SOURCE_SHA256, ""),
        filled_in=(),
        warnings=draft.warnings,
        verified=False,
        seconds={},
    )


def _is_sink(tensor: OutputTensor) -> bool:
    return isinstance(tensor.rows, ConstantRow) or tensor.name.endswith("attn_sinks.weight")
