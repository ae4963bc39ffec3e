"""Commands that begin, name, find and reopen sessions."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from chat.ground.errors import UsageError
from chat.ground.visible import visible_line
from chat.session_settings import kept, own_words, with_answer_options, with_session
from chat.sessions.search import newest_leaf
from chat.terminal import talk
from chat.terminal.command import unquoted
from chat.terminal.desk import Place
from chat.terminal.render import Span, cut, plain, wrap
from chat.terminal.tree_commands import show_end, show_turn

if TYPE_CHECKING:
    from chat.sessions.records import SessionRecord
    from chat.sessions.search import Hit
    from chat.terminal.desk import Desk
    from chat.terminal.render import Line

LISTED = 15
CLEAR_SCREEN = "\x1b[H\x1b[2J"


def begin(desk: Desk, argument: str) -> None:
    """`/new [name]`"""
    name = unquoted(argument)
    desk.book.begin(name or None, kept(desk.layered))
    forget_place(desk)
    desk.tell(f"new session {visible_line(name)}".strip())


def clear(desk: Desk, argument: str) -> None:
    """`/clear`"""
    desk.book.move(None)
    forget_place(desk)
    if desk.screen.is_live:
        desk.screen.write(CLEAR_SCREEN)
    desk.tell("cleared · /branches finds the conversation again")


def forget_place(desk: Desk) -> None:
    """Drop what belongs to the conversation that was open."""
    talk.recount(desk)
    desk.edited = None
    desk.last = None


def save(desk: Desk, argument: str) -> None:
    """`/save [name]`"""
    name = unquoted(argument)
    if name:
        desk.book.rename(name)
    record = desk.book.record
    if record is None:
        return desk.tell("nothing was said yet")
    label = visible_line(record.label)
    if desk.book.store.path is None:
        return desk.tell(f"this session is `{label}` in memory only, and gone at the end · /export FILE keeps it")
    if not name:
        return desk.tell(f"this session is kept under `{label}`")
    return desk.tell(f"saved as `{label}` · `mistral-chat --session {shlex.quote(label)}` goes on with it")


def load(desk: Desk, argument: str) -> None:
    """`/load NAME`"""
    name = unquoted(argument)
    if not name:
        return list_sessions(desk, "")
    place = _numbered(desk, name)
    if place is None:
        if name.lower().endswith(".gguf"):
            raise UsageError(f"{visible_line(name)} is a model, not a session", hint=f"`/model {visible_line(name)}`")
        place = Place(desk.book.store.get(name).id)
    desk.book.open(place.session_id)
    if place.node_id is not None:
        desk.book.move(newest_leaf(desk.book.conversation, place.node_id))
    desk.layered = with_answer_options(desk.layered, with_session(desk.base, desk.book.store.get(place.session_id)))
    forget_place(desk)
    desk.tell(f"session {visible_line(desk.book.label)}")
    tell_own(desk)
    return show_turn(desk, place.node_id) if place.node_id else show_end(desk)


def tell_own(desk: Desk) -> None:
    """Say what a session that goes on has beside its messages: options, a system prompt, another model."""
    record, system = desk.book.record, desk.book.conversation.system
    words = [own_words(desk.layered), f"system prompt “{system}”" if system else ""]
    if any(words):
        own = "this session's own: " + " · ".join(each for each in words if each)
        desk.say(plain(cut(visible_line(own), desk.screen.width - 1), "dim"), ())
    model = record.model_path if record else ""
    if model and model != desk.room.options.model_path:
        desk.tell(f"it was held with {Path(model).stem}; /model {model} goes on with that")


def list_sessions(desk: Desk, argument: str) -> None:
    """`/sessions`"""
    records = desk.book.store.list(LISTED)
    if not records:
        return desk.tell("no sessions yet")
    desk.places = [Place(record.id) for record in records]
    now = time.time()
    for number, record in enumerate(records, 1):
        is_open = desk.book.record is not None and record.id == desk.book.record.id
        desk.say(_session_line(desk, number, record, now, is_open))
    return desk.tell("/load NUMBER opens one")


def search(desk: Desk, argument: str) -> None:
    """`/search WORDS`"""
    if not argument.strip():
        raise UsageError("needs words to search for")
    hits = desk.book.store.search(argument, limit=LISTED)
    if not hits:
        return desk.tell(f"nothing found for {visible_line(argument)}")
    desk.places = [Place(hit.session_id, hit.node_id) for hit in hits]
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


def _numbered(desk: Desk, text: str) -> Place | None:
    """The place of a number of the last list."""
    if text.isascii() and text.isdecimal() and 1 <= int(text) <= len(desk.places):
        return desk.places[int(text) - 1]
    return None


def _session_line(desk: Desk, number: int, record: SessionRecord, now: float, is_open: bool) -> Line:
    before = f"{number:>3} {'▸' if is_open else ' '} "
    after = f"  {record.messages} msg · {age(now - record.updated)}"
    name = f"{record.name} · " if record.name and record.title else (record.name or "")
    room = max(10, desk.screen.width - len(before) - len(after) - 1)
    shown = cut(visible_line(name + record.title), room)
    return (Span(before, "bold" if is_open else "dim"), Span(shown), Span(after, "dim"))


def _hit_lines(desk: Desk, number: int, hit: Hit, now: float) -> list[Line]:
    """Where, who and when; then the snippet with the words found in bold."""
    before = f"{number:>3} "
    after = f"  {hit.role} · {age(now - hit.created)}"
    room = max(10, desk.screen.width - len(before) - len(after) - 1)
    head = (Span(before, "bold"), Span(cut(visible_line(hit.name or hit.title), room)), Span(after, "dim"))
    spans: list[Span] = []
    at = 0
    for start, end in hit.marks:
        spans += [Span(visible_line(hit.snippet[at:start]), "dim"), Span(visible_line(hit.snippet[start:end]), "bold")]
        at = end
    spans.append(Span(visible_line(hit.snippet[at:]), "dim"))

    return [head, *((Span("    "), *line) for line in wrap(spans, desk.screen.width - 5))]
