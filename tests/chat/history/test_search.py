"""Any query finds its texts and none fails; the index is equal to the stored texts."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from chat.core.conversation import Conversation, Message, Node, ToolCall
from chat.history.search import Hit, newest_leaf, parse_terms
from chat.history.store import Store, open_store

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = {
    "cafe": "Le café est fermé le dimanche.",
    "code": "def rolling_buffer(k): return k[i % W]  # C++ and f(x) > 0",
    "japanese": "私は日本語の本を読むのが好きです。",
    "thai": "ฉันชอบกินข้าวผัด",
    "russian": "Скользящее окно внимания",
    "quote": 'She said "hello there" and left; 100% sure_thing',
    "newline": "first line\nsecond line\n\tthird",
}


@pytest.fixture
def store() -> Store:
    store = open_store(None)
    conversation = Conversation()
    for node_id, text in TEXTS.items():
        conversation = conversation.add(Message("user", text), node_id)
    call = Message("assistant", "", tool_calls=(ToolCall("weather_in", '{"city": "Reykjavik"}'),))
    store.create(name="trip", title="Various", conversation=conversation.add(call, "call"))
    store.create(name="empty-one", conversation=Conversation("Answer like a pirate."))
    return store


def found(store: Store, query: str) -> list[str]:
    return sorted(hit.node_id or f"session {hit.name}" for hit in store.search(query))


@pytest.mark.parametrize(
    ("query", "hits"),
    [
        ("café", ["cafe"]),
        ("CAFE dimanche", ["cafe"]),
        ("dim", ["cafe"]),  # the last word may be the beginning of one
        ("caf dimanche", ["cafe"]),  # other parts of words are found by reading
        ("caf zzz", []),
        ("dimanche café", ["cafe"]),
        ('"est fermé"', ["cafe"]),
        ('"fermé est"', []),
        ('"est fer"', ["cafe"]),
        ("rolling_buffer", ["code"]),
        ("C++", ["code"]),
        ("Reykjavik", ["call"]),
        ("weather_in", ["call"]),
        ("日本", ["japanese"]),
        ("好き", ["japanese"]),
        ("本を 好き", ["japanese"]),
        ("ข้าวผัด", ["thai"]),
        ("окно", ["russian"]),
        ("ВНИМ", ["russian"]),
        ("hello there", ["quote"]),
        ("econd", ["newline"]),  # a part of a word, found by reading
        ("% W]", ["code"]),
        ("> 0", ["code"]),
        ("pirate", ["session empty-one"]),
        ("trip", ["session trip"]),
        ("various", ["session trip"]),
        ("nothing like it", []),
        ("", []),
        ("   ", []),
        ('"', []),
        ('""', []),
    ],
)
def test_a_query_finds_its_texts(store: Store, query: str, hits: list[str]) -> None:
    assert found(store, query) == hits


HOSTILE = ('"', "'", "*", "AND", "OR", "NOT", "NEAR(", "(", ")", "^", ":", "content:", "-", "--", ";", "\\", "%", "_",
           "\0", "\ud800", "{", "}", "[", "+", "\x1b", "\ufdd0", "\ufdd1", "' OR 1=1", "NEAR(a b, 2)",
           "a" * 10_000)  # fmt: skip


def test_no_query_fails(store: Store) -> None:
    seeded = random.Random(5)
    for query in HOSTILE:
        store.search(query)
    for _ in range(500):
        store.search("".join(seeded.choice((*HOSTILE, " ", "café", "buffer")) for _ in range(seeded.randint(1, 6))))


def test_a_hit_has_its_session_and_a_snippet(store: Store) -> None:
    record = store.get("trip")
    (hit,) = store.search("fermé dimanche")
    assert hit == Hit(
        session_id=record.id,
        name="trip",
        title="Various",
        node_id="cafe",
        role="user",
        created=hit.created,
        snippet="Le café est fermé le dimanche.",
        marks=((12, 17), (21, 29)),
    )
    assert hit.created == record.created


def test_snippets_are_short_and_marked_where_the_words_are() -> None:
    store = open_store(None)
    text = "filler words here " * 400
    conversation = Conversation().add(Message("user", text + "the needle lies " + text), "a")
    conversation = conversation.add(Message("assistant", text + "日本語needle " + text), "b")
    store.create(conversation=conversation)
    by_index, by_reading = store.search("needle"), store.search("本語")
    for (hit,), word in ((by_index, "needle"), (by_reading, "本語")):
        assert [hit.snippet[start:end] for start, end in hit.marks] == [word]
        assert len(hit.snippet) < 200
        assert hit.snippet.startswith("…") and hit.snippet.endswith("…")
    assert (by_index[0].node_id, by_reading[0].node_id) == ("a", "b")


def test_text_with_the_characters_of_marks_is_shown_too() -> None:
    store = open_store(None)
    store.create(conversation=Conversation().add(Message("user", "odd \ufdd0mark\ufdd1 and \ufdd0 needle"), "a"))
    (hit,) = store.search("needle")
    assert "needle" in hit.snippet
    assert [hit.snippet[start:end] for start, end in hit.marks if "n" in hit.snippet[start:end]] == ["needle"]


def test_a_limit_holds_and_titles_do_not_repeat_messages() -> None:
    store = open_store(None)
    for number in range(30):
        store.create(conversation=Conversation().add(Message("user", f"needle {number}")))
    assert len(store.search("needle", limit=7)) == 7
    assert len(store.search("needle", limit=100)) == 30
    assert len(store.search("eedle", limit=100)) == 30


def test_of_very_many_matches_the_best_of_the_newest_come_first() -> None:
    """All messages were ranked once, and the beginning of a word that nearly all have took half a second."""
    store = open_store(None)
    texts = [
        "needle",
        *(f"needle in a {'very ' * (number % 7)}big haystack" for number in range(1100)),
        "needle needle",
    ]
    conversation = Conversation()
    for number, text in enumerate(texts):
        conversation = conversation.add(Message("user", text), f"n{number}")
    store.create(title="all", conversation=conversation)
    assert [hit.node_id for hit in store.search("needle", limit=3)] == ["n1101", "n1100", "n1093"]
    assert len(store.search("need", limit=1102)) == 1102
    assert store.search("needle haystack", limit=1)[0].node_id == "n1100"


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ('one "two three" four', ("one", "two three", "four")),
        ('"open end', ("open end",)),
        ('a""b', ('a""b',)),
        ("  \t\n ", ()),
        ("nul\0byte", ("nul", "byte")),
    ],
)
def test_terms_are_words_and_phrases(query: str, terms: tuple[str, ...]) -> None:
    assert parse_terms(query) == terms


def test_a_hit_is_opened_on_a_path_that_has_it() -> None:
    """On the current path the leaf stays; else the newest branch through the hit is chosen."""
    first = Conversation().add(Message("user", "q"), "q").add(Message("assistant", "old"), "old")
    tree = first.add(Message("user", "old more"), "old-more").with_leaf("q").add(Message("assistant", "new"), "new")
    tree = tree.add(Message("user", "end"), "end")
    assert {node_id: newest_leaf(tree, node_id) for node_id in tree.nodes} == {
        "q": "end", "new": "end", "end": "end", "old": "old-more", "old-more": "old-more",
    }  # fmt: skip
    assert newest_leaf(tree.with_leaf(None), "q") == "end"
    with pytest.raises(KeyError):
        newest_leaf(tree, "nowhere")


def test_the_index_follows_every_change(tmp_path: Path) -> None:
    """FTS5 itself compares index and content after random stores, streams, renames and removals."""
    seeded = random.Random(11)
    path = tmp_path / "history.db"
    with open_store(path) as store:
        sessions = [store.create(name=f"n{i}").id for i in range(4)]
        for step in range(150):
            session = seeded.choice(sessions)
            node = Node(f"x{seeded.randrange(40)}", None, Message("assistant", f"words {step} " * seeded.randrange(5)))
            action = seeded.randrange(6)
            if action == 0:
                store.append(session, node)
            elif action == 1:
                store.begin_answer(session, node)
            elif action == 2:
                store.finish_answer(session, node)
            elif action == 3:
                store.rename(session, f"name {step}")
            elif action == 4:
                store.set_system(session, f"system {step}")
            elif step % 10 == 0:
                store.remove(session)
                sessions[sessions.index(session)] = store.create(
                    conversation=Conversation().add(Message("user", "hi"))
                ).id
    with closing(sqlite3.connect(path)) as connection:
        for index in ("node_texts", "session_texts"):
            connection.execute(f"INSERT INTO {index}({index}, rank) VALUES ('integrity-check', 1)")


@pytest.mark.parametrize("change", ["title = ?, updated = ?", "title = ?, name = ?"])
@pytest.mark.parametrize("query", ["trip", "rip", "C++"])
def test_rows_with_bytes_in_place_of_texts_are_found(store: Store, change: str, query: str) -> None:
    """A search was an unexpected error where a row held bytes, or a text that is not UTF-8."""
    odd = b"a trip with C++ \xff"

    def damage(connection: sqlite3.Connection) -> None:
        connection.execute(f"UPDATE sessions SET {change} WHERE name = 'trip'", (odd, odd))
        connection.execute("UPDATE nodes SET content = ? WHERE id = 'code'", (odd,))

    store._connection.write(damage)
    hits = store.search(query)
    assert hits and {type(hit.title) for hit in hits} == {str}
    assert {type(hit.created) for hit in hits} == {float}
    assert all(isinstance(text, str) for text in store.questions())
