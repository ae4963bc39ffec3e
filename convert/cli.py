"""The command `convert`: its options. Errors pass to the caller."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chat.errors import UsageError
from chat.system.process_limits import require_address_space, require_threads

if TYPE_CHECKING:
    from chat.system.environment import Environment

app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="Folder of a checkpoint, OWNER/NAME on the hub, or a GGUF (--window, -t or --lora)."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="File to write, or the folder of several files.  [default: ./NAME-TYPE.gguf]",
    ),
]
TypeNames = Annotated[
    list[str] | None,
    typer.Option(
        "-t",
        "--type",
        metavar="TYPE",
        help="Q4_K_M, Q4_K_S, Q5_K_M, Q6_K, Q8_0, Q4_0, IQ4_XS, BF16, F16 or F32; each of several makes a file. "
        "(Repeatable.)  [default: Q4_K_M; F32 for an adapter; a GGUF keeps its own]",
    ),
]
Fit = Annotated[
    str | None,
    typer.Option(
        "--fit",
        metavar="SIZE",
        help="In place of a type: the types that lose least in a file of 5GB, or on a machine of 8GB-ram.",
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
Mmproj = Annotated[
    bool | None,
    typer.Option(
        "--mmproj/--no-mmproj",
        help="Write only the picture encoder of a model that sees, or none.  [default: mmproj-NAME-F16.gguf beside "
        "the model]",
        show_default=False,
    ),
]
MmprojType = Annotated[
    str | None,
    typer.Option("--mmproj-type", metavar="TYPE", help="Of the picture encoder: F16, F32, BF16 or Q8_0."),
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
    type_name: TypeNames = None,
    fit: Fit = None,
    window: Window = "auto",
    lora: Adapters = None,
    base: Base = None,
    imatrix: Imatrix = None,
    calibrate: Calibrate = None,
    tensor_type: TensorTypes = None,
    mmproj: Mmproj = None,
    mmproj_type: MmprojType = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    no_verify: NoVerify = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Turn a checkpoint into a GGUF, in one pass."""
    require_address_space("a conversion")  # before numpy is loaded
    require_threads()
    from convert.command_output import show_drafts, show_reports
    from convert.draft import ConversionOptions
    from convert.drafting import check_choices
    from convert.pipeline import convert_all
    from convert.projector import read_type
    from convert.quantize.fit_goal import read_goal
    from convert.source_resolver import find_adapter, find_outline, find_source

    if base is not None and lora:
        raise UsageError("`--base` and `--lora` cannot be used together")
    if fit is not None and type_name:
        raise UsageError("`--fit` and `-t` cannot be used together", hint="`--fit` chooses the types")
    if mmproj is False and mmproj_type is not None:
        raise UsageError("`--no-mmproj` and `--mmproj-type` cannot be used together")
    read_type(mmproj_type)
    goal = None if fit is None else read_goal(fit)
    first_type, *further_types = type_name or (None,)
    check_choices((first_type, *further_types), output)
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
            type=first_type,
            fit=goal,
            projector="beside" if mmproj is None else "only" if mmproj else "off",
            projector_type=mmproj_type,
            further_types=tuple(filter(None, further_types)),
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
            show_drafts(options, environment, is_whole=is_whole, as_json=as_json)
        else:
            show_reports(convert_all(options, environment), environment, as_json=as_json, quiet=quiet)
    return 0


def _nothing(_sentence: str) -> None:
    """Say nothing."""
