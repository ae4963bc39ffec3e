"""`/new`, `/clear`, `/save`, `/load`, `/sessions` and `/search`: begin, name, find and open sessions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from chat import platform
from chat.app.sessions import apply_session, persisted_options, session_options_text, with_answer_options
from chat.errors import UsageError
from chat.history.search import newest_leaf
from chat.rendering.styled_text import Span, cut, plain, wrap
from chat.system.terminal_text import counted, escape_line
from chat.tui import exchange
from chat.tui.commands.lookup import unquoted
from chat.tui.state import ListTarget
from chat.tui.transcript import show_end, show_turn

if TYPE_CHECKING:
    from chat.history.records import ListedSession
    from chat.history.search import Hit
    from chat.rendering.styled_text import Line
    from chat.tui.state import SessionState

MAX_LISTED = 15
LEAST_NAME_CELLS = 10
CLEAR_SCREEN = "\x1b[H\x1b[2J"


def start_session(state: SessionState, argument: str) -> None:
    """`/new [NAME]`

    Raises:
        UsageError: another session has the name, or it is not allowed.
    """
    name = unquoted(argument)
    state.session.begin(name or None, persisted_options(state.resolved))
    _reset_conversation_state(state)
    state.report(f"New session {escape_line(name)}".strip() + ".")


def clear(state: SessionState, argument: str) -> None:
    """`/clear`"""
    state.session.set_leaf(None)
    _reset_conversation_state(state)
    if state.screen.is_live:
        state.screen.write(CLEAR_SCREEN)
    state.report("Cleared. /branches brings the conversation back.")


def save(state: SessionState, argument: str) -> None:
    """`/save [NAME]`

    Raises:
        UsageError: another session has the name, or it is not allowed.
    """
    name = unquoted(argument)
    if name:
        state.session.rename(name)
    record = state.session.record
    if record is None:
        return state.report("Nothing has been said yet.")
    label = escape_line(record.label)
    if state.session.store.path is None:
        return state.report(f"This session (`{label}`) is in memory only and will be lost. /export FILE saves it.")
    if not name:
        return state.report(f"This session is saved as `{label}`.")
    return state.report(f"Saved as `{label}`. `mistral-chat --session {platform.quoted(label)}` continues it.")


def load(state: SessionState, argument: str) -> None:
    """`/load NAME`

    Raises:
        UsageError: there is no such session, or there are several.
    """
    name = unquoted(argument)
    if not name:
        return list_sessions(state, "")
    target = _find_session(state, name)
    state.session.open(target.session_id)
    if target.node_id is not None:
        state.session.set_leaf(newest_leaf(state.session.conversation, target.node_id))
    stored = state.session.store.get(target.session_id)
    state.resolved = with_answer_options(state.resolved, apply_session(state.base, stored))
    _reset_conversation_state(state)
    state.report(f"Opened “{escape_line(state.session.label)}”.")
    report_session_options(state)
    return show_turn(state, target.node_id) if target.node_id else show_end(state)


def report_session_options(state: SessionState) -> None:
    """Show what a continued session brings besides its messages: options, a system prompt, another model."""
    record, system = state.session.record, state.session.conversation.system
    parts = [session_options_text(state.resolved), f"system prompt “{system}”" if system else ""]
    if any(parts):
        own = "Settings of this session: " + " · ".join(part for part in parts if part)
        state.show(plain(cut(escape_line(own), state.screen.width - 1), "dim"), ())
    model = record.model_path if record else ""
    if model and model != state.model_path:
        state.report(f"This session last used {Path(model).stem}; /model {model} switches back.")


def list_sessions(state: SessionState, argument: str) -> None:
    """`/sessions`"""
    records = state.session.store.list(MAX_LISTED)
    if not records:
        return state.report("There are no sessions yet.")
    state.list_targets = [ListTarget(record.id) for record in records]
    now = time.time()
    state.show(*(_session_line(state, number, record, now) for number, record in enumerate(records, 1)))
    return state.report("/load NUMBER opens one.")


def search(state: SessionState, argument: str) -> None:
    """`/search WORDS`

    Raises:
        UsageError: there are no words.
    """
    if not argument.strip():
        raise UsageError("`/search` needs words to search for")
    hits = state.session.store.search(argument, limit=MAX_LISTED)
    if not hits:
        return state.report(f"Nothing found for {escape_line(argument)}.")
    state.list_targets = [ListTarget(hit.session_id, hit.node_id) for hit in hits]
    now = time.time()
    for number, hit in enumerate(hits, 1):
        state.show(*_hit_lines(state, number, hit, now), ())
    return state.report("/load NUMBER opens the session there.")


def _reset_conversation_state(state: SessionState) -> None:
    """Drop what belongs to the conversation that was open before."""
    exchange.update_used_tokens(state)
    state.branch_point = None
    state.last_completion = None


def _find_session(state: SessionState, name: str) -> ListTarget:
    """The session that a number of the last list stands for, or that has this name.

    Raises:
        UsageError: there is no such session, or there are several.
    """
    targets = state.list_targets
    if name.isascii() and name.isdecimal() and len(name) < 10 and 1 <= int(name) <= len(targets):
        return targets[int(name) - 1]
    if name.lower().endswith(".gguf"):
        raise UsageError(
            f"{escape_line(name)} is a model, not a session", hint=f"`/model {escape_line(name)}` switches to it"
        )
    return ListTarget(state.session.store.get(name, list_command="/sessions").id)


def _age_text(seconds: float) -> str:
    """How long ago something was, short enough for a column."""
    for size, unit in ((86400 * 365, "y"), (86400 * 30, "mo"), (86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def _session_line(state: SessionState, number: int, record: ListedSession, now: float) -> Line:
    is_open = state.session.record is not None and record.id == state.session.record.id
    before = f"{number:>3} {'▸' if is_open else ' '} "
    after = f"  {counted(record.messages, 'message')} · {_age_text(now - record.updated)}"
    name = f"{record.name} · " if record.name and record.title else (record.name or "")
    cells = max(LEAST_NAME_CELLS, state.screen.width - len(before) - len(after) - 1)
    shown = cut(escape_line(name + record.title), cells)
    return (Span(before, "bold" if is_open else "dim"), Span(shown), Span(after, "dim"))


def _hit_lines(state: SessionState, number: int, hit: Hit, now: float) -> list[Line]:
    """The session, the role and the time of a hit; then its snippet with the found words in bold."""
    before = f"{number:>3} "
    after = f"  {hit.role} · {_age_text(now - hit.created)}"
    cells = max(LEAST_NAME_CELLS, state.screen.width - len(before) - len(after) - 1)
    head = (Span(before, "bold"), Span(cut(escape_line(hit.name or hit.title), cells)), Span(after, "dim"))
    spans: list[Span] = []
    position = 0
    for start, end in hit.marks:
        spans.append(Span(escape_line(hit.snippet[position:start]), "dim"))
        spans.append(Span(escape_line(hit.snippet[start:end]), "bold"))
        position = end
    spans.append(Span(escape_line(hit.snippet[position:]), "dim"))
    return [head, *((Span("    "), *line) for line in wrap(spans, state.screen.width - 5))]
