"""`--find`: the passages of long documents that match a question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chat.documents import selection
from chat.documents.document import Document, Place
from chat.documents.passages import LONGEST, passages_of
from chat.documents.search import PassageSearch
from chat.documents.selection import CITE, MOST_BYTES, Selection
from chat.errors import DataError
from tests.program import run

ITEMS = "\n\n".join(
    f"## Item {number}\n\nItem {number} weighs {number * 7} kilograms and was made in {1500 + number}. It is kept in a "
    "cellar, where nobody looks at it but the cat, who does so once a day and without a word."
    for number in range(1, 301)
)


def test_passages_hold_all_of_the_text_in_its_order() -> None:
    text = ITEMS + "\n\n" + "One sentence of many. " * 500 + "\n\n" + "x" * 5000
    passages = passages_of(Document("a.md", text), 0)
    assert "".join("".join(passage.text.split()) for passage in passages) == "".join(text.split())
    assert max(len(passage.text) for passage in passages) <= LONGEST
    assert all(text[passage.start : passage.end] == passage.text for passage in passages)
    assert (passages[76].heading, passages[76].place) == ("Item 77", "line 305")


def test_a_passage_does_not_go_on_over_a_page() -> None:
    text = "[page 1]\none\n\n[page 2]\ntwo\n\nthree"
    places = (Place(0, "page 1"), Place(text.index("[page 2]"), "page 2"))
    passages = passages_of(Document("a.pdf", text, places=places), 0)
    assert [(passage.place, passage.text) for passage in passages] == [
        ("page 1", "[page 1]\none"),
        ("page 2", "[page 2]\ntwo\n\nthree"),
    ]


def test_each_part_of_a_table_begins_with_a_row_and_has_the_first_row_above_it() -> None:
    rows = "".join(f"| {number} | Ann. Bob. | {number * 7} |\n" for number in range(2, 200))
    table = f"# Sheet S\n\n| 1 | Name | Sold |\n| --- | --- | --- |\n{rows}"
    places = tuple(Place(table.index(f"\n| {number} |") + 1, f"sheet S, row {number}") for number in range(2, 200))
    first, *others = passages_of(Document("a.xlsx", table, places=(Place(0, "sheet S, row 1"), *places)), 0)
    assert first.text.startswith("# Sheet S") and first.place == "sheet S, row 1"
    assert {other.heading for other in others} == {"Sheet S: 1 | Name | Sold"}
    for other in others:
        assert other.place == f"sheet S, row {other.text.split()[1]}"
    lines = passages_of(Document("a.csv", table.partition("\n\n")[2].replace("| ", ""), language="csv"), 0)
    assert lines[1].heading == "1 Name Sold"


def test_a_heading_stays_with_the_long_paragraph_below_it() -> None:
    """It was a passage of its own, and the paragraph had no title."""
    text = "# Bees\n\n" + "They make honey. " * 58
    assert [passage.text[:20] for passage in passages_of(Document("a.md", text), 0)] == ["# Bees\n\nThey make ho"]


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("How heavy is item 77?", "Item 77"),
        ("itme 123", "Item 123"),
        ("What was MADE in 1612?", "Item 112"),
        ('"AND OR NOT (item* NEAR 45', "Item 45"),
    ],
)
def test_words_typos_and_operators_of_the_search_are_words(question: str, first: str) -> None:
    assert PassageSearch([Document("a.md", ITEMS)]).ranked(question)[0].heading == first


@pytest.mark.parametrize("question", ["What is weighed_item_123?", "__item_123", "item\u20e3 123 \ua7da"])
def test_a_word_that_the_index_cuts_is_found_by_its_parts(question: str) -> None:
    """An underscore in a word ended the program: FTS5 made it a phrase, which that index had no places for."""
    assert PassageSearch([Document("a.md", ITEMS)]).ranked(question)[0].heading == "Item 123"


def test_a_heading_may_be_indented() -> None:
    """The passages of a text that is indented as a whole had no headings, and went on over them."""
    text = "  1.1 Bees\n\n  They make honey." + " And so on." * 20 + "\n\n  1.2 Wasps\n\n  They make paper."
    passages = passages_of(Document("a.txt", text), 0)
    assert [passage.heading for passage in passages] == ["1.1 Bees", "1.2 Wasps"]


@pytest.fixture
def without_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in another language than English: the words alone decide."""
    monkeypatch.setattr(selection, "is_english", lambda _texts: False)


