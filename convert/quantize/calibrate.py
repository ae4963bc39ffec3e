"""Make an importance matrix: a child process reads a text with the model and sums its activations."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from chat.core.calibration import CalibrationQuestion, CalibrationReport
from chat.errors import DataError, EngineError
from chat.system.progress import count_bar
from chat.system.terminal_text import counted
from chat.system.text_files import read_plain_text

if TYPE_CHECKING:
    from pathlib import Path

    from chat.system.environment import Environment
    from convert.quantize.recipes import Plan

MEASURE = "chat.worker.calibration"
UNWEIGHTED_TYPES = {"Q8_0"}  # ggml packs them without regard to the importance


@dataclass(frozen=True)
class CalibrationText:
    """The text that a model reads."""

    path: Path
    content: str


def read_calibration_text(path: Path) -> CalibrationText:
    """Read the file of `--calibrate`.

    Raises:
        FileError: it cannot be read.
        DataError: it is no text.
    """
    content = read_plain_text(path)
    if "\0" in content:
        raise DataError(f"{path}: is not text, but a binary file", hint="`--calibrate` takes plain text")
    return CalibrationText(path, content)


def uses_importance(plan: Plan) -> bool:
    """Whether any tensor is packed in another way if an importance matrix is there."""
    return any(each.type.is_quantized and each.type.name not in UNWEIGHTED_TYPES for each in plan.tensors)


def check_length(model: Path, text: CalibrationText) -> None:
    """Check that a text has enough tokens, before any weight is needed.

    Args:
        model: a GGUF, of which only the header needs to be there.
        text: what will be read.

    Raises:
        DataError: it is too short.
        ChatError: the vocabulary cannot be used.
    """
    from chat.worker.task import run_isolated_task

    question = CalibrationQuestion(str(model), text.content, str(text.path), matrix=None)
    for _ in run_isolated_task(MEASURE, asdict(question)):
        pass


def measure_importance(
    model: Path,
    text: CalibrationText,
    matrix: Path,
    *,
    show_progress: bool = True,
    environment: Environment | None = None,
) -> CalibrationReport:
    """Let the engine's child process read a text, and write the importance matrix.

    Args:
        model: the GGUF that is run, with its own window.
        text: what it reads.
        matrix: a file that exists, and gets the matrix.
        show_progress: draw a bar on a terminal.
        environment: where progress is shown; the process's own by default.

    Raises:
        ChatError: the text is too short, there is not enough memory, or the model cannot be run.
    """
    from chat.worker.protocol import build
    from chat.worker.task import run_isolated_task

    question = CalibrationQuestion(str(model), text.content, str(text.path), str(matrix))
    report = None
    with closing(run_isolated_task(MEASURE, asdict(question))) as messages:
        chunks = next(messages)["chunks"]
        with count_bar("measuring activations", chunks, enabled=show_progress, environment=environment) as bar:
            for message in messages:
                if "report" in message:
                    report = build(CalibrationReport, message["report"])
                else:
                    bar.advance(message["read"])
    if report is None:
        raise EngineError("the measurement ended without a report")
    return report


def calibration_note(report: CalibrationReport, matrix: Path) -> str:
    """What was measured, as a sentence for the user."""
    return (
        f"importance matrix: {matrix}, {counted(report.tensors, 'tensor')} measured in "
        f"{counted(report.chunks, 'chunk')} of {report.chunk_size:,} tokens"
    )


def calibration_warnings(report: CalibrationReport) -> tuple[str, ...]:
    """A word about experts that the text never reached."""
    if not report.unused_experts:
        return ()
    return (
        f"the text never reached {report.unused_experts:,} of {report.experts:,} matrices of experts, which are "
        "quantized as if all their columns mattered the same: a longer `--calibrate` text reaches more",
    )
