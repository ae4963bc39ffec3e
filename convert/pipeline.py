"""Convert a checkpoint, a GGUF or an adapter: draft the new file, write it, verify it, report it."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chat.errors import FileError, UsageError
from chat.gguf.reader import read_gguf
from chat.system.progress import byte_bar
from chat.system.terminal_text import size_text
from convert.draft import ModelDetails
from convert.from_checkpoint import draft_checkpoint
from convert.from_gguf import draft_gguf
from convert.from_lora import draft_adapter
from convert.gguf_source import is_gguf
from convert.lora.adapter import is_adapter
from convert.output import gguf_writer
from convert.output.tensor_writer import usable_cpus, write_tensors
from convert.output.verify import try_out, verify
from convert.quantize.calibrate import (
    calibration_note,
    calibration_warnings,
    check_length,
    measure_importance,
    read_calibration_text,
    uses_importance,
)
from convert.quantize.kernels import load_library, slow_types

if TYPE_CHECKING:
    from pathlib import Path

    from chat.system.environment import Environment
    from convert.draft import ConversionDraft, ConversionOptions, ConversionReport
    from convert.output.gguf_writer import PartialFile
    from convert.output.tensor_writer import Checksum
    from convert.quantize.calibrate import CalibrationText

CALIBRATED_TYPE = "Q8_0"  # of the temporary file that reads a text: half the size of F16, and nearly as exact


def convert(options: ConversionOptions, environment: Environment | None = None) -> ConversionReport:
    """Convert the source in one pass; the new file exists whole or not at all.

    Args:
        options: what to convert, and how.
        environment: where progress is shown; the process's own by default.

    Raises:
        ChatError: the options, the source or the disk are not usable; nothing is left under the output's name.
    """
    started = time.monotonic()
    if options.calibrate is None:
        return _write(make_draft(options), options, started, environment)
    plan = plan_calibration(options)
    note, warnings = _calibrate(plan, options, environment)
    seconds = {"calibrate": round(time.monotonic() - started, 3)}
    with_matrix = replace(options, calibrate=None, imatrix=plan.matrix)
    report = _write(make_draft(with_matrix), with_matrix, time.monotonic(), environment)
    seconds |= {**report.seconds, "total": round(time.monotonic() - started, 3)}
    return replace(report, warnings=(*report.warnings, *warnings), seconds=seconds, notes=(note,))


def make_draft(options: ConversionOptions) -> ConversionDraft:
    """Decide what `convert` would write, without reading weights or writing a byte.

    Raises:
        ChatError: the options or the source are not usable.
    """
    if options.base is not None or is_adapter(options.source):
        return draft_adapter(options)
    if is_gguf(options.source):
        return draft_gguf(options)
    return draft_checkpoint(options)


@dataclass(frozen=True)
class CalibrationPlan:
    """How `--calibrate` makes its importance matrix.

    Attributes:
        text: what is read.
        draft: the file that is written with the matrix.
        matrix: where the matrix is kept.
        model: the file that reads the text; None is a temporary one.
        temporary: the temporary file.
    """

    text: CalibrationText
    draft: ConversionDraft
    matrix: Path
    model: Path | None
    temporary: ConversionDraft | None

    def fault(self, *, overwrite: bool) -> FileError | None:
        """Why a file cannot be written, or None."""
        fault = gguf_writer.target_fault(self.draft.path, self.draft.size, overwrite=overwrite)
        if fault is not None:
            return fault
        if self.matrix.is_dir() or (os.path.lexists(self.matrix) and not overwrite):
            hint = "use it with `--imatrix`, or replace it with `--overwrite`"
            return FileError(f"{self.matrix} exists already", hint=hint)
        if self.temporary is not None:
            free = gguf_writer.free_bytes(self.temporary.path)
            if self.temporary.size > free:
                return FileError(
                    f"{self.matrix.absolute().parent}: {size_text(self.temporary.size)} are needed for a while, for "
                    f"the {CALIBRATED_TYPE} file that reads the text, but {size_text(free)} are free",
                    hint="write to another disk with `-o`",
                )
        return None

    @property
    def note(self) -> str:
        """What a dry run says."""
        reader = (
            f"{self.model} itself"
            if self.temporary is None
            else f"a temporary {CALIBRATED_TYPE} file of {size_text(self.temporary.size)} beside the output"
        )
        return f"{self.text.path} would be read with {reader}, and the importance matrix written to {self.matrix}"


def plan_calibration(options: ConversionOptions) -> CalibrationPlan:
    """Decide how the text of `--calibrate` is read, without reading weights or writing a byte.

    A GGUF is run itself, unless what is written has changed weights or another window.

    Raises:
        ChatError: the options, the source or the text are not usable.
    """
    if options.calibrate is None or options.imatrix is not None:
        raise UsageError("`--imatrix` and `--calibrate` cannot be used together")
    if options.base is not None or is_adapter(options.source):
        raise UsageError("`--calibrate` has no effect on an adapter", hint="calibrate the model that it is merged into")
    text = read_calibration_text(options.calibrate)
    draft = make_draft(options)
    if not uses_importance(draft.plan):
        raise UsageError(
            f"`--calibrate` changes nothing in {draft.plan.type_name}",
            hint="leave it out, or choose a smaller type such as `-t Q4_K_M`",
        )
    matrix = draft.path.with_name(f"{draft.path.name.removesuffix('.gguf')}.imatrix.gguf")
    source = read_gguf(options.source) if is_gguf(options.source) else None
    if source and not options.adapters and source.window == _window_of(draft):
        return CalibrationPlan(text, draft, matrix, options.source, None)
    whole = replace(
        options,
        calibrate=None,
        type=CALIBRATED_TYPE,
        tensor_types=(),
        output=draft.path.with_name(f"{draft.path.name}.calibration"),
    )
    return CalibrationPlan(text, draft, matrix, None, make_draft(whole))


def _window_of(draft: ConversionDraft) -> int | None:
    return draft.details.window if isinstance(draft.details, ModelDetails) else None


def _calibrate(
    plan: CalibrationPlan, options: ConversionOptions, environment: Environment | None
) -> tuple[str, tuple[str, ...]]:
    """Write the importance matrix; a sentence about it, and warnings."""
    fault = plan.fault(overwrite=options.overwrite)
    if fault is not None:
        raise fault
    shown = options.show_progress
    with ExitStack() as stack:
        matrix = stack.enter_context(gguf_writer.create(plan.matrix, 0, overwrite=options.overwrite))
        model = plan.model
        if plan.temporary is not None:
            load_library()
            file = stack.enter_context(gguf_writer.temporary(plan.temporary.path, plan.temporary.size))
            file.write(plan.temporary.header, 0)
            check_length(file.path, plan.text)
            _write_tensors(plan.temporary, file, f"writing {CALIBRATED_TYPE} to read the text", shown, environment)
            model = file.path
        report = measure_importance(
            model or options.source, plan.text, matrix.path, show_progress=shown, environment=environment
        )
    return calibration_note(report, plan.matrix), calibration_warnings(report)


def _write_tensors(
    draft: ConversionDraft, file: PartialFile, title: str, shown: bool, environment: Environment | None
) -> tuple[Checksum, ...]:
    """Fill a new file."""
    file.write(draft.header, 0)
    with byte_bar(title, draft.plan.data_bytes, enabled=shown, environment=environment) as bar:
        return write_tensors(draft.jobs, file, len(draft.header), usable_cpus(), bar)


def _write(
    draft: ConversionDraft, options: ConversionOptions, started: float, environment: Environment | None
) -> ConversionReport:
    """Write the drafted file, and verify it before it gets its name.

    Args:
        started: when the conversion began, in seconds of `time.monotonic()`.
    """
    gguf_writer.check_target(draft.path, draft.size, overwrite=options.overwrite)
    load_library()
    seconds: dict[str, float] = {}
    untried: str | None = None
    with gguf_writer.create(draft.path, draft.size, overwrite=options.overwrite) as file:
        size, shown = draft.plan.data_bytes, options.show_progress
        checksums = _write_tensors(draft, file, f"writing {draft.path.name}", shown, environment)
        seconds["write"] = time.monotonic() - started
        if options.verify:
            with byte_bar("verifying", size, enabled=shown, environment=environment) as bar:
                verify(file.path, draft.jobs, checksums, bar)
                bar.describe("trying it out")
                untried = try_out(file.path)
            seconds["verify"] = time.monotonic() - started - seconds["write"]
    seconds["total"] = time.monotonic() - started
    report = draft.report()
    return replace(
        report,
        warnings=(*report.warnings, *_slow_packing(draft), *([untried] if untried else [])),
        verified=options.verify,
        seconds={part: round(value, 3) for part, value in seconds.items()},
    )


def _slow_packing(draft: ConversionDraft) -> tuple[str, ...]:
    """A word for the types that the fast kernels are built for, but could not pack."""
    packed = {(job.tensor.type, job.importance is not None) for job in draft.jobs if not job.copied}
    slow = slow_types(packed)
    if not slow:
        return ()
    return (f"{', '.join(slow)} was packed with llama.cpp's own, slower kernels, as this build of it rounds otherwise",)
