"""`/context` and `/stats`: what the model reads, and the figures of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.core.conversation import Message
from chat.errors import ChatError
from chat.prompts.truncation import left_out_text
from chat.rendering.status_text import context_usage, duration, rate
from chat.rendering.styled_text import Span, cut
from chat.system.terminal_text import counted, escape_control_characters
from chat.tui.exchange import render_context
from chat.tui.transcript import describe_call, with_pictures

if TYPE_CHECKING:
    from chat.rendering.styled_text import Line
    from chat.tui.state import SessionState


def show_context(state: SessionState, argument: str) -> None:
    """`/context`"""
    messages = state.session.conversation.messages()
    if not messages:
        return state.report("Nothing is in the context yet.")
    state.wait_for_load()
    if own := state.model_system_prompt:
        messages = (Message("system", own), *messages)
    counts = state.backend.count(messages)
    if state.backend.info is None:
        return state.show(*_message_lines(state, messages, counts), ())
    if not state.model_path:
        tokens = counted(state.used_tokens, "token")
        used = f"{tokens} by the server's count" if state.used_tokens else "the server counts tokens"
        return state.show(*_message_lines(state, messages, counts), (), *state.wrapped(used, "dim"), ())
    try:
        rendered = render_context(state)
    except ChatError as error:
        state.show(*_message_lines(state, messages, counts), ())
        return state.show_error(error)
    state.used_tokens = len(rendered.ids)
    sentence = f"{context_usage(state.backend.info, state.used_tokens)}, including the prompt format"
    if rendered.dropped:
        sentence += f"; {left_out_text(rendered.dropped, state.backend.info.context)}"
    return state.show(
        *_message_lines(state, messages, counts, rendered.dropped), (), *state.wrapped(sentence, "dim"), ()
    )


def _message_lines(
    state: SessionState, messages: tuple[Message, ...], counts: tuple[int | None, ...], dropped_turns: int = 0
) -> list[Line]:
    """A line for each message; messages of dropped turns are dim, with `out` in place of their tokens."""
    lines: list[Line] = []
    turn = 0
    for message, count in zip(messages, counts, strict=True):
        turn += message.role == "user"
        is_out = 0 < turn <= dropped_turns
        tokens = "out" if is_out else "?" if count is None else f"{count:,}"
        number = str(turn) if message.role == "user" else ""
        before = f"{number:>3} {message.role:<9} {tokens:>7}  "
        cells = max(8, state.screen.width - len(before) - 1)
        text = " ".join([with_pictures(message), *map(describe_call, message.tool_calls)])
        lines.append((Span(before, "dim"), Span(cut(escape_control_characters(text), cells), "dim" if is_out else "")))
    return lines


def show_stats(state: SessionState, argument: str) -> None:
    """`/stats`"""
    totals = state.totals
    if not totals.answers:
        return state.report("There are no answers yet.")
    read_rate = rate(totals.prompt_tokens, totals.prompt_seconds)
    generate_rate = rate(totals.generated_tokens, totals.generate_seconds)
    read = f"{counted(totals.prompt_tokens, 'token')}, {read_rate}/s"
    rows = [
        *_last_answer_rows(state),
        ("answers", f"{totals.answers:,}"),
        ("read", f"{read}; {totals.cached_tokens:,} more from the cache"),
        ("generated", f"{counted(totals.generated_tokens, 'token')}, {generate_rate}/s"),
    ]
    return state.show_facts(rows)


def _last_answer_rows(state: SessionState) -> list[tuple[str, str]]:
    completion = state.last_completion
    if completion is None:
        return []
    tokens, seconds = completion.tokens, completion.seconds
    prompt, answer = counted(tokens.prompt, "token"), counted(tokens.generated, "token")
    answer_rate = rate(tokens.generated, seconds.generate)
    rows = [
        ("last prompt", f"{prompt}, {tokens.cached:,} from the cache, {duration(seconds.prompt)}"),
        ("last answer", f"{answer}, {duration(seconds.generate)}, {answer_rate}/s"),
        ("sampling", ", ".join(f"{name} {value}" for name, value in completion.sampling.items())),
    ]
    if tokens.drafted:
        rows.append(("drafts", f"{tokens.accepted:,} of {tokens.drafted:,} accepted"))
    return rows
