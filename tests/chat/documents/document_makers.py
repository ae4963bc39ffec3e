"""Small documents of each kind, written as their standards say."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path


def pdf(pages: Sequence[str], drawing: str = "") -> bytes:
    """A PDF 1.4 with a line of Helvetica for each line of a page, and what operators draw on each."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, page in enumerate(pages):
        lines = [f"({line}) Tj 0 -14 Td" for line in page.splitlines()]
        stream = "\n".join(["BT /F1 12 Tf 50 700 Td", *lines, "ET", drawing])
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    end = f"trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{len(data)}\n%%EOF\n"
    return data + f"xref\n0 {size}\n0000000000 65535 f \n{table}{end}".encode()


def docx(path: Path, paragraphs: Sequence[tuple[str, str]]) -> Path:
    """A Word document of (style, text); a style is `Heading1`, or empty."""
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    body = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>'
        for style, text in paragraphs
    )
    styles = '<w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>'
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" '
        f'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{kind}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{relations}/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{relations}/styles" Target="styles.xml"/></Relationships>',
        "word/document.xml": f"<w:document {space}><w:body>{body}</w:body></w:document>",
        "word/styles.xml": f"<w:styles {space}>{styles}</w:styles>",
    }
    return zipped(path, parts)


def epub(path: Path, chapters: Sequence[str]) -> Path:
    """An EPUB of chapters in HTML; the last one is the first in the archive."""
    items = "".join(
        f'<item id="c{number}" href="text/c%20{number}.xhtml" media-type="application/xhtml+xml"/>'
        for number in range(len(chapters))
    )
    spine = "".join(f'<itemref idref="c{number}"/>' for number in range(len(chapters)))
    container = '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    files = {f"OEBPS/text/c {number}.xhtml": chapter for number, chapter in reversed(list(enumerate(chapters)))}
    return zipped(
        path,
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": f'{container}<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
            "OEBPS/book.opf": f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest>'
            f"<spine>{spine}</spine></package>",
            **files,
        },
    )


def zipped(path: Path, parts: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def mail(text: str, html: str | None = None) -> bytes:
    """A message of Ann to Bob, with a picture attached."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ann <ann@example.org>", "bob@example.org", "Grüße"
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    message.add_attachment(b"\x89PNG" * 100, maintype="image", subtype="png", filename="photo.png")
    return bytes(message)


def notebook() -> bytes:
    """Two cells: a text, and code with a number, a warning and a picture as its output."""
    outputs = [
        {"output_type": "stream", "name": "stderr", "text": ["\x1b[31mslow\x1b[0m\n"]},
        {"output_type": "execute_result", "data": {"text/plain": ["42"]}},
        {"output_type": "display_data", "data": {"image/png": "iVBORw0=" * 1000, "text/plain": "<Figure>"}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "words"]},
        {"cell_type": "code", "source": "answer()", "outputs": outputs},
    ]
    return json.dumps({"cells": cells, "metadata": {"language_info": {"name": "julia"}}, "nbformat": 4}).encode()
