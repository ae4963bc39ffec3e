"""Spreadsheets, presentations, OpenDocument and RTF become Markdown; hostile ones are refused in one sentence."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from chat.documents.document import Document
from chat.documents.open_document import open_document, text_of_stdin
from chat.errors import DataError
from tests.chat.documents import office_makers as make
from tests.chat.documents.document_makers import zipped

SLIDE = make.shape("title", "Plans") + make.shape("body", "one", ">below one", "two")
TABLE = (
    "<p:graphicFrame><a:tbl><a:tr><a:tc><a:p><a:r><a:t>Year</a:t></a:r></a:p></a:tc><a:tc><a:p/></a:tc></a:tr>"
    "<a:tr><a:tc><a:p><a:r><a:t>2</a:t></a:r><a:r><a:t>0|1</a:t></a:r></a:p></a:tc></a:tr></a:tbl></p:graphicFrame>"
)
ROWS = make.rows("Region|Sold", "North|=12.5", "|", "South|=7", first=3)


def labels(document: Document) -> list[tuple[str, str]]:
    """The label of each place, and the line that begins there."""
    return [(place.label, document.text[place.start :].partition("\n")[0]) for place in document.places]


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_document(str(path))
    return caught.value.message


def test_a_workbook_has_its_sheets_with_the_numbers_of_their_rows(tmp_path: Path) -> None:
    path = make.xlsx(tmp_path / "a.xlsx", {"Sales": ROWS, "Old": make.rows("x"), "Empty": ""}, {"Old": "hidden"})
    found = open_document(str(path))
    assert found.text == (
        "# Sheet Sales\n\n| 3 | Region | Sold |\n| --- | --- | --- |\n| 4 | North | 12.5 |\n| 6 | South | 7 |\n\n"
        "# Sheet Old (hidden)\n\n| 1 | x |\n| --- | --- |"
    )
    assert labels(found) == [
        ("sheet Sales, row 3", "# Sheet Sales"),
        ("sheet Sales, row 4", "| 4 | North | 12.5 |"),
        ("sheet Sales, row 6", "| 6 | South | 7 |"),
        ("sheet Old, row 1", "# Sheet Old (hidden)"),
    ]
    assert found.warnings == ("a.xlsx: 1 hidden sheet is read, too",)
    assert text_of_stdin(path.read_bytes()).text == found.text


def test_values_of_cells_are_written_as_a_reader_writes_them(tmp_path: Path) -> None:
    values = '<c r="A1"><v>3</v></c><c r="B1"><v>0.1</v></c><c r="C1" t="b"><v>1</v></c>'
    more = '<c r="D1" s="1"><v>45352</v></c><c r="E1" t="inlineStr"><is><t>a|b\nc</t></is></c>'
    path = make.xlsx(tmp_path / "a.xlsx", {"S": f'<row r="1">{values}{more}</row>'})
    assert open_document(str(path)).text.splitlines()[2] == r"| 1 | 3 | 0.1 | TRUE | 2024-03-01 | a\|b c |"


def test_cells_without_a_value_are_counted(tmp_path: Path) -> None:
    """Programs write formulas that they do not compute, and the cells would be missing without a word."""
    cells = '<c r="A1"><v>3</v></c><c r="B1"><f>A1*2</f><v></v></c><c r="C1"><f>A1</f></c>'
    more = '<c r="D1"><f>A1</f><v>3</v></c><c r="E1" t="e"><f>1/0</f><v>#DIV/0!</v></c>'
    found = open_document(str(make.xlsx(tmp_path / "a.xlsx", {"S": f'<row r="1">{cells}{more}</row>'})))
    assert found.text.splitlines()[2] == "| 1 | 3 |  |  | 3 |"
    assert found.warnings == ("a.xlsx: 3 cells have no value: an error, or a formula that was never computed",)


def test_a_workbook_of_before_2007_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.xls").write_bytes(make.xls([(0, 0, "Name"), (0, 1, "Size"), (2, 0, "Ann"), (2, 1, 1.75)]))
    found = open_document(str(tmp_path / "a.xls"))
    assert found.text == "# Sheet Old\n\n| 1 | Name | Size |\n| --- | --- | --- |\n| 3 | Ann | 1.75 |"


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        ("WordDocument", "is a Word document of before 2007, which cannot be read"),
        ("PowerPoint Document", "is a PowerPoint presentation of before 2007, which cannot be read"),
        ("__properties_version1.0", "is an Outlook message, which cannot be read"),
        ("EncryptedPackage", "is locked by a password"),
        ("Workbook", "is a damaged spreadsheet, which cannot be read"),
        ("Quill", "is a document of an old program, which cannot be read"),
    ],
)
def test_other_documents_of_before_2007_are_refused_by_name(stream: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(make.compound({stream: b"words", "SummaryInformation": b""}))
    assert refusal(tmp_path / "x") == f"x: {sentence}"


def test_a_presentation_is_read_slide_by_slide(tmp_path: Path) -> None:
    other = "<mc:AlternateContent><mc:Choice>{}</mc:Choice><mc:Fallback>{}</mc:Fallback></mc:AlternateContent>"
    second = TABLE + other.format(make.shape("", "box"), make.shape("", "box")) + make.shape("sldNum", "2")
    chart = make.chart({"Sold": {"East": 1.5, "West": 2}, "Kept": {"East": 3}})
    path = make.pptx(tmp_path / "a.pptx", [SLIDE, second, ""], notes=["Speak slowly"], hidden=[2], chart=chart)
    found = open_document(str(path))
    assert found.text == (
        "[slide 1]\n# Plans\n\n- one\n  - below one\n- two\n\nNotes: Speak slowly\n\n"
        "|  | Sold | Kept |\n| --- | --- | --- |\n| East | 1.5 | 3 |\n| West | 2 |  |\n\n"
        "[slide 2] (hidden)\n| Year |  |\n| --- | --- |\n| 20\\|1 |\n\nbox\n\n[slide 3]"
    )
    assert labels(found) == [
        ("slide 1", "[slide 1]"),
        ("slide 2", "[slide 2] (hidden)"),
        ("slide 3", "[slide 3]"),
    ]
    assert found.warnings == (
        "a.pptx: 1 hidden slide is read, too",
        "a.pptx: 1 of 3 slides have no text, only pictures",
    )
    assert refusal(make.pptx(tmp_path / "b.pptx", [""])) == "b.pptx: has no text, only pictures on 1 slide"


def test_an_open_document_text_becomes_markdown(tmp_path: Path) -> None:
    body = (
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>"
        '<text:h text:outline-level="2">Head</text:h>'
        '<text:p>a<text:s text:c="9"/>b<text:note><text:note-citation>1</text:note-citation><text:note-body>'
        "<text:p>below</text:p></text:note-body></text:note> &lt;c&gt;<office:annotation><text:p>comment</text:p>"
        "</office:annotation></text:p><text:list><text:list-item><text:p>item</text:p></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>1</text:p></table:table-cell><table:table-cell>"
        "<text:p>2</text:p></table:table-cell></table:table-row></table:table>"
    )
    found = open_document(str(make.open_document(tmp_path / "a.odt", "text", body)))
    assert found.text == "## Head\n\na b [note: below] <c>\n\n- item\n\n| 1 | 2 |\n| --- | --- |"
    assert refusal(make.open_document(tmp_path / "b.odt", "text", "")) == "b.odt: has no text"


def test_an_open_document_presentation_is_read_slide_by_slide(tmp_path: Path) -> None:
    frame = "<draw:frame{}><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame>"
    first = frame.format(' presentation:class="title"', "Plans") + frame.format("", "box")
    notes = f"<presentation:notes>{frame.format('', 'Speak')}</presentation:notes>"
    pages = f'<draw:page draw:style-name="d">{first}{notes}</draw:page><draw:page/>'
    style = (
        '<style:style style:name="d"><style:drawing-page-properties presentation:visibility="hidden"/></style:style>'
    )
    found = open_document(str(make.open_document(tmp_path / "a.odp", "presentation", pages, styles=style)))
    assert found.text == "[slide 1] (hidden)\n# Plans\n\nbox\n\nNotes: Speak\n\n[slide 2]"
    assert [place.label for place in found.places] == ["slide 1", "slide 2"]
    assert found.warnings == ("a.odp: 1 hidden slide is read, too", "a.odp: 1 of 2 slides have no text, only pictures")
    drawing = open_document(str(make.open_document(tmp_path / "a.odg", "drawing", pages)))
    assert drawing.text.startswith("[page 1]\n# Plans") and drawing.places[1].label == "page 2"


def test_an_open_document_spreadsheet_is_read_without_its_empty_rows(tmp_path: Path) -> None:
    cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    empty = '<table:table-row table:number-rows-repeated="70000"><table:table-cell/></table:table-row>'
    row = f"<table:table-row>{cell}</table:table-row>"
    rows = f"{row.format('a')}{empty}{row.format('z')}"
    path = make.open_document(tmp_path / "a.ods", "spreadsheet", f'<table:table table:name="S">{rows}</table:table>')
    assert open_document(str(path)).text == "# Sheet S\n\n| 1 | a |\n| --- | --- |\n| 70002 | z |"


def test_a_locked_open_document_is_named_as_such(tmp_path: Path) -> None:
    locked = "<file-entry><encryption-data/></file-entry>"
    for kind in ("text", "spreadsheet"):
        path = make.open_document(tmp_path / f"a.{kind}", kind, "", manifest=locked)
        assert refusal(path) == f"a.{kind}: is locked by a password"
    assert (
        refusal(make.open_document(tmp_path / "a.odf", "formula", "")) == "a.odf: is an OpenDocument file without text"
    )


def test_rich_text_is_read_in_its_character_sets(tmp_path: Path) -> None:
    data = rb"{\rtf1\ansi{\info{\title T}}Gr\'fc\'dfe \u-10179?\u-8704?\par {\b bold}{\footnote note}\par}"
    (tmp_path / "a.rtf").write_bytes(data)
    found = open_document(str(tmp_path / "a.rtf"))
    assert found.text == "Grüße 😀\nbold [note: note]"
    assert found.warnings == ()
    assert text_of_stdin(data).text == found.text
    (tmp_path / "b.rtf").write_bytes(rb"{\rtf1 }")
    assert refusal(tmp_path / "b.rtf") == "b.rtf: has no text"


def test_notes_of_rich_text_stand_where_they_are_referred_to_and_deleted_words_are_left_out(tmp_path: Path) -> None:
    """As LibreOffice writes them; notes were left out, and deleted words read as if they were not."""
    note = rb"{\super \chftn{\*\footnote\ftnalt \chftn\pard\plain \fs20{\loch\n\tab Before {\b taxes}.}\n}}"
    data = (
        rb"{\rtf1\ansi{\loch\nIt earned 7}{"
        + note
        + rb"}{\deleted\revauthdel1 \loch\nGONE}{\loch\n, \{\\footnote\}.}\par}"
    )
    (tmp_path / "a.rtf").write_bytes(data.replace(b"\\n", b"\n"))
    assert open_document(str(tmp_path / "a.rtf")).text == "It earned 7 [note: Before taxes.], {\\footnote}."


def test_a_list_that_begins_deeper_and_the_number_of_a_page_are_read_as_they_look(tmp_path: Path) -> None:
    """LibreOffice saves each point of a presentation as a list of its own; its points got a mark for each level."""
    point = "<list><list-item>{}</list-item></list>"
    number = "<notes><p>Say it</p><p><page-number>&lt;number&gt;</page-number></p></notes>"
    body = f"<page>{point.format('<p>One</p>')}{point.format(point.format('<p>Two</p>'))}{number}</page>"
    found = open_document(str(make.open_document(tmp_path / "a.odp", "presentation", body)))
    assert found.text == "[slide 1]\n- One\n\n- Two\n\nNotes: Say it"


def _entities(path: Path) -> Path:
    """10^9 letters from a kilobyte."""
    entities = "".join(
        f'<!ENTITY {name} "{f"&{below};" * 10}">' for below, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    bomb = f'<!DOCTYPE x [<!ENTITY a "{"a" * 1000}">{entities}]><x>&i;</x>'
    return zipped(path, {"ppt/presentation.xml": bomb, "ppt/_rels/presentation.xml.rels": "<x/>"})


def _nested(path: Path) -> Path:
    return make.open_document(path, "text", "<text:p>" * 50_000 + "</text:p>" * 50_000)


def _corners(path: Path) -> Path:
    """Two cells so far apart that all between them need 512 GB."""
    cell = '<row r="{0}"><c r="{1}{0}"><v>1</v></c></row>'
    return make.xlsx(path, {"S": cell.format(1, "A") + cell.format(1048576, "XFD")})


def _repeated(path: Path) -> Path:
    cell = '<table:table-cell table:number-columns-repeated="16384" office:value-type="float" office:value="1"/>'
    row = f'<table:table-row table:number-rows-repeated="1048576">{cell}</table:table-row>'
    return make.open_document(path, "spreadsheet", f'<table:table table:name="S">{row}</table:table>')


def _outside(path: Path) -> Path:
    """A slide that names a file outside the archive."""
    package = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
    parts = {
        "ppt/presentation.xml": f'<p:presentation {make.SLIDE_SPACES}><p:sldId r:id="r"/></p:presentation>',
        "ppt/_rels/presentation.xml.rels": f'<R {package}><Relationship Id="r" Target="/../../etc/passwd"/></R>',
    }
    return zipped(path, parts)


@pytest.mark.parametrize(
    ("attack", "sentence"),
    [
        (_entities, r"is a damaged document: its XML cannot be read"),
        (_nested, r"cannot be read: it is nested too deeply"),
        (_corners, r"needs too much memory to be read"),
        (_repeated, r"is a damaged spreadsheet, which cannot be read"),
        (_outside, r"is a damaged or locked document, which cannot be read"),
    ],
)
def test_hostile_documents_are_one_sentence(attack: Callable[[Path], Path], sentence: str, tmp_path: Path) -> None:
    assert re.fullmatch(f"x: {sentence}", refusal(attack(tmp_path / "x")))


def test_a_slide_that_is_listed_a_million_times_is_read_once(tmp_path: Path) -> None:
    path = make.pptx(tmp_path / "a.pptx", [make.shape("", "words")])
    again = '<p:sldId id="1" r:id="r0"/>' * 100_000
    parts = {
        "ppt/presentation.xml": f"<p:presentation {make.SLIDE_SPACES}>{again}</p:presentation>",
        "ppt/_rels/presentation.xml.rels": "",
        "ppt/slides/slide0.xml": "",
    }
    with zipfile.ZipFile(path) as archive:
        for part in list(parts)[1:]:
            parts[part] = archive.read(part).decode()
    assert open_document(str(zipped(path, parts))).text == "[slide 1]\nwords"
