"""Convert a checkpoint, a GGUF or an adapter: draft the new file, write it, verify it, report it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from chat.system.progress import byte_bar
from convert.calibration import make_matrix, plan_calibration
from convert.drafting import make_draft
from convert.output import gguf_writer
from convert.output.tensor_writer import usable_cpus, write_tensors
from convert.output.verify import try_out, verify
from convert.quantize.kernels import load_library, slow_types

if TYPE_CHECKING:
    from chat.system.environment import Environment
    from convert.draft import ConversionDraft, ConversionOptions, ConversionReport


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
    note, warnings = make_matrix(plan, options, environment)
    seconds = {"calibrate": round(time.monotonic() - started, 3)}
    report = _write(plan.draft_with_matrix(), options, time.monotonic(), environment)
    seconds |= {**report.seconds, "total": round(time.monotonic() - started, 3)}
    return replace(report, warnings=(*report.warnings, *warnings), seconds=seconds, notes=(note,))


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
        file.write(draft.header, 0)
        with byte_bar(f"writing {draft.path.name}", size, enabled=shown, environment=environment) as bar:
            checksums = write_tensors(draft.jobs, file, len(draft.header), usable_cpus(), bar)
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
