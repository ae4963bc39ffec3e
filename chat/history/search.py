"""Find words in everything that was said, with the place to reopen. Knows the search tables, not who looks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from chat.core.conversation import Conversation

# Marks around a found word while it travels through SQL: noncharacters, which no text has.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_SNIPPET_WORDS = 16
_AROUND = 40  # characters shown on each side of a hit that was found by reading

_TERM = re.compile(r'"([^"]*)"?|(\S+)')
# Scripts without spaces between words: the index holds whole sentences as one word there.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)

_INDEXED = re.compile(r"[\w' ]+")  # the index drops punctuation: `C++` would find every word with a C

# Ranking reads each message that has the words. Of words that nearly all have the newest are as good as any.
_RANKED = 1000


def _by_index(index: str, columns: str, joined: str) -> str:
    """Find the newest, of these the best, and only for these a snippet, which takes longest."""
    newest = f"""SELECT rowid AS row, rank AS place FROM {index} WHERE {index} MATCH :match
        ORDER BY rowid DESC LIMIT max(:limit, {_RANKED})"""
    best = f"SELECT row, place FROM ({newest}) ORDER BY place, row DESC LIMIT :limit"
    return f"""
        SELECT {columns}, snippet({index}, -1, '{_OPEN}', '{_CLOSE}', '…', {_SNIPPET_WORDS})
        FROM ({best}) JOIN {index} ON {index}.rowid = row {joined}
        WHERE {index} MATCH :match ORDER BY place, row DESC"""


_IN_NODES = _by_index(
    "node_texts",
    "s.id, s.name, s.title, n.id, n.role, n.created",
    "JOIN nodes n ON n.number = row JOIN sessions s ON s.id = n.session",
)
_IN_SESSIONS = _by_index(
    "session_texts", "s.id, s.name, s.title, NULL, 'session', s.updated", "JOIN sessions s ON s.number = row"
)
_READ_NODES = """
    SELECT s.id, s.name, s.title, n.id, n.role, n.created, n.content || ' ' || n.calls AS text
    FROM nodes n JOIN sessions s ON s.id = n.session WHERE contains_all(text) ORDER BY n.number DESC LIMIT ?"""
_READ_SESSIONS = """
    SELECT id, name, title, NULL, 'session', updated,
        coalesce(name || ' ', '') || title || coalesce(' ' || system, '') AS text
    FROM sessions WHERE contains_all(text) ORDER BY number DESC LIMIT ?"""


@dataclass(frozen=True)
class Hit:
    """A place where the words are. `node_id` is where to reopen; None means the session's title, name or system prompt.

    `marks` are the (start, end) of found words in `snippet`, in characters.
    """

    session_id: str
    name: str | None
    title: str
    node_id: str | None
    role: str  # of the message, or `session`
    created: float  # seconds since 1970
    snippet: str
    marks: tuple[tuple[int, int], ...]


def find_hits(connection: sqlite3.Connection, query: str, limit: int) -> tuple[Hit, ...]:
    """The hits for a query of words and "quoted phrases", all of which must be there; the last word may be a beginning.

    By the index, best first, which of words in very many messages means the best of the newest; by reading everything,
    newest first, where the index knows no words (Chinese, parts of words, punctuation).
    """
    terms = parse_terms(query)
    if not terms:
        return ()
    if not _UNSPACED.search(query) and all(_INDEXED.fullmatch(term) for term in terms):
        wanted = {"match": _match_expression(terms, query), "limit": limit}
        by_index = [_hit(row) for sql in (_IN_NODES, _IN_SESSIONS) for row in connection.execute(sql, wanted)]
        if by_index:
            return _without_titles(by_index)[:limit]
    return _without_titles(list(_read_through(connection, terms, limit)))[:limit]


def parse_terms(query: str) -> tuple[str, ...]:
    """The words and phrases of a query."""
    found = (quoted or word for quoted, word in _TERM.findall(query.replace("\0", " ")))
    return tuple(term for term in (" ".join(each.split()) for each in found) if term)


def newest_leaf(conversation: Conversation, node_id: str) -> str:
    """The leaf from which `node_id` is seen: the present one if it is, else the end of the newest branch through it.

    Raises:
        KeyError: there is no such node.
    """
    if node_id in {node.id for node in conversation.path()}:
        return conversation.leaf or node_id
    leaf = conversation.nodes[node_id].id
    while children := conversation.children(leaf):
        leaf = children[-1].id
    return leaf


def _without_titles(hits: list[Hit]) -> tuple[Hit, ...]:
    """The hits without the sessions that a message is shown of already: a title is a question's first line."""
    shown = {hit.session_id for hit in hits if hit.node_id}
    return tuple(hit for hit in hits if hit.node_id or hit.session_id not in shown)


def _match_expression(terms: tuple[str, ...], query: str) -> str:
    """The query in FTS5's language, where everything a person types is between quotes."""
    quoted = ['"' + term.replace('"', '""') + '"' for term in terms]
    if not query.rstrip().endswith('"'):
        quoted[-1] += "*"
    return " AND ".join(quoted)


def _read_through(connection: sqlite3.Connection, terms: tuple[str, ...], limit: int) -> Iterator[Hit]:
    folded = [term.casefold() for term in terms]

    def contains_all(text: str) -> bool:
        text = text.casefold()
        return all(term in text for term in folded)

    connection.create_function("contains_all", 1, contains_all, deterministic=True)
    for sql in (_READ_NODES, _READ_SESSIONS):
        for *place, text in connection.execute(sql, (limit,)):
            yield _hit((*place, _cut_around(text, terms)))


def _cut_around(text: str, terms: tuple[str, ...]) -> str:
    """A piece of `text` around the first term found in it, all terms marked."""
    pattern = re.compile("|".join(re.escape(term) for term in terms), re.IGNORECASE)
    text = " ".join(text.split())
    first = pattern.search(text)
    at = first.start() if first else 0
    start, end = max(0, at - _AROUND), (first.end() if first else 0) + _AROUND
    piece = pattern.sub(lambda found: _OPEN + found.group() + _CLOSE, text[start:end])
    return ("…" if start else "") + piece + ("…" if end < len(text) else "")


def _hit(row: tuple[Any, ...]) -> Hit:
    *place, marked = row
    snippet = ""
    marks: list[tuple[int, int]] = []
    for piece in re.split(f"({_OPEN}[^{_OPEN}{_CLOSE}]*{_CLOSE})", marked):
        plain = piece.strip(_OPEN + _CLOSE)
        if piece.startswith(_OPEN):
            marks.append((len(snippet), len(snippet) + len(plain)))
        snippet += plain
    session_id, name, title, node_id, role, created = place
    return Hit(session_id, name, title, node_id, role, created, snippet, tuple(marks))
