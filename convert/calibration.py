"""Plan and make the importance matrix of `--calibrate`: which file reads the text, and what is needed for it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chat.errors import FileError, UsageError
from chat.gguf.reader import read_gguf
from chat.system.progress import byte_bar
from chat.system.terminal_text import size_text
from convert.drafting import check_projector_alone, draft_model, open_model, read_types, writes_adapter
from convert.fit import draft_fit
from convert.gguf_source import is_gguf
from convert.output import gguf_writer
from convert.output.tensor_writer import NewFile, usable_cpus, write_tensors
from convert.projector import files_to_write
from convert.quantize.calibrate import (
    calibration_note,
    calibration_warnings,
    check_length,
    measure_importance,
    read_calibration_text,
    uses_importance,
)
from convert.quantize.imatrix import read_imatrix
from convert.quantize.kernels import load_library
from convert.quantize.recipes import find_recipe
from convert.quantize.type_overrides import TypeOverrides

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chat.system.environment import Environment
    from convert.draft import ConversionDraft, ConversionOptions
    from convert.from_checkpoint import CheckpointModel
    from convert.from_gguf import GgufModel
    from convert.quantize.calibrate import CalibrationText

CALIBRATED_TYPE = "Q8_0"  # of the temporary file that reads a text: half the size of F16, and nearly as exact


@dataclass(frozen=True)
class CalibrationPlan:
    """How `--calibrate` makes its importance matrix.

    Attributes:
        text: what is read.
        model: what is converted.
        types: of each new file, which lack the matrix yet; none where they are chosen for a size.
        drafts: the new files, without the matrix.
        matrix: where the matrix is kept.
        reader: the file that reads the text; None is a temporary one.
        temporary: the temporary file.
    """

    text: CalibrationText
    model: CheckpointModel | GgufModel
    types: tuple[TypeOverrides, ...]
    drafts: tuple[ConversionDraft, ...]
    matrix: Path
    reader: Path | None
    temporary: ConversionDraft | None

    def fault(self, *, overwrite: bool) -> FileError | None:
        """Why a file cannot be written, or None."""
        files = files_to_write(self.drafts, overwrite=overwrite)
        targets = [(draft.path, draft.size) for draft in files]
        fault = gguf_writer.targets_fault(targets, overwrite=overwrite)
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
            f"{self.reader} itself"
            if self.temporary is None
            else f"a temporary {CALIBRATED_TYPE} file of {size_text(self.temporary.size)} beside the output"
        )
        return f"{self.text.path} would be read with {reader}, and the importance matrix written to {self.matrix}"

    def drafts_with_matrix(self, options: ConversionOptions) -> tuple[ConversionDraft, ...]:
        """The new files, once the matrix has been made.

        Raises:
            ChatError: the matrix cannot be read.
        """
        matrix = read_imatrix(self.matrix)
        if options.fit is not None:
            return (draft_fit(self.model, options, matrix),)
        types = [
            replace(each, importance=matrix, is_to_be_measured=False) if each.is_to_be_measured else each
            for each in self.types
        ]
        return tuple(self.model.draft(each, draft.path) for each, draft in zip(types, self.drafts, strict=True))


def plan_calibration(options: ConversionOptions) -> CalibrationPlan:
    """Decide how the text of `--calibrate` is read, without reading weights or writing a byte.

    A GGUF is run itself, unless what is written has changed weights or another window.

    Raises:
        ChatError: the options, the source or the text are not usable.
    """
    if options.calibrate is None or options.imatrix is not None:
        raise UsageError("`--imatrix` and `--calibrate` cannot be used together")
    if writes_adapter(options):
        raise UsageError("`--calibrate` has no effect on an adapter", hint="calibrate the model that it is merged into")
    if options.projector == "only":
        check_projector_alone(options)
    text = read_calibration_text(options.calibrate)
    types = tuple(filter(None, read_types(options))) if options.fit is None else ()
    model = open_model(options)
    drafts = draft_model(model, types, options) if options.fit is None else (draft_fit(model, options, None),)
    if not any(uses_importance(draft.plan) for draft in drafts):
        raise UsageError(
            f"`--calibrate` changes nothing in {' and '.join(draft.plan.type_name for draft in drafts)}",
            hint="leave it out, or choose a smaller type such as `-t Q4_K_M`",
        )
    first = drafts[0].path
    matrix = first.with_name(f"{_matrix_name(drafts)}.imatrix.gguf")
    source = read_gguf(options.source) if is_gguf(options.source) else None
    if source and not options.adapters and source.window == model.target.sizes.window:
        return CalibrationPlan(text, model, types, drafts, matrix, options.source, None)
    temporary = model.draft(TypeOverrides(find_recipe(CALIBRATED_TYPE)), first.with_name(f"{first.name}.calibration"))
    return CalibrationPlan(text, model, types, drafts, matrix, None, temporary)


def _matrix_name(drafts: Sequence[ConversionDraft]) -> str:
    """The name of the one new file, or what the names of several have before and after their types."""
    name = drafts[0].path.name.removesuffix(".gguf")
    return name.replace(f"-{drafts[0].plan.type_name}", "") if len(drafts) > 1 else name


def make_matrix(
    plan: CalibrationPlan, options: ConversionOptions, environment: Environment | None
) -> tuple[str, tuple[str, ...]]:
    """Write the importance matrix.

    Returns:
        A sentence about it, and warnings.

    Raises:
        ChatError: a file cannot be written, the text is too short, or the model cannot be run.
    """
    fault = plan.fault(overwrite=options.overwrite)
    if fault is not None:
        raise fault
    shown = options.show_progress
    with ExitStack() as stack:
        matrix = stack.enter_context(gguf_writer.create(plan.matrix, 0, overwrite=options.overwrite))
        reader = plan.reader
        if plan.temporary is not None:
            load_library()
            file = stack.enter_context(gguf_writer.temporary(plan.temporary.path, plan.temporary.size))
            header, title = plan.temporary.header, f"writing {CALIBRATED_TYPE} to read the text"
            file.write(header, 0)
            check_length(file.path, plan.text)
            with byte_bar(title, plan.temporary.plan.data_bytes, enabled=shown, environment=environment) as bar:
                write_tensors([NewFile(plan.temporary.jobs, file, len(header))], usable_cpus(), bar)
            reader = file.path
        report = measure_importance(
            reader or options.source, plan.text, matrix.path, show_progress=shown, environment=environment
        )
    return calibration_note(report, plan.matrix), calibration_warnings(report)
