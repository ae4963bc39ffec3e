"""Open the functions on offer for a one-shot run or a batch, and what runs them, if that is wanted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from chat.app.request_builder import read_tools

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chat.app.answer_output import AnswerOutput
    from chat.app.request_builder import Tool
    from chat.config.options import Settings
    from chat.tools.loop import CallLoop


@contextmanager
def open_tools(settings: Settings, output: AnswerOutput) -> Iterator[tuple[Sequence[Tool], CallLoop | None]]:
    """The functions on offer, and what runs them; they end with the block.

    Raises:
        ChatError: a source of functions, or a rule, cannot be used as it is written.
    """
    if not settings.run_tools:
        yield read_tools(settings), None
        return
    from chat.app.tool_runs import call_loop, note_start

    loop = call_loop(settings)
    with loop.toolbox:
        note_start(loop.toolbox, output)
        tools = loop.toolbox.schemas()
        for notice in loop.toolbox.take_notices():
            output.note(notice)
        yield tools, loop
