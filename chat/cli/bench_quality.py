"""`mistral-chat bench --quality`: measure perplexity and divergence in a child process, print and draw the figures."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chat.cli.bench_output import run_measurement, write_picture
from chat.errors import UsageError
from chat.system.paths import cache_folder, require_private_folder
from chat.system.text_files import read_plain_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.bench.quality_results import QualityQuestion, QualityReport
    from chat.config.options import Settings
    from chat.system.environment import Environment

MEASURE = "chat.bench.quality"
CONTEXT = 512  # tokens of a chunk, as llama-perplexity has it
SMALLEST = 16
SAMPLE = Path(__file__).parent.parent / "bench" / "sample_text.txt"
SAMPLE_NOTICE = (
    "The text is 20 kB of this program's documentation: enough to compare files, too little to quote the figures. "
    "Give a text of your own with `--text`."
)
OTHER_TOKENS_NOTICE = (
    "The models have different tokens for the text, so their perplexities cannot be compared with one another."
)


def measure_quality(
    settings: Settings,
    models: Sequence[str],
    against: str | None,
    text: Path | None,
    context: int | None,
    chunks: int | None,
    environment: Environment,
    *,
    svg: Path | None,
    as_json: bool,
) -> None:
    """Measure, and print the table or the JSON object.

    Args:
        settings: how the models are loaded.
        models: names or paths; without any, the model of the settings.
        against: the reference; None measures perplexity alone.
        text: a UTF-8 file; None takes the sample of this program.
        context: tokens of each chunk; None is the usual number.
        chunks: the most chunks that are read; None reads all.
        environment: streams and folders.
        svg: where a picture is written; None draws none.
        as_json: print JSON, not a table.

    Raises:
        ChatError: an option, a file or the text cannot be used, or the measurement failed.
    """
    from chat.bench.quality_chart import draw
    from chat.bench.quality_table import table

    context = CONTEXT if context is None else context
    if context < SMALLEST:
        raise UsageError(f"--context must be at least {SMALLEST}, not {context}")
    if chunks is not None and chunks < 1:
        raise UsageError(f"--chunks must be at least 1, not {chunks}")
    question = _question(replace(settings, context=context, draft="off"), models, against, text or SAMPLE, chunks)
    report = _measure(question, settings.log_file, environment)
    if text is None:
        environment.notify(f"note: {SAMPLE_NOTICE}")
    if not report.is_same_text:
        environment.notify(f"note: {OTHER_TOKENS_NOTICE}")
    if svg is not None:
        write_picture(svg, draw(report))
    if as_json:
        environment.print_json(asdict(report), indent=1)
    else:
        environment.print(table(report))


def _question(
    settings: Settings, models: Sequence[str], against: str | None, text: Path, chunks: int | None
) -> QualityQuestion:
    from chat.app.request_builder import engine_options
    from chat.bench.quality_results import QualityQuestion
    from chat.models.resolve import resolve

    content = read_plain_text(text)
    names: list[str | None] = [*models] or [settings.model]
    paths = [resolve(name) for name in [*names, *([against] if against is not None else [])]]
    options = [
        replace(engine_options(settings, path, session=False, state_folder=None), needs_format=False) for path in paths
    ]
    folder = cache_folder()
    require_private_folder(folder)
    return QualityQuestion(
        files=tuple(options[:-1] if against is not None else options),
        reference=options[-1] if against is not None else None,
        text=content,
        chunks=chunks,
        folder=str(folder),
    )


def _measure(question: QualityQuestion, log_file: Path | None, environment: Environment) -> QualityReport:
    from chat.bench.quality_results import QualityReport
    from chat.worker.protocol import build

    return build(QualityReport, run_measurement(MEASURE, asdict(question), log_file, environment, "measurement"))