@pytest.mark.usefixtures("without_table")
def test_a_short_document_is_sent_whole_and_of_a_long_one_what_matches() -> None:
    short = Document("a.md", "words")
    assert Selection([short]).text_for("anything at all").text == short.fenced()
    found = Selection([short, Document("b.md", ITEMS)]).text_for("What does item 250 weigh?")
    assert "Passages of `b.md`:\n```\n" in found.text and "Item 250 weighs 1750 kilograms" in found.text
    assert found.text.endswith(CITE) and len(found.text.encode()) < MOST_BYTES + 1000
    assert found.warnings[0].startswith("1 passage of 301 sent: b.md, line 997")
    with pytest.raises(DataError, match=r"^a\.md, b\.md: no passage has a word of the question$"):
        Selection([short, Document("b.md", ITEMS)]).text_for("Xylophon?")


@pytest.mark.usefixtures("without_table")
def test_the_places_that_are_sent_are_named_by_their_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ("sheet A, row 2", "sheet A, row 9", "sheet B, row 1", "page 3")
    texts = [f"boats {number} and {'so on ' * 60}\n\n" for number in range(4)]
    starts = [sum(map(len, texts[:number])) for number in range(4)]
    document = Document("a.xlsx", "".join(texts), places=tuple(map(Place, starts, labels)))
    monkeypatch.setattr(selection, "MOST_BYTES", 10_000)
    monkeypatch.setattr(Document, "fenced", lambda _document: "x" * 10_001)
    note = Selection([document]).text_for("boats").warnings[0]
    assert note == "4 passages of 4 sent: a.xlsx, sheet A, rows 2, 9, sheet B, row 1, page 3"


@pytest.mark.usefixtures("without_table")
def test_passages_that_follow_each_other_are_one_piece() -> None:
    found = Selection([Document("b.md", ITEMS)]).text_for("weighs 539 kilograms or 546 kilograms")
    assert "[line 305]\n## Item 77" in found.text and "[line 309]" not in found.text


def test_the_filter_finds_and_a_batch_finds_for_each_line(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "b.md").write_text(ITEMS)
    asked = ("-f", tmp_path / "b.md", "--find", "-m", tiny_model, "--dry-run")
    done = run(*asked, "What does item 250 weigh?")
    assert "Item 250 weighs" in json.loads(done.stdout)["text"] and b" of 300 sent: b.md" in done.stderr
    (tmp_path / "c.md").write_text("weighs " * 40)
    plain = ("-m", tiny_model, "--context", "512", "--window", "off", "-n", "1", "Hello?")
    assert b"tokens, " in run("-f", tmp_path / "c.md", *plain).stderr
    assert b"tokens, " not in run("-q", "-f", tmp_path / "c.md", *plain).stderr
    done = run(
        "-f", tmp_path / "b.md", "-m", tiny_model, "--context", "64", "--window", "off", "What does item 250 weigh?"
    )
    assert done.returncode == 5 and b"; `--find` sends only the passages of the files that matter" in done.stderr
    lines = b'"What does item 251 weigh?"\n"What does item 130 weigh?"\n'
    rows = [json.loads(line) for line in run(*asked, "--batch", "-", stdin=lines).stdout.splitlines()]
    assert ["Item 251 weighs" in row["text"] for row in rows] == [True, False]
    assert "Item 130 weighs" in rows[1]["text"]
    for arguments, sentence in ((asked, b"needs a question"), (("--find", "hi"), b"--find needs --file")):
        done = run(*arguments)
        assert done.returncode == 2 and sentence in done.stderr
