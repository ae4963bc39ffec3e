"""Pictures are stored once, whatever sessions have them, and come back from the file, from exports and from damage."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from chat.core.conversation import Conversation, Message, Picture
from chat.errors import DataError
from chat.history.export import export_text
from chat.history.session_json import from_json
from chat.history.sqlite_pages import PAGE_BYTES
from chat.history.store import Store, open_store

CAT = Picture.of_file(b"\x89PNG cat" * 3000, "image/png", "cat [1].png")
DOG = Picture.of_file(b"\xff\xd8\xff dog" * 3000, "image/jpeg", "dog.jpg", place=4)


def tree(*pictures: Picture, text: str = "who is it") -> Conversation:
    return Conversation().add(Message("user", text, pictures=pictures)).add(Message("assistant", "an animal"))


def stored(store: Store) -> list[str]:
    query = "SELECT sha256 FROM pictures ORDER BY number"
    return store._connection.read(lambda connection: [row[0] for row in connection.execute(query)])


def whole(conversation: Conversation) -> list[tuple[Picture, bytes]]:
    return [(each, each.data) for node in conversation.nodes.values() for each in node.message.pictures]


@pytest.mark.parametrize("place", ["file", "memory"])
def test_a_picture_is_stored_once_and_goes_with_its_last_session(place: str, tmp_path: Path) -> None:
    store = open_store(tmp_path / "history.db" if place == "file" else None)
    first = store.create(conversation=tree(CAT, DOG))
    second = store.create(conversation=tree(CAT))
    store.append(second.id, tree(CAT, text="again").path()[0])
    assert stored(store) == [CAT.sha256, DOG.sha256]
    assert whole(store.load(first.id)[1]) == [(CAT, CAT.data), (DOG, DOG.data)]
    store.remove(first.id)
    assert stored(store) == [CAT.sha256]
    assert whole(store.load(second.id)[1]) == [(CAT, CAT.data)] * 2
    store.remove(second.id)
    assert stored(store) == []


def test_a_question_without_words_has_its_pictures_as_the_title() -> None:
    with open_store(None) as store:
        assert store.create(conversation=tree(CAT, DOG, text="")).title == "cat [1].png, dog.jpg"


def test_a_session_that_another_program_removed_gets_its_pictures_back(tmp_path: Path) -> None:
    ours, theirs = open_store(tmp_path / "history.db"), open_store(tmp_path / "history.db")
    record = ours.create(conversation=tree(CAT))
    theirs.remove(record.id)
    assert stored(ours) == []
    ours.append(record.id, tree(DOG).path()[0])
    assert stored(ours) == [CAT.sha256, DOG.sha256]


def test_pictures_are_recovered_from_a_damaged_history(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with open_store(path) as store:
        record = store.create(conversation=tree(CAT, DOG))
    with path.open("r+b") as file:
        file.write(bytes(PAGE_BYTES))
    with open_store(path) as store:
        assert store.take_notices()
        assert whole(store.load(record.id)[1]) == [(CAT, CAT.data), (DOG, DOG.data)]


def test_a_history_of_the_third_version_opens(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with open_store(path) as store:
        record = store.create(conversation=tree())
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP TABLE pictures; ALTER TABLE nodes DROP COLUMN pictures; PRAGMA user_version = 3;"
        )
    with open_store(path) as store:
        assert store.take_notices() == ()
        assert store.load(record.id)[1].messages() == tree().messages()
        store.append(record.id, tree(CAT).path()[0])
        assert whole(store.load(record.id)[1]) == [(CAT, CAT.data)]


def test_a_picture_whose_bytes_are_lost_keeps_its_place(tmp_path: Path) -> None:
    with open_store(tmp_path / "history.db") as store:
        record = store.create(conversation=tree(CAT))
        store._connection.write(lambda connection: connection.execute("DELETE FROM pictures").rowcount)
        assert whole(store.load(record.id)[1]) == [(CAT, b"")]


def test_json_holds_the_pictures_and_is_read_back() -> None:
    with open_store(None) as store:
        record = store.create(conversation=tree(CAT, DOG))
    text = export_text(record, tree(CAT, DOG), "json")
    assert whole(from_json(text)[1]) == [(CAT, CAT.data), (DOG, DOG.data)]
    plain = json.loads(text)
    assert plain["version"] == 1
    assert plain["nodes"][0]["content"] == "who is it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "?"}, "nodes[0].pictures[0].data: not base64"),
        ({"data": "AAAA"}, "nodes[0].pictures[0].sha256: is not the hash of its data"),
        ({"sha256": "x", "data": ""}, "nodes[0].pictures[0].sha256: is not the hash of its data"),
        ({"media_type": "image/svg+xml"}, "nodes[0].pictures[0].media_type: `image/svg+xml` is not one of image/png, "),
        ({"place": -1}, "nodes[0].pictures[0].place: not a number of characters"),
        ({"name": 3}, "nodes[0].pictures[0].name: not a text"),
    ],
)
def test_faulty_pictures_of_an_export_are_named(change: dict[str, object], message: str) -> None:
    with open_store(None) as store:
        plain = json.loads(export_text(store.create(conversation=tree(CAT)), tree(CAT), "json"))
    plain["nodes"][0]["pictures"][0] |= change
    with pytest.raises(DataError) as caught:
        from_json(json.dumps(plain))
    assert caught.value.message.startswith(message)


def test_exports_for_reading_show_the_pictures() -> None:
    with open_store(None) as store:
        record = store.create(conversation=tree(CAT))
    address = f"data:image/png;base64,{base64.b64encode(CAT.data).decode()}"
    assert f"## You\n\n![cat 1 .png]({address})\n\nwho is it\n" in export_text(record, tree(CAT), "markdown")
    assert "---\n\n[cat [1].png]\n\nwho is it\n" in export_text(record, tree(CAT), "text")
    page = export_text(record, tree(CAT), "html")
    assert f'<p><img src="{address}" alt="cat [1].png"></p>' in page
    assert "img-src data:;" in page
    turn = json.loads(export_text(record, tree(CAT), "sharegpt"))["conversations"][0]
    assert turn == {"from": "human", "value": "<image>\nwho is it", "images": [address]}


def test_another_place_is_another_message() -> None:
    assert tree(CAT).messages() != tree(replace(CAT, place=2)).messages()
    assert Message("user", "abcd", pictures=(replace(CAT, place=2), replace(DOG, place=9))).parts() == (
        "ab",
        replace(CAT, place=2),
        "cd",
        replace(DOG, place=9),
    )
