"""The command `convert`: its options, the report, and the plan of a dry run. Errors pass to the caller."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chat.errors import UsageError
from chat.system.terminal_text import count_text, size_text

if TYPE_CHECKING:
    from chat.system.environment import Environment
    from convert.calibration import CalibrationPlan
    from convert.draft import ConversionDraft, ConversionOptions, ConversionReport
    from convert.quantize.recipes import Plan

app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="Folder of a checkpoint, OWNER/NAME on the hub, or a GGUF (--window, -t or --lora)."
    ),
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="OUT", help="File to write.  [default: ./NAME-TYPE.gguf]")
]
TypeName = Annotated[
    str | None,
    typer.Option(
        "-t",
        "--type",
        metavar="TYPE",
        help="Q4_K_M, Q4_K_S, Q5_K_M, Q6_K, Q8_0, Q4_0, IQ4_XS, BF16, F16 or F32.  "
        "[default: Q4_K_M; F32 for an adapter; a GGUF keeps its own]",
    ),
]
Window = Annotated[
    str,
    typer.Option(
        metavar="auto|off|N", help="Sliding window: the model's own, none (a file for other programs), or N tokens."
    ),
]
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--lora", metavar="PATH[:SCALE]", help="Merge a LoRA adapter, of the hub too, while converting. (Repeatable.)"
    ),
]
Base = Annotated[
    str | None,
    typer.Option("--base", metavar="MODEL", help="SOURCE is a LoRA adapter: write it as a GGUF for this model."),
]
Imatrix = Annotated[
    Path | None,
    typer.Option("--imatrix", metavar="FILE", help="Importance matrix of llama-imatrix, for better small types."),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        "--calibrate", metavar="TEXT", help="Make the importance matrix with this text, and keep it beside the output."
    ),
]
TensorTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--tensor-type",
        metavar="REGEX=TYPE",
        help="Another type for the tensors whose name matches; the first match counts. (Repeatable.)",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan, write nothing, download no weights.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Do not read the written file again.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no summary.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show where an error comes from.")]


@app.command()
def convert(
    context: typer.Context,
    source: Source,
    output: Output = None,
    type_name: TypeName = None,
    window: Window = "auto",
    lora: Adapters = None,
    base: Base = None,
    imatrix: Imatrix = None,
    calibrate: Calibrate = None,
    tensor_type: TensorTypes = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    no_verify: NoVerify = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Turn a checkpoint into a GGUF, in one pass."""
    from convert.calibration import plan_calibration
    from convert.draft import ConversionOptions
    from convert.drafting import make_draft
    from convert.pipeline import convert as run
    from convert.source_resolver import find_adapter, find_outline, find_source

    if base is not None and lora:
        raise UsageError("`--base` and `--lora` cannot be used together")
    environment: Environment = context.obj
    say = _nothing if quiet else environment.notify
    adapters = tuple(find_adapter(text, say) for text in lora or ())
    with ExitStack() as stack:
        if dry_run:
            folder, is_whole = stack.enter_context(find_outline(source, say))
        else:
            folder, is_whole = find_source(source, say), True
        options = ConversionOptions(
            source=folder,
            output=output,
            type=type_name,
            window=window,
            overwrite=overwrite,
            verify=not no_verify,
            show_progress=not quiet,
            adapters=adapters,
            base=None if base is None else stack.enter_context(find_outline(base, say))[0],
            imatrix=imatrix,
            calibrate=calibrate,
            tensor_types=tuple(tensor_type or ()),
        )
        if dry_run:
            calibration = plan_calibration(options) if calibrate is not None else None
            draft = make_draft(options) if calibration is None else calibration.draft
            _show_draft(draft, calibration, options, environment, is_whole=is_whole, as_json=as_json)
        else:
            _show_report(run(options, environment), environment, as_json=as_json, quiet=quiet)
    return 0


def _nothing(_sentence: str) -> None:
    """Say nothing."""


