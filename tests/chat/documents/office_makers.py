"""Small spreadsheets, presentations and OpenDocument files, written as their standards say."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.chat.documents.document_makers import zipped


def xlsx(path: Path, sheets: dict[str, str], state: dict[str, str] | None = None) -> Path:
    """A workbook of the XML of each sheet's rows, by the sheets' names; `state` says which are hidden."""
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    listed = "".join(
        f'<sheet name="{name}" sheetId="{number}" state="{(state or {}).get(name, "visible")}" r:id="r{number}"/>'
        for number, name in enumerate(sheets, 1)
    )
    targets = "".join(
        f'<Relationship Id="r{number}" Type="{relations}/worksheet" Target="worksheets/sheet{number}.xml"/>'
        for number in range(1, len(sheets) + 1)
    )
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    styles = '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'
    return zipped(
        path,
        {
            "_rels/.rels": f'<Relationships xmlns="{package}"><Relationship Id="b" Type="{relations}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook {space} xmlns:r="{relations}"><sheets>{listed}</sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}">{targets}<Relationship Id="s" '
            f'Type="{relations}/styles" Target="styles.xml"/></Relationships>',
            "xl/styles.xml": f"<styleSheet {space}>{styles}</styleSheet>",
            **{
                f"xl/worksheets/sheet{number}.xml": f"<worksheet {space}><sheetData>{rows}</sheetData></worksheet>"
                for number, rows in enumerate(sheets.values(), 1)
            },
        },
    )


def rows(*texts: str, first: int = 1) -> str:
    """Rows of a sheet, each of cells between bars; `=` begins a number."""
    return "".join(
        f'<row r="{number}">{"".join(_cell(cell, "ABCDE"[column], number) for column, cell in enumerate(cells))}</row>'
        for number, cells in enumerate((text.split("|") for text in texts), first)
    )


def _cell(text: str, column: str, row: int) -> str:
    if text.startswith("="):
        return f'<c r="{column}{row}"><v>{text[1:]}</v></c>'
    return f'<c r="{column}{row}" t="inlineStr"><is><t>{text}</t></is></c>' if text else ""


SLIDE_SPACES = (
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
)


def shape(kind: str, *paragraphs: str) -> str:
    """A shape of a slide: a placeholder of this kind, or a text box if it is empty; `>` makes a lower level."""
    place = f'<p:nvPr><p:ph type="{kind}"/></p:nvPr>' if kind else "<p:nvPr/>"
    lines = "".join(
        f'<a:p><a:pPr lvl="{len(text) - len(text.lstrip(">"))}"/><a:r><a:t>{text.lstrip(">")}</a:t></a:r></a:p>'
        for text in paragraphs
    )
    return f"<p:sp><p:nvSpPr>{place}</p:nvSpPr><p:txBody>{lines}</p:txBody></p:sp>"


def chart(series: dict[str, dict[str, float]]) -> str:
    """A chart of (category, value) of each series, by its name."""

    def points(values: Iterable[object]) -> str:
        return "".join(f'<c:pt idx="{number}"><c:v>{value}</c:v></c:pt>' for number, value in enumerate(values))

    return "".join(
        f"<c:ser><c:tx><c:strRef><c:f>A1</c:f><c:strCache>{points([name])}</c:strCache></c:strRef></c:tx>"
        f"<c:cat><c:strRef><c:strCache>{points(values)}</c:strCache></c:strRef></c:cat>"
        f"<c:val><c:numRef><c:numCache>{points(values.values())}</c:numCache></c:numRef></c:val></c:ser>"
        for name, values in series.items()
    )


def pptx(
    path: Path, slides: Sequence[str], notes: Sequence[str] = (), hidden: Sequence[int] = (), chart: str = ""
) -> Path:
    """A presentation of the XML of the shapes on each slide; the last slide is the first in the archive.

    `chart` is on the first slide, if it has a note.
    """
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
    listed = "".join(f'<p:sldId id="{256 + number}" r:id="r{number}"/>' for number in range(len(slides)))
    targets = "".join(
        f'<Relationship Id="r{number}" Type="{relations}/slide" Target="slides/slide{number}.xml"/>'
        for number in range(len(slides))
    )
    parts = {
        "ppt/presentation.xml": f"<p:presentation {SLIDE_SPACES}><p:sldIdLst>{listed}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": f"<Relationships {package}>{targets}</Relationships>",
    }
    for number, shapes in reversed(list(enumerate(slides))):
        show = ' show="0"' if number + 1 in hidden else ""
        parts[f"ppt/slides/slide{number}.xml"] = f"<p:sld {SLIDE_SPACES}{show}>{shapes}</p:sld>"
    for number, text in enumerate(notes):
        parts[f"ppt/slides/_rels/slide{number}.xml.rels"] = (
            f'<Relationships {package}><Relationship Id="n" Type="{relations}/notesSlide" '
            f'Target="../notesSlides/notes{number}.xml"/><Relationship Id="c" Type="{relations}/chart" '
            'Target="../charts/chart.xml"/></Relationships>'
        )
        parts[f"ppt/notesSlides/notes{number}.xml"] = (
            f"<p:notes {SLIDE_SPACES}>{shape('sldImg')}{shape('body', text)}{shape('sldNum', '1')}</p:notes>"
        )
    space = 'xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"'
    parts["ppt/charts/chart.xml"] = f"<c:chartSpace {space}>{chart}</c:chartSpace>"
    return zipped(path, parts)


OPEN_SPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{full}:1.0"'
    for name, full in {
        "office": "office", "text": "text", "table": "table", "draw": "drawing", "style": "style",
        "presentation": "presentation",
    }.items()
)  # fmt: skip


def open_document(path: Path, kind: str, body: str, *, styles: str = "", manifest: str = "") -> Path:
    """An OpenDocument file: `kind` is text, presentation, drawing or spreadsheet, and `body` the XML in it."""
    content = (
        f"<office:document-content {OPEN_SPACES}><office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    )
    media = {"drawing": "graphics"}.get(kind, kind)
    return zipped(
        path,
        {
            "mimetype": f"application/vnd.oasis.opendocument.{media}",
            "META-INF/manifest.xml": f"<manifest>{manifest}</manifest>",
            "content.xml": content,
        },
    )


def compound(streams: dict[str, bytes]) -> bytes:
    """A compound file ([MS-CFB], version 3): header, one sector of the allocation table, the directory, the streams."""
    end, free = 0xFFFFFFFE, 0xFFFFFFFF
    chains, contents = [0xFFFFFFFD], b""
    entries = [("Root Entry", 5, end, 0)]
    directory = (len(streams) + 4) // 4  # sectors
    chains += [*range(2, directory + 1), end]
    for name, data in streams.items():
        data = data.ljust(4096, b"\0")
        data += bytes(-len(data) % 512)
        entries.append((name, 2, len(chains), len(data)))
        chains += [*range(len(chains) + 1, len(chains) + len(data) // 512), end]
        contents += data
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<5H", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    head += struct.pack("<9I", 0, 1, 1, 0, 4096, end, 0, end, 0) + struct.pack("<109I", 0, *[free] * 108)

    def after(number: int) -> int:
        return number + 1 if 0 < number < len(entries) - 1 else free

    listed = b"".join(
        name.encode("utf-16-le").ljust(64, b"\0")
        + struct.pack("<HBBIII", 2 * len(name) + 2, kind, 1, free, after(number), free if number else 1)
        + bytes(36) + struct.pack("<IQ", start, size)
        for number, (name, kind, start, size) in enumerate(entries)
    )  # fmt: skip
    return (
        head
        + struct.pack("<128I", *chains, *[free] * (128 - len(chains)))
        + listed.ljust(512 * directory, b"\0")
        + contents
    )


def xls(cells: Sequence[tuple[int, int, str | float]]) -> bytes:
    """A workbook of Excel 97 ([MS-XLS]) with one sheet, `Old`, of (row, column, value) from 0."""

    def record(kind: int, data: bytes) -> bytes:
        return struct.pack("<HH", kind, len(data)) + data

    def cell(row: int, column: int, value: str | float) -> bytes:
        place = struct.pack("<HHH", row, column, 0)
        if isinstance(value, str):
            return record(0x0204, place + struct.pack("<HB", len(value), 0) + value.encode("latin-1"))
        return record(0x0203, place + struct.pack("<d", value))

    begin = record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0005, 0, 0, 0, 0))
    offset = len(begin) + 4 + 11 + 4
    globals_ = begin + record(0x85, struct.pack("<IBBBB", offset, 0, 0, 3, 0) + b"Old") + record(0x0A, b"")
    sheet = record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0010, 0, 0, 0, 0)) + b"".join(cell(*each) for each in cells)
    return compound({"Workbook": globals_ + sheet + record(0x0A, b"")})
