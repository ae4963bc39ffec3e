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
from convert.drafting import open_model, read_types, writes_adapter
from convert.gguf_source import is_gguf
from convert.output import gguf_writer
from convert.output.tensor_writer import usable_cpus, write_tensors
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
        types: of the new file, which lack the matrix yet.
        draft: the new file, without the matrix.
        matrix: where the matrix is kept.
        reader: the file that reads the text; None is a temporary one.
        temporary: the temporary file.
    """

    text: CalibrationText
    model: CheckpointModel | GgufModel
    types: TypeOverrides
    draft: ConversionDraft
    matrix: Path
    reader: Path | None
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
            f"{self.reader} itself"
            if self.temporary is None
            else f"a temporary {CALIBRATED_TYPE} file of {size_text(self.temporary.size)} beside the output"
        )
        return f"{self.text.path} would be read with {reader}, and the importance matrix written to {self.matrix}"

    def draft_with_matrix(self) -> ConversionDraft:
        """The new file, once the matrix has been made.

        Raises:
            ChatError: the matrix cannot be read.
        """
        types = replace(self.types, importance=read_imatrix(self.matrix), is_to_be_measured=False)
        return self.model.draft(types, self.draft.path)


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
    text = read_calibration_text(options.calibrate)
    types = read_types(options)
    assert types is not None  # a GGUF has been asked for one
    model = open_model(options)
    draft = model.draft(types, options.output)
    if not uses_importance(draft.plan):
        raise UsageError(
            f"`--calibrate` changes nothing in {draft.plan.type_name}",
            hint="leave it out, or choose a smaller type such as `-t Q4_K_M`",
        )
    matrix = draft.path.with_name(f"{draft.path.name.removesuffix('.gguf')}.imatrix.gguf")
    source = read_gguf(options.source) if is_gguf(options.source) else None
    if source and not options.adapters and source.window == model.target.sizes.window:
        return CalibrationPlan(text, model, types, draft, matrix, options.source, None)
    path = draft.path.with_name(f"{draft.path.name}.calibration")
    temporary = model.draft(TypeOverrides(find_recipe(CALIBRATED_TYPE)), path)
    return CalibrationPlan(text, model, types, draft, matrix, None, temporary)


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
                write_tensors(plan.temporary.jobs, file, len(header), usable_cpus(), bar)
            reader = file.path
        report = measure_importance(
            reader or options.source, plan.text, matrix.path, show_progress=shown, environment=environment
        )
    return calibration_note(report, plan.matrix), calibration_warnings(report)
