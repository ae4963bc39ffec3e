"""Show messages of a conversation: an answer that was just given, or the part around a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.rendering.answer_view import AnswerView, MarkdownAnswer, PlainAnswer
from chat.rendering.spoken import QUESTION
from chat.rendering.status_text import completion_line
from chat.rendering.styled_text import Span, plain
from chat.system.terminal_text import counted
from chat.tui.input.reader import PROMPT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.conversation import Message, Node, ToolCall
    from chat.core.events import Completion
    from chat.rendering.styled_text import Line
    from chat.tui.state import SessionState

# Reasons for which an answer is incomplete, with what the user sees under it
CUT_REASONS = {
    "length": "The answer reached its limit. /continue resumes it.",
    "interrupted": "Stopped. /continue resumes.",
}
CUT_WHILE_THINKING = {
    "length": "The limit was reached while thinking. /continue resumes.",
    "interrupted": "Stopped while thinking. /continue resumes.",
}
REASONING_HINT = "/think show prints it."
RESULT_LINES = 4  # shown of the result of a function
MOST_WRAPPED = 20_000  # characters of it that are looked at for them
QUESTION_LINES = 4  # shown of the beginning and of the end of a long question


def answer_view(state: SessionState, before: str = "") -> AnswerView:
    """A view of an answer.

    Args:
        state: the session.
        before: the text that the answer continues.
    """
    if state.shows_markdown and state.screen.is_live:
        return MarkdownAnswer(state.screen, before=before, reasoning_hint=REASONING_HINT)
    return PlainAnswer(state.screen)


def completion_lines(state: SessionState, completion: Completion) -> list[Line]:
    """The lines under an answer: its function calls, why it is cut off, and its figures if they are wanted."""
    lines = _remarks(state, completion)
    if state.settings.stats:
        lines.append(completion_line(completion, state.screen.width))
    is_under_text = bool(completion.text or completion.reasoning or completion.tool_calls)
    return [(), *lines] if lines and is_under_text else lines


def _remarks(state: SessionState, completion: Completion) -> list[Line]:
    if completion.tool_calls:
        loop = state.calls
        by_hand = [call for call in completion.tool_calls if loop is None or loop.toolbox.is_described(call.name)]
        return [*_call_lines(state, by_hand), plain("/result TEXT answers it.", "dim")] if by_hand else []
    if completion.reasoning and not completion.text:
        why = CUT_WHILE_THINKING.get(
            completion.finish_reason, "The model thought but gave no answer. /regen tries again."
        )
        return state.wrapped(why, "dim")
    if not completion.text and completion.finish_reason != "interrupted":
        return state.wrapped("The answer is empty. /regen tries again.", "dim")
    if completion.finish_reason in CUT_REASONS and (completion.text or completion.finish_reason == "length"):
        return state.wrapped(CUT_REASONS[completion.finish_reason], "dim")
    return []


def with_pictures(message: Message) -> str:
    """A question with the names of its pictures before it."""
    return "\n".join(
        [*(f"[{picture.name}]" for picture in message.pictures), *([message.content] if message.content else [])]
    )


def describe_call(call: ToolCall) -> str:
    """A function call, as the user reads it."""
    return f"asks for {call.name}({call.arguments})"


def folded(reasoning: str) -> str:
    """A sentence in place of the reasoning of an earlier answer."""
    return f"Thought before it answered ({counted(len(reasoning.split()), 'word')})."


def folded_result(state: SessionState, text: str, indent: str = "  ") -> list[Line]:
    """The beginning of a result, and how much more there is."""
    lines = state.wrapped(text[:MOST_WRAPPED].rstrip("\n") or "(empty)", "dim", indent, is_exact=True)
    shown = lines if len(lines) <= RESULT_LINES + 1 else lines[:RESULT_LINES]
    left = len(text.splitlines()) - RESULT_LINES
    if len(shown) < len(lines):
        more = counted(left, "more line") if left > 0 else "more"
        shown = [*shown, plain(f"{indent}… {more} · /tools last shows all", "dim")]
    return shown


def show_reasoning(state: SessionState) -> None:
    """Print the reasoning of the last answer that has any."""
    answers = (node.message for node in reversed(state.session.conversation.path()))
    reasoning = next((message.reasoning for message in answers if message.reasoning), "")
    if not reasoning:
        return state.report("No answer here has any thinking.")
    return state.show(*state.wrapped(reasoning, "dim"), ())


def show_end(state: SessionState, messages: int = 2) -> None:
    """Show the last messages of the conversation."""
    path = state.session.conversation.path()
    _show_part(state, path, max(0, len(path) - messages), len(path))


def show_turn(state: SessionState, node_id: str) -> None:
    """Show the turn that a message belongs to: its question, and everything up to the next question."""
    path = state.session.conversation.path()
    index = next(number for number, node in enumerate(path) if node.id == node_id)
    questions = [number for number, node in enumerate(path) if node.message.role == "user"]
    begin = max((number for number in questions if number <= index), default=0)
    end = min((number for number in questions if number > index), default=len(path))
    _show_part(state, path, begin, end)


def _show_part(state: SessionState, path: tuple[Node, ...], begin: int, end: int) -> None:
    if begin:
        state.show(plain(f"… {counted(begin, 'earlier message')}", "dim"), ())
    for node in path[begin:end]:
        _show_message(state, node.message)
    later = len(path) - end
    if later:
        sentence = f"… {counted(later, 'later message')}; your message goes after the last one"
        state.show(*state.wrapped(sentence, "dim"), ())


def _show_message(state: SessionState, message: Message) -> None:
    if message.role == "user":
        return state.show(*_question_lines(state, with_pictures(message)), ())
    if message.role == "tool":
        return state.show(*folded_result(state, f"result: {message.content}", indent=""), ())
    if message.reasoning:
        state.show(*state.wrapped(folded(message.reasoning), "dim"), *([()] if message.content else []))
    if message.content:
        view = answer_view(state)
        view.feed(message.content)
        view.finish()
    lines = _call_lines(state, message.tool_calls)
    if message.finish_reason in CUT_REASONS:
        lines += [(), plain(CUT_REASONS[message.finish_reason], "dim")]
    return state.show(*lines, ())


def _question_lines(state: SessionState, text: str) -> list[Line]:
    """A question as it stood after the prompt, without the middle of a long one."""
    lines = state.wrapped(text, indent="  ")
    left_out = len(lines) - 2 * QUESTION_LINES
    if left_out > 1:
        lines[QUESTION_LINES:-QUESTION_LINES] = [plain(f"  … {counted(left_out, 'more line')}", "dim")]
    mark = QUESTION if state.screen.is_spoken else PROMPT
    return [(Span(mark, "bold"), *lines[0][1:]), *lines[1:]]


def _call_lines(state: SessionState, calls: Sequence[ToolCall]) -> list[Line]:
    return [line for call in calls for line in state.wrapped(describe_call(call), "cyan")]
