"""`mistral-chat bench`. Knows flags and files; catches nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chat.errors import EngineError, FileError, UsageError

if TYPE_CHECKING:
    from chat.bench.results import BenchReport

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
MEASURE = "chat.bench.measure"
CONTEXTS = "512,1024,2048"
SMALLEST, MOST_CONTEXTS = 16, 32


@app.command()
def bench(
    model: Annotated[
        str | None, typer.Option("-m", "--model", metavar="NAME", help="The model; the settings' one if not given.")
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
        Path | None, typer.Option("--svg", metavar="FILE", help="Also draw speed and memory against context length.")
    ] = None,
) -> None:
    """Measure a model here: loading, reading, decoding, memory, saved states, batches, drafts.

    Reading and decoding run beside a bare C loop on the same file. It takes about as long as reading the longest
    context and one more prompt four times; on a slow machine give smaller --contexts and -n.
    """
    from chat.bench.table import table

    wanted = parse_contexts(contexts)
    if tokens < 2:
        raise UsageError(f"-n is at least 2, not {tokens}")
    if svg is not None and (svg.is_dir() or not svg.absolute().parent.is_dir()):
        raise FileError(f"{svg}: {'is a folder' if svg.is_dir() else 'there is no such folder'}")
    flags = {
        "model": model,
        "threads": threads,
        "gpu_layers": gpu_layers,
        "kv_type": kv_type,
        "repack": repack,
        "window": window,
    }
    report = _measure({name: value for name, value in flags.items() if value is not None}, tokens, wanted)
    if svg is not None:
        _draw(report, svg)
    print(json.dumps(plain(report), indent=1) if as_json else table(report))


def parse_contexts(text: str) -> list[int]:
    """The lengths, ascending and each once.

    Raises:
        UsageError: not a list of numbers of 16 and more.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 and int(part) >= SMALLEST for part in parts):
        raise UsageError(f"--contexts needs numbers of at least {SMALLEST}, such as {CONTEXTS}, not {text!r}")
    if len(parts) > MOST_CONTEXTS:
        raise UsageError(f"--contexts has {len(parts)} numbers, and {MOST_CONTEXTS} is the limit")
    return sorted({int(part) for part in parts})


def plain(report: BenchReport) -> dict[str, Any]:
    """The report as plain values, with what follows from it."""
    found = asdict(report)
    found["beside"] |= {"read_ratio": report.beside.read_ratio, "decode_ratio": report.beside.decode_ratio}
    found["sweet_spot"] = report.sweet_spot
    return found


def _measure(flags: dict[str, Any], tokens: int, contexts: list[int]) -> BenchReport:
    """Send the child on its way and tell on a terminal what it does."""
    from chat.app.request_builder import engine_options
    from chat.bench.results import BenchReport
    from chat.bench.system_load import busy_fraction
    from chat.config.resolve import resolve_settings
    from chat.models.resolve import resolve
    from chat.system.paths import config_folder
    from chat.worker.protocol import build
    from chat.worker.task import run_isolated_task

    settings = resolve_settings(flags, file=config_folder() / "config.toml").settings
    options = engine_options(settings, resolve(settings.model), session=False, state_folder=None)
    question = {"options": asdict(options), "tokens": tokens, "contexts": contexts}
    before = busy_fraction()
    is_warned = _warn(before)
    report = None
    try:
        for message in run_isolated_task(MEASURE, question, settings.log_file):
            if "report" in message:
                report = build(BenchReport, message["report"])
            else:
                _tell(message)
    finally:
        _tell({"progress": ""})
    if report is None:
        raise EngineError("the bench ended without a report")
    after = busy_fraction()
    if not is_warned:
        _warn(after)
    return replace(report, busy_share=None if before is None or after is None else max(before, after))


def _warn(share: float | None) -> bool:
    """Say where other programs are in the way; whether they are."""
    from chat.bench.system_load import system_load_warning

    words = system_load_warning(share)
    if words is not None:
        print(f"note: {words}", file=sys.stderr)
    return words is not None


def _tell(message: dict[str, Any]) -> None:
    """One line on a terminal, over the one before."""
    if not sys.stderr.isatty():
        return
    left = message.get("seconds_left")
    words = message["progress"] + (f", about {left:,.0f} s left" if left and left >= 1 else "")
    print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)


def _draw(report: BenchReport, path: Path) -> None:
    from chat.bench.chart import draw

    try:
        path.write_text(draw(report), encoding="utf-8")
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror}") from error
