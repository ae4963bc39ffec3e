"""Flags -> one conversion, a dry run or a report. Catches nothing: the chat's command line turns errors into words."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chat.errors import UsageError
from chat.system.console import tell
from chat.system.units import count_text, size_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.from_lora import AdapterReport
    from convert.pipeline import ConversionOptions, ConversionReport
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
    source: Source,
    output: Output = None,
    type_name: TypeName = None,
    window: Window = "auto",
    lora: Adapters = None,
    base: Base = None,
    imatrix: Imatrix = None,
    tensor_type: TensorTypes = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    no_verify: NoVerify = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Turn a checkpoint into a GGUF, in one pass."""
    from convert.from_gguf import convert_gguf
    from convert.gguf_source import is_gguf
    from convert.lora.adapter import is_adapter
    from convert.pipeline import ConversionOptions
    from convert.pipeline import convert as run
    from convert.source_resolver import find_adapter, find_outline, find_source

    say = _nothing if quiet else tell
    adapters = tuple(find_adapter(text, say) for text in lora or ())
    with find_outline(source, say) if dry_run else nullcontext((find_source(source, say), True)) as (folder, is_whole):
        options = ConversionOptions(
            source=folder,
            output=output,
            type=type_name,
            window=window,
            overwrite=overwrite,
            verify=not no_verify,
            show_progress=not quiet,
            adapters=adapters,
            imatrix=imatrix,
            tensor_types=tuple(tensor_type or ()),
        )
        if base is not None or is_adapter(folder):
            return _convert_adapter(options, base, say, dry_run=dry_run, as_json=as_json)
        if dry_run:
            return _show_plan(options, is_whole=is_whole, as_json=as_json)
        _show_report((convert_gguf if is_gguf(folder) else run)(options), as_json=as_json, quiet=quiet)
    return 0


def _nothing(_sentence: str) -> None:
    """Say nothing."""


def _show_report(report: ConversionReport, *, as_json: bool, quiet: bool) -> None:
    import json

    if not quiet:
        for line in (*_notes(report), _summary(report)):
            tell(line)
    print(json.dumps(report.to_json(), indent=2) if as_json else report.output)


def _notes(report: ConversionReport) -> list[str]:
    notes = [f"warning: {warning}" for warning in report.warnings]
    if report.filled_in:
        notes.append(f"not said by the checkpoint, filled in: {', '.join(report.filled_in)}")
    return notes


def _summary(report: ConversionReport) -> str:
    window = f"window {report.window}" if report.window else "no window"
    words = (
        f"{report.type}, {count_text(report.parameters)} weights, {size_text(report.size)}, {window}, "
        f"prompt format {report.prompt_format or 'of its own template'}"
    )
    return f"{words}, {report.seconds['total']:.0f} s" if report.seconds else words


def _convert_adapter(
    options: ConversionOptions, base: str | None, say: Callable[[str], None], *, dry_run: bool, as_json: bool
) -> int:
    import json

    from convert.from_lora import draft_adapter, report_of, write_adapter
    from convert.source_resolver import find_outline

    if base is None:
        raise UsageError(
            f"{options.source} is an adapter",
            hint="write it for a model with `--base MODEL`, or merge it with `convert MODEL --lora ADAPTER`",
        )
    if options.adapters:
        raise UsageError("`--base` and `--lora` exclude each other")
    with find_outline(base, say) as (model, _):
        draft = draft_adapter(options, model)
        report = report_of(draft) if dry_run else write_adapter(draft, options)
    if dry_run:
        report = replace(report, warnings=(*report.warnings, *_obstacles(report, options)))
    if options.show_progress:
        for warning in report.warnings:
            tell(f"warning: {warning}")
        words = f"adapter of {report.tensors} tensors for the architecture {report.architecture}, {report.type}"
        tell(f"{words}, {size_text(report.size)}")
    print(json.dumps(report.to_json(), indent=2) if as_json else report.output)
    return 0


def _show_plan(options: ConversionOptions, *, is_whole: bool, as_json: bool) -> int:
    from convert.from_gguf import preview_gguf
    from convert.gguf_source import is_gguf
    from convert.output.gguf_writer import free_bytes
    from convert.pipeline import preview

    plan, report = (preview_gguf if is_gguf(options.source) else preview)(options)
    if not is_whole:
        report = replace(report, source_sha256="")  # of weights that are not here
    report = replace(report, warnings=(*report.warnings, *_obstacles(report, options)))
    free = free_bytes(Path(report.output))
    if as_json:
        import json

        tensors = [
            {"name": tensor.name, "shape": tensor.shape, "type": tensor.type.name, "bytes": tensor.nbytes}
            for tensor in plan.tensors
        ]
        print(json.dumps({**report.to_json(), "free_bytes": free, "plan": tensors}, indent=2))
        return 0
    _print_plan(plan, report, free)
    return 0


def _obstacles(report: ConversionReport | AdapterReport, options: ConversionOptions) -> tuple[str, ...]:
    """What would stop the writing, in words; it does not stop a dry run."""
    from convert.output.gguf_writer import target_fault

    fault = target_fault(Path(report.output), report.size, overwrite=options.overwrite)
    return (f"{fault.message}: {fault.hint}" if fault.hint else fault.message,) if fault else ()


def _print_plan(plan: Plan, report: ConversionReport, free: int) -> None:
    width = max(len(tensor.name) for tensor in plan.tensors)
    for tensor in plan.tensors:
        shape = " x ".join(str(axis) for axis in tensor.shape)
        print(f"{tensor.name:{width}}  {tensor.type.name:6}  {shape:20}  {tensor.nbytes:>14,}")
    print(f"{report.output}: {report.size:,} bytes; {free:,} bytes are free on its disk")
    for line in (*_notes(report), _summary(report)):
        tell(line)
