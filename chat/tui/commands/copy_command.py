"""`/copy`: copy the last answer, its last block of code, or the conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.app.code_blocks import code_blocks
from chat.errors import ChatError, UsageError
from chat.tui.commands import clipboard

if TYPE_CHECKING:
    from chat.tui.state import SessionState


def copy(state: SessionState, argument: str) -> None:
    """`/copy [code|all]`

    Raises:
        UsageError: there is nothing to copy, or the argument is another word.
        ChatError: there is no clipboard.
    """
    text = _text_to_copy(state, argument.strip().lower())
    copied_to = clipboard.copy(text, state.screen.write if state.screen.is_live else None)
    if not copied_to:
        raise ChatError("there is no clipboard within reach", hint="`/export FILE` writes a file")
    state.report(f"copied {len(text):,} characters to {' and '.join(copied_to)}")


def _text_to_copy(state: SessionState, part: str) -> str:
    messages = state.session.conversation.messages()
    answers = [message.content for message in messages if message.role == "assistant"]
    if part not in ("", "code", "all"):
        raise UsageError("copies the last answer, its last `code`, or `all`")
    if not answers:
        raise UsageError("there is no answer to copy yet")
    if part == "all":
        return "\n\n".join(f"**{message.role}**\n\n{message.content}" for message in messages) + "\n"
    if part == "code":
        blocks = code_blocks(answers[-1])
        if not blocks:
            raise UsageError("the last answer has no code block")
        return blocks[-1]
    return answers[-1]
