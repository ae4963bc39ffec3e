"""Search messages, titles, names and system prompts of all sessions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.history.rows import text_of, time_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from chat.core.conversation import Conversation

# Marks around a found word in the results of SQL: noncharacters, which are not used in text.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_SNIPPET_WORDS = 16
_SNIPPET_MARGIN = 40  # characters on each side of a hit that was found without the index

_TERM = re.compile(r'"([^"]*)"?|(\S+)')
# Scripts without spaces between words, where the index has whole sentences as one word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)

_INDEXED = re.compile(r"[\w' ]+")  # the index has no punctuation: `C++` would find every C

# Ranking reads each message with the words, so only the newest ones are ranked.
_MAX_RANKED = 1000


def _index_query(index: str, columns: str, joined: str) -> str:
    """A query for the newest matches, of these the best, and a snippet for these only, since it takes longest."""
    newest = f"""SELECT rowid AS row, rank AS score FROM {index} WHERE {index} MATCH :match
        ORDER BY rowid DESC LIMIT max(:limit, {_MAX_RANKED})"""
    best = f"SELECT row, score FROM ({newest}) ORDER BY score, row DESC LIMIT :limit"
    return f"""
        SELECT {columns}, snippet({index}, -1, '{_OPEN}', '{_CLOSE}', '…', {_SNIPPET_WORDS})
        FROM ({best}) JOIN {index} ON {index}.rowid = row {joined}
        WHERE {index} MATCH :match ORDER BY score, row DESC"""


_SEARCH_NODES = _index_query(
    "node_texts",
    "s.id, s.name, s.title, n.id, n.role, n.created",
    "JOIN nodes n ON n.number = row JOIN sessions s ON s.id = n.session",
)
_SEARCH_SESSIONS = _index_query(
    "session_texts", "s.id, s.name, s.title, NULL, 'session', s.updated", "JOIN sessions s ON s.number = row"
)
_SCAN_NODES = """
    SELECT s.id, s.name, s.title, n.id, n.role, n.created, n.content || ' ' || n.calls AS text
    FROM nodes n JOIN sessions s ON s.id = n.session WHERE contains_all(CAST(text AS BLOB))
    ORDER BY n.number DESC LIMIT ?"""
_SCAN_SESSIONS = """
    SELECT id, name, title, NULL, 'session', updated,
        coalesce(name || ' ', '') || title || coalesce(' ' || system, '') AS text
    FROM sessions WHERE contains_all(CAST(text AS BLOB)) ORDER BY number DESC LIMIT ?"""


@dataclass(frozen=True)
class Hit:
    """A message or a session with the words.

    Attributes:
        session_id: the session.
        name: its name.
        title: its title.
        node_id: the message; None where the words are in the session's title, name or system prompt.
        role: the role of the message, or `session`.
        created: when it was stored, in seconds since 1970.
        snippet: the text around the words.
        marks: (start, end) of each found word in `snippet`, in characters.
    """

    session_id: str
    name: str | None
    title: str
    node_id: str | None
    role: str
    created: float
    snippet: str
    marks: tuple[tuple[int, int], ...]


def find_hits(connection: sqlite3.Connection, query: str, limit: int) -> tuple[Hit, ...]:
    """Find the texts that have all words and "quoted phrases" of a query; the last word may be the beginning of one.

    The index gives the best hits first, ranked among the newest. What the index does not have (scripts without spaces,
    parts of words, punctuation) is found by reading all texts, newest first.

    Args:
        connection: the history.
        query: as the user typed it.
        limit: the most hits.
    """
    terms = parse_terms(query)
    if not terms:
        return ()
    if not _UNSPACED.search(query) and all(_INDEXED.fullmatch(term) for term in terms):
        parameters = {"match": _match_expression(terms, query), "limit": limit}
        by_index = [
            _hit(row) for sql in (_SEARCH_NODES, _SEARCH_SESSIONS) for row in connection.execute(sql, parameters)
        ]
        if by_index:
            return _without_repeated_sessions(by_index)[:limit]
    return _without_repeated_sessions(list(_scan(connection, terms, limit)))[:limit]


def parse_terms(query: str) -> tuple[str, ...]:
    """The words and phrases of a query."""
    parts = (quoted or word for quoted, word in _TERM.findall(query.replace("\0", " ")))
    return tuple(term for term in (" ".join(part.split()) for part in parts) if term)


def newest_leaf(conversation: Conversation, node_id: str) -> str:
    """The leaf of a path through a node: the current leaf if its path has the node, else that of the newest branch.

    Raises:
        KeyError: there is no such node.
    """
    if node_id in {node.id for node in conversation.path()}:
        return conversation.leaf or node_id
    leaf = conversation.nodes[node_id].id
    while children := conversation.children(leaf):
        leaf = children[-1].id
    return leaf


def _without_repeated_sessions(hits: list[Hit]) -> tuple[Hit, ...]:
    """The hits without sessions of which a message is a hit too, since a title repeats the first question."""
    shown = {hit.session_id for hit in hits if hit.node_id}
    return tuple(hit for hit in hits if hit.node_id or hit.session_id not in shown)


def _match_expression(terms: tuple[str, ...], query: str) -> str:
    """The query in the syntax of FTS5, with every term between quotes."""
    quoted = ['"' + term.replace('"', '""') + '"' for term in terms]
    if not query.rstrip().endswith('"'):
        quoted[-1] += "*"
    return " AND ".join(quoted)


def _scan(connection: sqlite3.Connection, terms: tuple[str, ...], limit: int) -> Iterator[Hit]:
    """Find the terms by reading all texts, newest first."""
    folded = [term.casefold() for term in terms]

    def contains_all(raw: bytes) -> bool:
        text = raw.decode(errors="replace").casefold()
        return all(term in text for term in folded)

    connection.create_function("contains_all", 1, contains_all, deterministic=True)
    for sql in (_SCAN_NODES, _SCAN_SESSIONS):
        for *fields, text in connection.execute(sql, (limit,)):
            yield _hit((*fields, _snippet(text_of(text), terms)))


def _snippet(text: str, terms: tuple[str, ...]) -> str:
    """The part of `text` around the first term in it, with all terms marked."""
    pattern = re.compile("|".join(re.escape(term) for term in terms), re.IGNORECASE)
    text = " ".join(text.split())
    first = pattern.search(text)
    found = first.start() if first else 0
    start, end = max(0, found - _SNIPPET_MARGIN), (first.end() if first else 0) + _SNIPPET_MARGIN
    marked = pattern.sub(lambda match: _OPEN + match.group() + _CLOSE, text[start:end])
    return ("…" if start else "") + marked + ("…" if end < len(text) else "")


def _hit(row: tuple[Any, ...]) -> Hit:
    """The hit of a row whose last value is the snippet with marks."""
    *fields, marked = row
    snippet = ""
    marks: list[tuple[int, int]] = []
    for piece in re.split(f"({_OPEN}[^{_OPEN}{_CLOSE}]*{_CLOSE})", text_of(marked)):
        plain = piece.strip(_OPEN + _CLOSE)
        if piece.startswith(_OPEN):
            marks.append((len(snippet), len(snippet) + len(plain)))
        snippet += plain
    session_id, name, title, node_id, role, created = fields
    return Hit(
        text_of(session_id),
        None if name is None else text_of(name),
        text_of(title),
        None if node_id is None else text_of(node_id),
        text_of(role),
        time_of(created),
        snippet,
        tuple(marks),
    )
