"""The corridor from a checkpoint to a GGUF, read top to bottom. Knows the order of the rooms, none of their work."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.errors import UsageError
from chat.gguf.keys import WINDOWED_ARCHITECTURE
from chat.gguf.types import align
from chat.gguf.writer import encode_header
from chat.system.progress import byte_bar
from convert.architecture.hyperparameters import Hyperparameters, read_hyperparameters
from convert.checkpoint.folder import Checkpoint, open_checkpoint
from convert.lora.adapter import open_adapter
from convert.lora.merge import merge
from convert.output import gguf_writer, metadata
from convert.output.fingerprint import fingerprint, fingerprint_with
from convert.output.tensor_writer import Job, usable_cpus, write_tensors
from convert.output.verify import try_out, verify
from convert.quantize.kernels import load_library
from convert.quantize.recipes import Facts, Plan, make_plan
from convert.quantize.type_overrides import TypeOverrides, read_type_overrides
from convert.tensors.layout import OutputTensor, count_parameters, lay_out, shape_finder, sinks
from convert.tensors.text_model import read_text_model
from convert.tokenizer.load import read_vocabulary
from convert.tokenizer.prompt_formats import RAW, is_base_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convert.tokenizer.vocabulary import GgufVocabulary


DEFAULT_TYPE = "Q4_K_M"


@dataclass(frozen=True)
class ConversionOptions:
    """What a person asked for."""

    source: Path
    output: Path | None = None  # None: NAME-TYPE.gguf in the current folder
    type: str | None = None  # None: DEFAULT_TYPE; a GGUF keeps its own types
    window: str = "auto"  # auto | off | a number of tokens
    overwrite: bool = False
    verify: bool = True
    show_progress: bool = True
    adapters: tuple[tuple[Path, float], ...] = ()  # with the scale of each, merged in this order
    imatrix: Path | None = None
    tensor_types: tuple[str, ...] = ()  # REGEX=TYPE, the first that matches counts


@dataclass(frozen=True)
class ConversionDraft:
    """Everything that is known before the first weight is read."""

    checkpoint: Checkpoint
    hparams: Hyperparameters
    vocabulary: GgufVocabulary
    outputs: tuple[OutputTensor, ...]
    plan: Plan
    origin: metadata.Origin
    header: bytes
    path: Path
    choices: TypeOverrides
    warnings: tuple[str, ...] = ()  # about the weights; the vocabulary has its own

    @property
    def size(self) -> int:
        """Bytes of the file to be."""
        return len(self.header) + self.plan.data_bytes


@dataclass(frozen=True)
class ConversionReport:
    """What was made, or would be, for `--json` and the summary."""

    output: str
    size: int  # bytes
    type: str
    architecture: str
    window: int | None  # tokens, in force in this file
    context: int  # tokens
    prompt_format: str | None
    parameters: int
    tensors: int
    tensor_bytes: int
    source: str
    source_bytes: int
    source_sha256: str
    filled_in: tuple[str, ...]
    warnings: tuple[str, ...]
    verified: bool
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Written:
    """How the writing went: the seconds of each part, and what a person should know."""

    seconds: dict[str, float]
    warnings: tuple[str, ...]

    def added_to(self, report: ConversionReport, *, verified: bool) -> ConversionReport:
        """The report of what was planned, after the fact."""
        seconds = {name: round(value, 3) for name, value in self.seconds.items()}
        return replace(report, warnings=(*report.warnings, *self.warnings), verified=verified, seconds=seconds)


def convert(options: ConversionOptions) -> ConversionReport:
    """Make a GGUF of a checkpoint, in one pass, whole or not at all.

    Raises:
        ChatError: the options, the source or the disk are not usable; nothing is left under the output's name.
    """
    started = time.monotonic()
    draft = make_draft(options)
    jobs = make_jobs(draft.plan, draft.outputs, draft.choices)
    written = write_model(draft.path, draft.header, jobs, options, started)
    return written.added_to(make_report(draft), verified=options.verify)


def write_model(
    path: Path, header: bytes, jobs: tuple[Job, ...], options: ConversionOptions, started: float
) -> Written:
    """Write a planned file, and prove it before it gets its name.

    Args:
        started: When the work began, as `time.monotonic()` says it.

    Raises:
        ChatError: the target or the disk is not usable, or a tensor cannot be written.
    """
    data_bytes = jobs[-1].tensor.offset + align(jobs[-1].tensor.nbytes)
    size = len(header) + data_bytes
    gguf_writer.check_target(path, size, overwrite=options.overwrite)
    load_library()
    seconds: dict[str, float] = {}
    untried: str | None = None
    with gguf_writer.create(path, size, overwrite=options.overwrite) as file:
        file.write(header, 0)
        with byte_bar(f"writing {path.name}", data_bytes, enabled=options.show_progress) as bar:
            checksums = write_tensors(jobs, file, len(header), usable_cpus(), bar)
        seconds["write"] = time.monotonic() - started
        if options.verify:
            with byte_bar("verifying", data_bytes, enabled=options.show_progress) as bar:
                verify(file.path, jobs, checksums, bar)
                bar.describe("trying it out")
                untried = try_out(file.path)
            seconds["verify"] = time.monotonic() - started - seconds["write"]
    seconds["total"] = time.monotonic() - started
    return Written(seconds, (untried,) if untried else ())


def preview(options: ConversionOptions) -> tuple[Plan, ConversionReport]:
    """What `convert` would write, decided without reading weights or writing a byte.

    Raises:
        ChatError: the options or the source are not usable.
    """
    draft = make_draft(options)
    return draft.plan, make_report(draft)


def make_draft(options: ConversionOptions) -> ConversionDraft:
    """Open the source and decide everything, without reading weights or writing a byte.

    Raises:
        ChatError: the options or the source are not usable.
    """
    choices = read_type_overrides(options.type or DEFAULT_TYPE, options.tensor_types, options.imatrix)
    checkpoint = open_checkpoint(options.source)
    sources = read_text_model(checkpoint)
    stated = read_hyperparameters(checkpoint.config_path, sources.config, shape_finder(sources.tensors))
    hparams = choose_window(stated, options.window)
    outputs = lay_out(sources.tensors, hparams)  # first: sizes that no tensor has must not fill a vocabulary
    vocabulary = choose_prompt_format(read_vocabulary(checkpoint.folder, hparams.vocabulary), checkpoint.name, options)
    adapters = [(open_adapter(path), scale) for path, scale in options.adapters]
    for adapter, scale in adapters:
        outputs = merge(outputs, adapter, scale, hparams.head_dim)
    name = "+".join((checkpoint.name, *(adapter.name for adapter, _ in adapters)))
    sha256 = fingerprint_with(fingerprint(checkpoint), adapters)
    origin = metadata.Origin(name, sha256, count_parameters(outputs), stated.windows)
    if metadata.architecture_of(hparams) == WINDOWED_ARCHITECTURE:
        outputs += sinks(hparams)
    plan = plan_outputs(outputs, hparams, choices)
    keys = (*metadata.make_keys(hparams, vocabulary, choices.recipe, origin), *choices.keys())
    header = encode_header(keys, plan.tensors)
    path = options.output or Path(f"{origin.short_name}-{plan.type_name}.gguf")
    of_adapters = (warning for adapter, _ in adapters for warning in adapter.warnings)
    warnings = (*sources.warnings, *of_adapters, *choices.warnings(plan))
    return ConversionDraft(checkpoint, hparams, vocabulary, outputs, plan, origin, header, path, choices, warnings)


def plan_outputs(outputs: Sequence[OutputTensor], hparams: Hyperparameters, choices: TypeOverrides) -> Plan:
    """Give tensors the types that a person chose for a model of these sizes."""
    facts = Facts(
        hparams.layers,
        hparams.heads,
        hparams.kv_heads,
        hparams.experts,
        has_importance=choices.importance is not None,
        is_tied=hparams.is_tied,
    )
    return make_plan(choices.recipe, [(tensor.name, tensor.shape) for tensor in outputs], facts, choices.overrides)


def choose_prompt_format(vocabulary: GgufVocabulary, name: str, options: ConversionOptions) -> GgufVocabulary:
    """A base model without a chat template continues text, whatever its vocabulary has; an adapter may teach it."""
    if vocabulary.chat_templates or options.adapters or not is_base_model(name):
        return vocabulary
    taught = vocabulary.prompt_format
    way_out = f"; `--prompt-format {taught}` at chat time asks it as if it were" if taught else ""
    warning = f"{name} is a base model, which continues text and was not taught to answer{way_out}"
    return replace(vocabulary, prompt_format=RAW, warnings=(*vocabulary.warnings, warning))


def choose_window(hparams: Hyperparameters, wanted: str) -> Hyperparameters:
    """The sizes with the window that `--window` asks for.

    Raises:
        UsageError: it is neither auto, off nor a number of tokens.
    """
    if wanted == "auto":
        return hparams
    if wanted == "off":
        return hparams.with_window(None)
    if wanted.isascii() and wanted.isdigit() and 0 < int(wanted) < 1 << 31:
        return hparams.with_window(int(wanted))
    raise UsageError(f"`--window {wanted}` is neither `auto`, `off` nor a number of tokens")


def make_jobs(plan: Plan, outputs: Sequence[OutputTensor], choices: TypeOverrides | None = None) -> tuple[Job, ...]:
    """The planned tensors, in the order of the file, each with its rows."""
    rows = {tensor.name: tensor.rows for tensor in outputs}
    importance = choices.importance_of if choices else lambda _: None
    return tuple(Job(tensor, rows[tensor.name], importance(tensor)) for tensor in plan.tensors)


def make_report(draft: ConversionDraft) -> ConversionReport:
    """Say what a draft became, or would become."""
    architecture = metadata.architecture_of(draft.hparams)
    return ConversionReport(
        output=str(draft.path),
        size=draft.size,
        type=draft.plan.type_name,
        architecture=architecture,
        window=draft.hparams.window if architecture == WINDOWED_ARCHITECTURE else None,
        context=draft.hparams.context,
        prompt_format=draft.vocabulary.prompt_format,
        parameters=draft.origin.parameters,
        tensors=len(draft.plan.tensors),
        tensor_bytes=draft.plan.data_bytes,
        source=draft.origin.name,
        source_bytes=draft.checkpoint.nbytes,
        source_sha256=draft.origin.sha256,
        filled_in=draft.hparams.filled_in,
        warnings=(*draft.warnings, *draft.vocabulary.warnings),
        verified=False,
        seconds={},
    )
