"""The text of PowerPoint presentations (PPTX, ECMA-376), slide by slide, with their notes."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

from chat.documents.markup import table_lines
from chat.documents.placed_text import PlacedText

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

PRESENTATION = "ppt/presentation.xml"
_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_TITLES = ("title", "ctrTitle")
_NUMBERS = ("sldNum", "dt", "ftr", "hdr", "sldImg")  # placeholders of what stands on every slide


class _Relation(NamedTuple):
    kind: str  # such as "notesSlide"
    part: str  # of the archive


def read_slides(archive: zipfile.ZipFile, name: str) -> PlacedText:
    """The slides: titles as headings, paragraphs, tables, charts, diagrams and notes; hidden ones are marked.

    Raises:
        DataError: it has no text.
        KeyError: a part is missing.
        ElementTree.ParseError: a part is damaged.
    """
    relations = _relations(archive, PRESENTATION)
    listed = [each.get(_ID, "") for each in _parsed(archive, PRESENTATION).iter() if tag(each) == "sldId"]
    found = PlacedText(name)
    hidden = empty = 0
    parts = dict.fromkeys(relations[each].part for each in listed if each in relations)
    for number, part in enumerate(parts, 1):
        slide = _parsed(archive, part)
        is_hidden = slide.get("show") in ("0", "false")
        text = "\n\n".join(_slide_blocks(archive, slide, _relations(archive, part)))
        hidden += is_hidden
        empty += not text
        found.add(f"[slide {number}]{' (hidden)' if is_hidden else ''}\n{text}\n\n", f"slide {number}")
    found.note_pages("slide", empty=empty, hidden=hidden)
    return found


def _slide_blocks(archive: zipfile.ZipFile, slide: Element, relations: dict[str, _Relation]) -> Iterator[str]:
    yield from _blocks(slide)
    for kind, part in dict.fromkeys(relations.values()):
        if kind == "diagramData":
            if texts := [text for each in _parsed(archive, part).iter() if tag(each) == "p" and (text := _line(each))]:
                yield "\n".join(f"- {text}" for text in texts)
        elif kind == "chart":
            yield "\n".join(table_lines(_chart_rows(_parsed(archive, part))))
        elif kind == "notesSlide" and (notes := "\n".join(_blocks(_parsed(archive, part)))):
            yield f"Notes: {notes}"


def _blocks(element: Element) -> Iterator[str]:
    """The texts of the shapes in an element, in their order."""
    for child in element:
        name = tag(child)
        if name == "sp":
            if text := _shape_text(child):
                yield text
        elif name == "tbl":
            rows = (row for row in child if tag(row) == "tr")
            yield "\n".join(table_lines([_lines_of(cell) for cell in row if tag(cell) == "tc"] for row in rows))
        elif name != "Fallback":  # the same once more, for older programs
            yield from _blocks(child)


def _chart_rows(chart: Element) -> list[list[str]]:
    """A chart as a table: a column for each series, and a row for each category."""
    names, columns = [""], [dict[str, str]()]
    for series in (each for each in chart.iter() if tag(each) == "ser"):
        parts = {tag(each): each for each in series}
        names.append(" ".join(_points(parts.get("tx")).values()))
        columns[0] |= _points(parts.get("cat", parts.get("xVal")))
        columns.append(_points(parts.get("val", parts.get("yVal"))))
    numbers = dict.fromkeys(number for column in columns for number in column)
    return [names, *([column.get(number, "") for column in columns] for number in numbers)]


def _points(data: Element | None) -> dict[str, str]:
    """The values of a part of a series, by their numbers."""
    if data is None:
        return {}
    points = (each for each in data.iter() if tag(each) in ("pt", "tx"))
    return {each.get("idx", ""): text for each in points if (text := _value(each))}


def _value(point: Element) -> str:
    return next((each.text or "" for each in point if tag(each) == "v"), "")


def _shape_text(shape: Element) -> str:
    kind = next((each.get("type", "body") for each in shape.iter() if tag(each) == "ph"), "")
    if kind in _NUMBERS:
        return ""
    if kind in _TITLES:
        return f"# {text}" if (text := _lines_of(shape)) else ""
    paragraphs = [each for each in shape.iter() if tag(each) == "p"]
    lines = [(_level(each), line) for each in paragraphs if (line := _line(each))]
    is_list = kind not in ("", "subTitle") and len(lines) > 1
    return "\n".join(f"{'  ' * level}- {line}" if is_list or level else line for level, line in lines)


def _lines_of(element: Element) -> str:
    return " ".join(line for each in element.iter() if tag(each) == "p" and (line := _line(each)))


def _line(paragraph: Element) -> str:
    pieces = (each.text or "" if tag(each) == "t" else " " for each in paragraph.iter() if tag(each) in ("t", "br"))
    return " ".join("".join(pieces).split())


def _level(paragraph: Element) -> int:
    level = next((each.get("lvl", "0") for each in paragraph if tag(each) == "pPr"), "0")
    return min(int(level), 8) if level.isdecimal() else 0


def _relations(archive: zipfile.ZipFile, part: str) -> dict[str, _Relation]:
    """What a part refers to, by the identifiers that it uses."""
    folder, file = posixpath.split(part)
    try:
        listed = _parsed(archive, f"{folder}/_rels/{file}.rels")
    except KeyError:
        return {}
    return {
        each.get("Id", ""): _Relation(
            each.get("Type", "").rpartition("/")[2],
            posixpath.normpath(posixpath.join("/", folder, each.get("Target", ""))).lstrip("/"),
        )
        for each in listed
        if each.get("TargetMode") != "External"
    }


def _parsed(archive: zipfile.ZipFile, part: str) -> Element:
    return ElementTree.fromstring(archive.read(part))


def tag(element: Element) -> str:
    """The name of an element, without its namespace."""
    return element.tag.rpartition("}")[2]