def _show_report(report: ConversionReport, environment: Environment, *, as_json: bool, quiet: bool) -> None:

    if not quiet:
        for line in (*_notes(report), _summary(report)):
            environment.notify(line)
    if as_json:
        environment.print_json(report.to_json(), indent=2)
    else:
        environment.print(str(report.output))


def _notes(report: ConversionReport) -> list[str]:
    from convert.draft import ModelDetails

    notes = [*report.notes, *(f"warning: {warning}" for warning in report.warnings)]
    if isinstance(report.details, ModelDetails) and report.details.filled_in:
        notes.append(f"missing in the checkpoint, filled in: {', '.join(report.details.filled_in)}")
    return notes


def _summary(report: ConversionReport) -> str:
    from convert.draft import AdapterDetails

    details = report.details
    if isinstance(details, AdapterDetails):
        words = f"adapter of {report.tensors} tensors for the architecture {report.architecture}, {report.type}"
        return f"{words}, {size_text(report.size)}"
    window = f"window {details.window}" if details.window else "no window"
    words = (
        f"{report.type}, {count_text(details.parameters)} weights, {size_text(report.size)}, {window}, "
        f"prompt format {details.prompt_format or 'of its own template'}"
    )
    return f"{words}, {report.seconds['total']:.0f} s" if report.seconds else words


def _show_draft(
    draft: ConversionDraft,
    calibration: CalibrationPlan | None,
    options: ConversionOptions,
    environment: Environment,
    *,
    is_whole: bool,
    as_json: bool,
) -> None:
    """Print what a conversion would write.

    Args:
        calibration: how the importance matrix would be made, if `draft` is written with one of its own.
        is_whole: the source has its weights, which the fingerprint is made of.
    """
    from convert.draft import AdapterDetails
    from convert.output.gguf_writer import free_bytes

    report = draft.report()
    details = report.details
    report = replace(report, warnings=(*report.warnings, *_obstacles(draft, calibration, options)))
    if isinstance(details, AdapterDetails):
        _show_report(report, environment, as_json=as_json, quiet=not options.show_progress)
        return
    if not is_whole:
        report = replace(report, details=replace(details, source_sha256=""))
    free = free_bytes(draft.path)
    if as_json:
        tensors = [
            {"name": tensor.name, "shape": tensor.shape, "type": tensor.type.name, "bytes": tensor.nbytes}
            for tensor in draft.plan.tensors
        ]
        plan = {**report.to_json(), "free_bytes": free, "plan": tensors}
        if calibration is not None:
            size = calibration.temporary.size if calibration.temporary else 0
            plan["calibration"] = {"imatrix": str(calibration.matrix), "temporary_bytes": size}
        environment.print_json(plan, indent=2)
        return
    if calibration is not None:
        report = replace(report, notes=(calibration.note,))
    _print_plan(draft.plan, report, free, environment)


def _obstacles(
    draft: ConversionDraft, calibration: CalibrationPlan | None, options: ConversionOptions
) -> tuple[str, ...]:
    """What would stop the writing, as warnings: it does not stop a dry run."""
    from convert.output.gguf_writer import target_fault

    if calibration is not None:
        fault = calibration.fault(overwrite=options.overwrite)
    else:
        fault = target_fault(draft.path, draft.size, overwrite=options.overwrite)
    return (f"{fault.message}: {fault.hint}" if fault.hint else fault.message,) if fault else ()


def _print_plan(plan: Plan, report: ConversionReport, free_bytes: int, environment: Environment) -> None:
    width = max(len(tensor.name) for tensor in plan.tensors)
    for tensor in plan.tensors:
        shape = " x ".join(str(axis) for axis in tensor.shape)
        environment.print(f"{tensor.name:{width}}  {tensor.type.name:6}  {shape:20}  {tensor.nbytes:>14,}")
    environment.print(f"{report.output}: {report.size:,} bytes; {free_bytes:,} bytes are free on its disk")
    for line in (*_notes(report), _summary(report)):
        environment.notify(line)
