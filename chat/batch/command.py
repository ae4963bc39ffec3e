"""Answer a batch: start one backend and answer every record with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.app.answer_output import AnswerOutput
from chat.app.backends import open_backend
from chat.app.cancellation import cancelling
from chat.app.prompt_input import BatchPrompt
from chat.batch.run import run_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.config.options import Settings


def answer_batch(words: Sequence[str], settings: Settings) -> int:
    """Answer each record of the batch that the settings name.

    Returns:
        The exit code: 0, 1 if a record failed, or 130 when the user stopped the batch.

    Raises:
        ChatError: the batch cannot be read, or no backend starts.
    """
    fill, output = BatchPrompt(words, settings), AnswerOutput(settings)
    output.tell_of_the_guide(settings)
    for warning in fill.warnings:
        output.tell(warning)
    with open_backend(settings) as backend:
        if settings.dry_run:
            return run_batch(backend, settings, fill, output.tell)
        with cancelling(backend) as cancellable:
            return run_batch(backend, settings, fill, output.tell, cancellable)
