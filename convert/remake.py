"""The corridor from a GGUF to another: its window put in or taken out, its tensors as they are or quantized again."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chat.ground.errors import UsageError
from convert import gguf_file, metadata
from convert.block_types import ALL_TYPES
from convert.choices import Choices, read_choices
from convert.gguf_keys import remake_keys
from convert.gguf_source import GgufSource, check_plain, open_gguf, read_sizes
from convert.layout import OutputTensor, count_parameters, sinks
from convert.pipeline import Options, Report, choose_window, write_model
from convert.plan import Facts, Plan, make_plan, place_tensors
from convert.rows import ConstantRow
from convert.stream import Job

if TYPE_CHECKING:
    from convert.hparams import HParams

_WINDOW_AT_END = re.compile(r"-(?:no-window|window-\d+)$")
_TYPE_AT_END = re.compile(r"[-_.](?:I?Q\d\w*|TQ\d\w*|B?F\d\d|FP\d\d|MXFP4\w*)$", re.IGNORECASE)


@dataclass(frozen=True)
class Remake:
    """Everything that is known before the first tensor is read."""

    source: GgufSource
    sizes: HParams  # with the new window
    outputs: tuple[OutputTensor, ...]
    plan: Plan
    header: bytes
    path: Path
    choices: Choices | None  # None where the tensors keep their types
    warnings: tuple[str, ...]


def remake(options: Options) -> Report:
    """Make a GGUF of a GGUF, whole or not at all.

    Raises:
        ChatError: the options, the source or the disk are not usable; nothing is left under the output's name.
    """
    started = time.monotonic()
    draft = draft_remake(options)
    written = write_model(draft.path, draft.header, make_jobs(draft), options, started)
    return written.added_to(report_of(draft), verified=options.verify)


def preview_remake(options: Options) -> tuple[Plan, Report]:
    """What `remake` would write.

    Raises:
        ChatError: the options or the file are not usable, or nothing would change.
    """
    draft = draft_remake(options)
    return draft.plan, report_of(draft)


def draft_remake(options: Options) -> Remake:
    """Open the file and decide everything, without reading tensors or writing a byte.

    Raises:
        ChatError: the options or the file are not usable, or nothing would change.
    """
    if options.adapters:
        raise UsageError(
            "`--lora` merges into a checkpoint, not into a GGUF", hint="run the GGUF with `mistral-chat --lora PATH`"
        )
    choices = _read_choices(options)
    source = open_gguf(options.source)
    own = read_sizes(source.file)
    applied = own.windows if source.is_carrier else (None,) * own.layers
    sizes = choose_window(own, options.window)
    architecture = metadata.architecture_of(sizes) if sizes.windows != applied else source.file.architecture
    if architecture == metadata.PLAIN:
        sizes = sizes.with_window(None)
    if choices is None and sizes.windows == applied:
        raise _nothing_to_change(source, sizes)
    if source.is_carrier and architecture == metadata.PLAIN:
        check_plain(source)
    outputs = _outputs(source, sizes, architecture, as_floats=choices is not None)
    plan = _plan(source, sizes, outputs, choices)
    note = metadata.window_note(sizes.windows if sizes.window else own.windows) if sizes.windows != applied else ()
    keys = remake_keys(
        source.file, architecture, sizes, choices.recipe if choices else None, choices.keys() if choices else (), note
    )
    header = gguf_file.encode_header(keys, plan.tensors)
    path = options.output or _default_path(source, sizes, choices)
    warnings = (*_warnings(source, outputs, plan), *(choices.warnings(plan) if choices else ()))
    return Remake(source, sizes, outputs, plan, header, path, choices, warnings)


def _read_choices(options: Options) -> Choices | None:
    if options.type is not None:
        return read_choices(options.type, options.tensor_types, options.imatrix)
    if options.tensor_types or options.imatrix:
        option = "--tensor-type" if options.tensor_types else "--imatrix"
        raise UsageError(f"`{option}` needs a type for the rest of a GGUF", hint="add `-t Q4_K_M`")
    return None


def _nothing_to_change(source: GgufSource, sizes: HParams) -> UsageError:
    window = f"has the window {sizes.window}" if sizes.window else "has no window"
    return UsageError(
        f"{source.file.path}: is {source.file.type_name} and {window} already: nothing to change",
        hint="`--window N` puts a window in, `--window off` takes it out, `-t TYPE` quantizes again",
    )


def _outputs(source: GgufSource, sizes: HParams, architecture: str, *, as_floats: bool) -> tuple[OutputTensor, ...]:
    tensors = source.tensors(as_floats=as_floats)
    if architecture == metadata.PLAIN:
        return tensors
    return (*tensors, *(source.sinks() if source.is_carrier else sinks(sizes)))


def _plan(source: GgufSource, sizes: HParams, outputs: tuple[OutputTensor, ...], choices: Choices | None) -> Plan:
    if choices is None:
        types = {info.name: ALL_TYPES[info.type] for info in source.file.tensors.values()}
        placed = [(tensor.name, tensor.shape, types.get(tensor.name, ALL_TYPES["F32"])) for tensor in outputs]
        return place_tensors(source.file.type_name, placed)
    facts = Facts(
        sizes.layers,
        sizes.heads,
        sizes.kv_heads,
        sizes.experts,
        has_importance=choices.importance is not None,
        is_tied=sizes.is_tied,
    )
    return make_plan(choices.recipe, [(tensor.name, tensor.shape) for tensor in outputs], facts, choices.overrides)


def _warnings(source: GgufSource, outputs: tuple[OutputTensor, ...], plan: Plan) -> tuple[str, ...]:
    types = {tensor.name: tensor.type for tensor in plan.tensors}
    stored = source.file.tensors
    again = [
        info
        for info in stored.values()
        if info.name in types and ALL_TYPES[info.type].is_quantized and types[info.name] != ALL_TYPES[info.type]
    ]
    if not again:
        return ()
    return (
        f"{len(again)} tensors of {source.file.type_name} are quantized a second time, which costs quality: "
        "the checkpoint, if you have it, makes a better file",
    )


def _default_path(source: GgufSource, sizes: HParams, choices: Choices | None) -> Path:
    stem = source.file.path.stem
    name = _WINDOW_AT_END.sub("", stem)
    window = stem[len(name) :]
    if choices:
        name = f"{_TYPE_AT_END.sub('', name)}-{choices.recipe.name}"
    if sizes.window != source.file.window:
        window = f"-window-{sizes.window}" if sizes.window else "-no-window"
    return Path(f"{name}{window}.gguf")


def make_jobs(draft: Remake) -> tuple[Job, ...]:
    """The planned tensors, in the order of the file, each with its rows."""
    rows = {tensor.name: tensor.rows for tensor in draft.outputs}
    importance = draft.choices.importance_of if draft.choices else lambda _: None
    return tuple(Job(tensor, rows[tensor.name], importance(tensor)) for tensor in draft.plan.tensors)


def report_of(draft: Remake) -> Report:
    """Say what a draft would become."""
    file = draft.source.file
    window = draft.sizes.window
    return Report(
        output=str(draft.path),
        size=len(draft.header) + draft.plan.data_bytes,
        type=draft.plan.type_name,
        architecture=metadata.CARRIER if window else metadata.PLAIN,
        window=window,
        context=draft.sizes.context,
        prompt_format=file.metadata.get("mistral_chat.prompt_format"),
        parameters=count_parameters([tensor for tensor in draft.outputs if not _is_sink(tensor)]),
        tensors=len(draft.plan.tensors),
        tensor_bytes=draft.plan.data_bytes,
        source=file.path.name,
        source_bytes=file.size,
        source_sha256=file.metadata.get("mistral_chat.source_sha256", ""),
        filled_in=(),
        warnings=draft.warnings,
        verified=False,
        seconds={},
    )


def _is_sink(tensor: OutputTensor) -> bool:
    return isinstance(tensor.rows, ConstantRow) or tensor.name.endswith("attn_sinks.weight")
