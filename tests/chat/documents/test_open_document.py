"""Documents become text, and what cannot be read is refused by name."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from chat.documents.document import Document, pictures_of, texts_of
from chat.documents.open_document import open_document, text_of_stdin
from chat.documents.pictures import picture_size
from chat.errors import ChatError, ContextError, DataError, FileError
from chat.system.installer import install_extra
from tests.chat.documents import document_makers as make
from tests.program import run

PAGE = b"""<!doctype html><html><head><title>The title</title><style>p {color: red}</style></head>
<body><nav>Home</nav><h1>Bread</h1><script>alert(1)</script><p>Mix <b>flour</b> and <a href="/w">water</a>.</p>
<ul><li>one</li><li>two</li></ul><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>
<img src="x.png" alt="a loaf"></body></html>"""
MARKDOWN = (
    "# The title\n\n# Bread\n\nMix **flour** and [water](/w).\n\n- one\n- two\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
)


def opened(folder: Path, name: str, data: bytes) -> Document:
    (folder / name).write_bytes(data)
    return open_document(str(folder / name))


def refusal(folder: Path, name: str, data: bytes, kind: type[ChatError] = DataError) -> str:
    with pytest.raises(kind) as caught:
        opened(folder, name, data)
    return caught.value.message


def test_a_pdf_is_read_page_by_page(tmp_path: Path) -> None:
    found = opened(tmp_path, "paper", make.pdf(["First line\nsecond line", "The last page"]))
    assert found.text == "[page 1]\nFirst line\nsecond line\n\n[page 2]\nThe last page"
    assert [(found.text[place.start :][:8], place.label) for place in found.places] == [
        ("[page 1]", "page 1"),
        ("[page 2]", "page 2"),
    ]
    assert found.fenced().startswith("File `paper`:\n```markdown\n[page 1]")


def test_a_pdf_without_text_damaged_or_locked_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "blank.pdf", make.pdf(["", ""])) == "blank.pdf: has neither text nor pictures"
    some = opened(tmp_path, "some.pdf", make.pdf(["words", ""]))
    assert some.warnings == ("some.pdf: 1 of 2 pages have no text, only pictures",)
    assert refusal(tmp_path, "cut.pdf", b"%PDF-1.4\nnonsense") == "cut.pdf: is a damaged PDF, which cannot be read"


def test_a_scan_becomes_pictures_of_its_pages(tmp_path: Path) -> None:
    """It was refused, also for a model that sees."""
    found = opened(tmp_path, "scan.pdf", make.pdf(["", ""], "100 100 200 300 re f"))
    assert (found.text, found.warnings) == ("", ("scan.pdf: has no text; its 2 pages are read as pictures",))
    assert [(page.name, picture_size(page.data)) for page in found.pages] == [
        ("scan.pdf, page 1", (1155, 1540)),
        ("scan.pdf, page 2", (1155, 1540)),
    ]
    assert (texts_of([found]), pictures_of([found])) == ([], found.pages)
    long = opened(tmp_path, "long.pdf", make.pdf([""] * 21, "100 100 200 300 re f"))
    assert len(long.pages) == 20
    assert long.warnings == ("long.pdf: has no text; the first 20 of its 21 pages are read as pictures",)
    (tmp_path / "folder").mkdir()
    (tmp_path / "scan.pdf").rename(tmp_path / "folder" / "scan.pdf")
    (tmp_path / "folder" / "a.txt").write_text("text")
    folder = open_document(str(tmp_path / "folder"))
    assert "document without text, left out)" in folder.text
    assert [part.name for part in folder.parts] == ["folder/a.txt"]


def test_a_page_becomes_markdown_without_scripts_and_pictures(tmp_path: Path) -> None:
    assert opened(tmp_path, "page.html", PAGE).text == MARKDOWN
    main = b"<body><p>around</p><main><p>inside</p></main></body>"
    assert opened(tmp_path, "main.htm", main).text == "inside"
    assert "page without text" in refusal(tmp_path, "empty.html", b"<script>draw()</script>")
    assert "is nested too deeply" in refusal(tmp_path, "deep.html", b"<div>" * 20_000)


def test_elements_that_a_page_does_not_close_end_with_the_next(tmp_path: Path) -> None:
    """Each was read as a part of the one before it; a thousand of them ended in an error."""
    rows = "<table><thead><tr><th>A<th>B<tbody><tr><td>1<td>2</table>"
    terms = "<dl><dt>a<dd>b<dt>c<dd>d</dl>"
    points = "".join(f"<li>{number}" for number in range(2000))
    page = f"<ul>{points}<ul><li>in</ul><li>out</ul>{rows}{terms}{'<p>text' * 2000}"
    lines = opened(tmp_path, "a.html", page.encode()).text.splitlines()
    assert lines[:2] == ["- 0", "- 1"]
    assert lines[1999:2006] == ["- 1999", "  - in", "- out", "", "| A | B |", "| --- | --- |", "| 1 | 2 |"]
    assert lines[2006:] == ["", "a", ":   b", "", "c", ":   d", *("", "text") * 2000]


def test_the_xml_declaration_of_a_page_is_no_text(tmp_path: Path) -> None:
    """It stood before each chapter of a book."""
    page = b'<?xml version="1.0" encoding="UTF-8"?>\n<html><body><p>One</p></body></html>'
    assert opened(tmp_path, "a.xhtml", page).text == "One"


def test_a_word_document_becomes_markdown(tmp_path: Path) -> None:
    path = make.docx(tmp_path / "letter.docx", [("Heading1", "Dear Ann"), ("", "a &lt; b")])
    assert open_document(str(path)).text == "# Dear Ann\n\na < b"
    assert text_of_stdin(path.read_bytes()).text == "# Dear Ann\n\na < b"


def test_a_book_is_read_in_its_own_order(tmp_path: Path) -> None:
    path = make.epub(tmp_path / "book.epub", ["<h1>One</h1><p>It began.</p>", "<h1>Two</h1><p>It ended.</p>"])
    found = open_document(str(path))
    assert found.text == "# One\n\nIt began.\n\n# Two\n\nIt ended."
    assert [(found.text[place.start :][:5], place.label) for place in found.places] == [
        ("# One", "chapter 1"),
        ("# Two", "chapter 2"),
    ]


def test_a_mail_has_its_headers_its_text_and_the_names_of_what_is_attached(tmp_path: Path) -> None:
    found = opened(tmp_path, "a.eml", make.mail("Hello Bob", "<p>not read</p>"))
    assert found.text == (
        "From: Ann <ann@example.org>\nTo: bob@example.org\nSubject: Grüße\n\nHello Bob\n\n"
        "Attached, and not read:\n- photo.png (image/png, 400 bytes)"
    )
    assert refusal(tmp_path, "b.eml", b"") == "b.eml: is not an e-mail"


def test_a_notebook_has_its_cells_and_their_output(tmp_path: Path) -> None:
    found = opened(tmp_path, "n.ipynb", make.notebook())
    assert found.text == (
        "# Title\nwords\n\n```julia\nanswer()\n```\n\n```\nslow\n```\n\n```\n42\n```\n\n```\n<Figure>\n[a picture]\n```"
    )
    assert refusal(tmp_path, "b.ipynb", b"[]") == "b.ipynb: is not a notebook: it has no cells"
    assert refusal(tmp_path, "c.ipynb", b"{").startswith("c.ipynb: is not a notebook: ")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"II*\0\0\0", "is a TIFF picture"),
        (b"\0\0\0\x20ftypheic\0", "is an HEIC picture"),
        (b"\0\0\0\x20ftypisom\0", "is a video or sound"),
        (b"\x1f\x8b\x08\0", "is a gzip archive"),
        (b"GGUF\3\0\0\0", "is a GGUF model"),
        (b"a\0b", "is binary"),
    ],
)
def test_what_is_no_text_is_refused_by_name(data: bytes, what: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, "x.txt", data) == f"x.txt: {what}, not text"


def test_a_text_may_begin_like_another_file(tmp_path: Path) -> None:
    assert opened(tmp_path, "a.txt", b"BMW builds cars").text == "BMW builds cars"
    assert opened(tmp_path, "page.txt", b"<p>text</p>").text == "<p>text</p>"


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"a.txt": "a"}, "is a zip archive, not text"),
        ({"word/document.xml": "<a"}, "x.docx: is damaged, and cannot be read"),
        ({"META-INF/container.xml": "<a"}, "is a damaged document: its XML cannot be read"),
        ({"META-INF/container.xml": "<a/>"}, "is a damaged EPUB, which does not name its contents"),
    ],
)
def test_other_and_damaged_archives_are_refused(parts: dict[str, str], what: str, tmp_path: Path) -> None:
    assert what in refusal(tmp_path, "x.docx", make.zipped(tmp_path / "made", parts).read_bytes())


def test_an_archive_that_is_huge_when_unpacked_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.docx"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("word/document.xml", "w") as part,
    ):
        for _ in range(257):
            part.write(bytes(1 << 20))
    with pytest.raises(DataError, match=r"is larger than the limit of 256 MiB when it is unpacked"):
        open_document(str(path))


def test_a_missing_library_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    """The libraries are an extra; each file of text is read without them."""
    (tmp_path / "paper.pdf").write_bytes(make.pdf(["words"]))
    code = (
        "import sys; sys.modules['pypdfium2'] = None; from chat.documents import extraction\n"
        "try: extraction.answer({'path': sys.argv[1], 'name': 'paper.pdf', 'kind': 'PDF'}, print)\n"
        "except Exception as error: print(error.message, error.hint, sep='|')"
    )
    from tests.program import run_command

    done = run_command([sys.executable, "-c", code, str(tmp_path / "paper.pdf")], capture_output=True)
    assert done.stdout.decode().strip() == (
        "paper.pdf: a library that reads such documents is not installed (pypdfium2)|"
        f"with `{install_extra('documents')}` `-f` reads PDF, DOCX, XLSX, XLS, PPTX, ODT, ODS, ODP, RTF, EPUB, "
        "HTML and e-mail"
    )


def test_a_command_that_was_typed_gives_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = open_document("!printf 'a\\n'; cat")  # which gets no input
    assert found.fenced() == "Output of `printf 'a\\n'; cat`:\n```\na\n```"
    with pytest.raises(FileError, match=r"^`echo no >&2; exit 3` ended with code 3: no$"):
        open_document("!echo no >&2; exit 3")
    with pytest.raises(ChatError, match="no command stands behind the `!`"):
        open_document("! ")
    with pytest.raises(ContextError, match=r"^`yes` writes more than the limit of 64 MiB$"):
        open_document("!yes")


def test_a_file_whose_name_begins_with_an_exclamation_mark_is_read_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell puts the names of files in place of `*`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "!touch ran").write_text("words")
    assert open_document("!touch ran").text == "words"
    assert not (tmp_path / "ran").exists()


def test_a_command_of_a_settings_file_is_not_known(own_home: Path) -> None:
    folder = own_home / "mistral-chat" / "config"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('file = ["!touch ran"]\n')
    done = run("hi")
    assert done.returncode == 2 and b"file" in done.stderr
