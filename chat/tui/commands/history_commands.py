"""Commands that begin, name, find and reopen sessions."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from chat.app.session_options import apply_session, persisted_options, session_options_text, with_answer_options
from chat.errors import UsageError
from chat.history.search import newest_leaf
from chat.rendering.styled_text import Span, cut, plain, wrap
from chat.system.terminal_text import escape_line
from chat.tui import exchange
from chat.tui.commands.lookup import unquoted
from chat.tui.commands.tree_commands import show_end, show_turn
from chat.tui.state import ListTarget

if TYPE_CHECKING:
    from chat.history.records import ListedSession
    from chat.history.search import Hit
    from chat.rendering.styled_text import Line
    from chat.tui.state import SessionState

LISTED = 15
CLEAR_SCREEN = "\x1b[H\x1b[2J"


def begin(desk: SessionState, argument: str) -> None:
    """`/new [name]`"""
    name = unquoted(argument)
    desk.session.begin(name or None, persisted_options(desk.resolved))
    forget_place(desk)
    desk.tell(f"new session {escape_line(name)}".strip())


def clear(desk: SessionState, argument: str) -> None:
    """`/clear`"""
    desk.session.set_leaf(None)
    forget_place(desk)
    if desk.screen.is_live:
        desk.screen.write(CLEAR_SCREEN)
    desk.tell("cleared · /branches finds the conversation again")


def forget_place(desk: SessionState) -> None:
    """Drop what belongs to the conversation that was open."""
    exchange.recount(desk)
    desk.edited = None
    desk.last = None


def save(desk: SessionState, argument: str) -> None:
    """`/save [name]`"""
    name = unquoted(argument)
    if name:
        desk.session.rename(name)
    record = desk.session.record
    if record is None:
        return desk.tell("nothing was said yet")
    label = escape_line(record.label)
    if desk.session.store.path is None:
        return desk.tell(f"this session is `{label}` in memory only, and gone at the end · /export FILE keeps it")
    if not name:
        return desk.tell(f"this session is kept under `{label}`")
    return desk.tell(f"saved as `{label}` · `mistral-chat --session {shlex.quote(label)}` goes on with it")


def load(desk: SessionState, argument: str) -> None:
    """`/load NAME`"""
    name = unquoted(argument)
    if not name:
        return list_sessions(desk, "")
    place = _numbered(desk, name)
    if place is None:
        if name.lower().endswith(".gguf"):
            raise UsageError(f"{escape_line(name)} is a model, not a session", hint=f"`/model {escape_line(name)}`")
        place = ListTarget(desk.session.store.get(name).id)
    desk.session.open(place.session_id)
    if place.node_id is not None:
        desk.session.set_leaf(newest_leaf(desk.session.conversation, place.node_id))
    desk.resolved = with_answer_options(
        desk.resolved, apply_session(desk.base, desk.session.store.get(place.session_id))
    )
    forget_place(desk)
    desk.tell(f"session {escape_line(desk.session.label)}")
    tell_own(desk)
    return show_turn(desk, place.node_id) if place.node_id else show_end(desk)


def tell_own(desk: SessionState) -> None:
    """Say what a session that goes on has beside its messages: options, a system prompt, another model."""
    record, system = desk.session.record, desk.session.conversation.system
    words = [session_options_text(desk.resolved), f"system prompt “{system}”" if system else ""]
    if any(words):
        own = "this session's own: " + " · ".join(each for each in words if each)
        desk.say(plain(cut(escape_line(own), desk.screen.width - 1), "dim"), ())
    model = record.model_path if record else ""
    if model and model != desk.room.options.model_path:
        desk.tell(f"it was held with {Path(model).stem}; /model {model} goes on with that")


def list_sessions(desk: SessionState, argument: str) -> None:
    """`/sessions`"""
    records = desk.session.store.list(LISTED)
    if not records:
        return desk.tell("no sessions yet")
    desk.places = [ListTarget(record.id) for record in records]
    now = time.time()
    for number, record in enumerate(records, 1):
        is_open = desk.session.record is not None and record.id == desk.session.record.id
        desk.say(_session_line(desk, number, record, now, is_open))
    return desk.tell("/load NUMBER opens one")


def search(desk: SessionState, argument: str) -> None:
    """`/search WORDS`"""
    if not argument.strip():
        raise UsageError("needs words to search for")
    hits = desk.session.store.search(argument, limit=LISTED)
    if not hits:
        return desk.tell(f"nothing found for {escape_line(argument)}")
    desk.places = [ListTarget(hit.session_id, hit.node_id) for hit in hits]
    now = time.time()
    for number, hit in enumerate(hits, 1):
        desk.say(*_hit_lines(desk, number, hit, now), ())
    return desk.tell("/load NUMBER opens one there")


def age(seconds: float) -> str:
    """How long ago, in words that fit a column."""
    for size, unit in ((86400 * 365, "y"), (86400 * 30, "mo"), (86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def _numbered(desk: SessionState, text: str) -> ListTarget | None:
    """The place of a number of the last list."""
    if text.isascii() and text.isdecimal() and 1 <= int(text) <= len(desk.places):
        return desk.places[int(text) - 1]
    return None


def _session_line(desk: SessionState, number: int, record: ListedSession, now: float, is_open: bool) -> Line:
    before = f"{number:>3} {'▸' if is_open else ' '} "
    after = f"  {record.messages} msg · {age(now - record.updated)}"
    name = f"{record.name} · " if record.name and record.title else (record.name or "")
    room = max(10, desk.screen.width - len(before) - len(after) - 1)
    shown = cut(escape_line(name + record.title), room)
    return (Span(before, "bold" if is_open else "dim"), Span(shown), Span(after, "dim"))


def _hit_lines(desk: SessionState, number: int, hit: Hit, now: float) -> list[Line]:
    """Where, who and when; then the snippet with the words found in bold."""
    before = f"{number:>3} "
    after = f"  {hit.role} · {age(now - hit.created)}"
    room = max(10, desk.screen.width - len(before) - len(after) - 1)
    head = (Span(before, "bold"), Span(cut(escape_line(hit.name or hit.title), room)), Span(after, "dim"))
    spans: list[Span] = []
    at = 0
    for start, end in hit.marks:
        spans += [Span(escape_line(hit.snippet[at:start]), "dim"), Span(escape_line(hit.snippet[start:end]), "bold")]
        at = end
    spans.append(Span(escape_line(hit.snippet[at:]), "dim"))

    return [head, *((Span("    "), *line) for line in wrap(spans, desk.screen.width - 5))]
