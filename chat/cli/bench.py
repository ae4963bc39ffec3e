"""`mistral-chat bench`: measure models in a process of their own, and print or draw the figures."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chat.cli.bench_output import require_picture, run_measurement, write_picture
from chat.errors import UsageError

if TYPE_CHECKING:
    from chat.bench.results import BenchReport
    from chat.config.options import Settings
    from chat.system.environment import Environment

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
MEASURE = "chat.bench.measure"
CONTEXTS = "512,1024,2048"
SMALLEST, MOST_CONTEXTS = 16, 32
SPEED_ONLY = {"tokens": "-n", "contexts": "--contexts"}
MOST_TOKENS = 100_000
QUALITY_ONLY = {"against": "--against", "text": "--text", "chunk": "--context", "chunks": "--chunks"}


@app.command()
def bench(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            metavar="NAME",
            help="The model; the one in the settings if not given. Repeatable with --quality.",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option("-n", "--tokens", metavar="N", help="Tokens decoded at each place.")] = 32,
    contexts: Annotated[
        str, typer.Option("--contexts", metavar="N,N,...", help="Where speed and memory are measured.")
    ] = CONTEXTS,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", help="As in a chat.")] = None,
    gpu_layers: Annotated[str | None, typer.Option("--gpu-layers", metavar="auto|N|all", help="As in a chat.")] = None,
    kv_type: Annotated[str | None, typer.Option("--kv-type", metavar="TYPE", help="As in a chat.")] = None,
    repack: Annotated[str | None, typer.Option("--repack", metavar="auto|on|off", help="As in a chat.")] = None,
    window: Annotated[str | None, typer.Option("--window", metavar="auto|off|N", help="As in a chat.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
    svg: Annotated[
        Path | None,
        typer.Option(
            "--svg",
            metavar="FILE",
            help="Also draw speed and memory against context length; with --quality, size against loss.",
        ),
    ] = None,
    quality: Annotated[
        bool, typer.Option("--quality", help="Measure how well each -m predicts a text, not how fast.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="NAME", help="With --quality: the model that each -m is compared with."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            "--text", metavar="FILE", help="With --quality: the text; by default 20 kB of this program's documentation."
        ),
    ] = None,
    chunk: Annotated[
        int | None,
        typer.Option("-c", "--context", metavar="N", help="With --quality: tokens of each chunk.  [default: 512]"),
    ] = None,
    chunks: Annotated[
        int | None, typer.Option("--chunks", metavar="N", help="With --quality: read no more chunks than this.")
    ] = None,
) -> None:
    """Measure a model here: loading, reading, decoding, memory, saved states, batches, drafts.

    Reading and decoding run beside a bare C loop on the same file. It takes about as long as reading the longest
    context and one more prompt four times; on a slow machine give smaller --contexts and -n.

    With --quality, perplexity is measured instead, as llama-perplexity does it: chunks of 512 tokens (-c), each from an
    empty cache, BOS in the first place where the model begins prompts with it, and the second half of each chunk
    counts. With --against, also the Kullback-Leibler divergence from that model and how often both have the same
    likeliest token, as `llama-perplexity --kl-divergence` does it. Each file reads the whole text.
    """
    flags = {
        "threads": threads,
        "gpu_layers": gpu_layers,
        "kv_type": kv_type,
        "repack": repack,
        "window": window,
    }
    environment: Environment = context.obj
    _require_options(context, quality)
    if svg is not None:
        require_picture(svg)
    if quality:
        from chat.cli.bench_quality import measure_quality

        settings = _settings(flags, environment)
        measure_quality(settings, model or [], against, text, chunk, chunks, environment, svg=svg, as_json=as_json)
        return
    from chat.bench.chart import draw
    from chat.bench.table import table

    if len(model or ()) > 1:
        raise UsageError("only `--quality` measures several models")
    lengths = parse_contexts(contexts)
    if not 2 <= tokens <= MOST_TOKENS:
        raise UsageError(f"-n must be 2 to {MOST_TOKENS}, not {tokens}")
    settings = _settings(flags | {"model": model[0] if model else None}, environment)
    report = _measure(settings, tokens, lengths, environment)
    if svg is not None:
        write_picture(svg, draw(report))
    if as_json:
        environment.print_json(plain(report), indent=1)
    else:
        environment.print(table(report))


def _require_options(context: typer.Context, quality: bool) -> None:
    """Refuse options of the other measurement.

    Raises:
        UsageError: such an option was given.
    """
    others = SPEED_ONLY if quality else QUALITY_ONLY
    for name, flag in others.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{flag} has no effect {'with' if quality else 'without'} `--quality`")


def parse_contexts(text: str) -> list[int]:
    """The context lengths in tokens, ascending and without repeats.

    Raises:
        UsageError: not a list of numbers of 16 and more.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 and int(part) >= SMALLEST for part in parts):
        raise UsageError(f"--contexts must be numbers of at least {SMALLEST}, such as {CONTEXTS}, not {text!r}")
    if len(parts) > MOST_CONTEXTS:
        raise UsageError(f"--contexts has {len(parts)} numbers, and {MOST_CONTEXTS} is the limit")
    return sorted({int(part) for part in parts})


def plain(report: BenchReport) -> dict[str, Any]:
    """The report as JSON values, with the figures that follow from it."""
    found = asdict(report)
    found["beside"] |= {"read_ratio": report.beside.read_ratio, "decode_ratio": report.beside.decode_ratio}
    found["sweet_spot"] = report.sweet_spot
    return found


def _settings(flags: dict[str, Any], environment: Environment) -> Settings:
    from chat.config.resolve import resolve_settings

    given = {name: value for name, value in flags.items() if value is not None}
    return resolve_settings(given, environment.variables, file=environment.config_file).settings


def _measure(settings: Settings, tokens: int, contexts: list[int], environment: Environment) -> BenchReport:
    """Measure, and look before and after how busy the machine is.

    Raises:
        ChatError: the model cannot be used, or the measurement failed.
    """
    from chat.app.request_builder import engine_options
    from chat.bench.results import BenchReport
    from chat.bench.system_load import busy_fraction
    from chat.models.resolve import resolve
    from chat.worker.protocol import build

    options = engine_options(settings, resolve(settings.model), session=False, state_folder=None)
    question = {"options": asdict(options), "tokens": tokens, "contexts": contexts}
    before = busy_fraction()
    is_warned = _warn_of_load(before, environment)
    found = run_measurement(MEASURE, question, settings.log_file, environment, "benchmark")
    after = busy_fraction()
    if not is_warned:
        _warn_of_load(after, environment)
    share = None if before is None or after is None else max(before, after)
    return replace(build(BenchReport, found), busy_share=share)


def _warn_of_load(share: float | None, environment: Environment) -> bool:
    """Warn that other programs use the processor; whether there was a warning.

    Args:
        share: the part of the processor time that they use; None if it is unknown.
    """
    from chat.bench.system_load import system_load_warning

    words = system_load_warning(share)
    if words is not None:
        environment.notify(f"note: {words}")
    return words is not None
