"""The text of spreadsheets (XLSX, XLSB, XLS, ODS), sheet by sheet, with calamine.

Each row of a table begins with its number in the sheet, so that an answer can name it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chat.documents.markup import table_lines, table_row
from chat.documents.placed_text import PlacedText
from chat.errors import DataError
from chat.system.terminal_text import counted

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterable, Iterator
    from pathlib import Path

WHOLE_NUMBERS = 1e15  # smaller ones without a fraction are written as whole numbers
_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml")
_WITHOUT_VALUE = re.compile(rb"</f>(?:<v></v>|<v ?/>)?</c>|<c [^>]*\bt=\"e\"")


def read_spreadsheet(path: Path, name: str) -> PlacedText:
    """The sheets as Markdown tables, without empty rows, and the places of their rows; hidden sheets are marked.

    Raises:
        DataError: it is locked by a password or damaged, or has no values.
        ImportError: the library is not installed.
    """
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetVisibleEnum

    found = PlacedText(name)
    hidden = 0
    try:
        with CalamineWorkbook.from_path(path) as book:
            for sheet in book.sheets_metadata:
                is_hidden = sheet.visible != SheetVisibleEnum.Visible
                values = book.get_sheet_by_name(sheet.name).iter_rows()
                hidden += _add_sheet(found, sheet.name, _rows(values), is_hidden=is_hidden) and is_hidden
    except PasswordError as error:
        raise DataError(f"{name}: is locked by a password", hint="save it without one") from error
    except CalamineError as error:
        raise DataError(f"{name}: is a damaged spreadsheet, which cannot be read") from error
    if not found.places:
        raise DataError(f"{name}: has no values in its sheets")
    if hidden:
        found.warn(f"{counted(hidden, 'hidden sheet')} {'is' if hidden == 1 else 'are'} read, too")
    return found


def _add_sheet(found: PlacedText, title: str, rows: Iterator[tuple[int, list[str]]], *, is_hidden: bool) -> bool:
    """Add a sheet, if it has values; whether it has."""
    first = next(rows, None)
    if first is None:
        return False
    found.add(f"# Sheet {title}{' (hidden)' if is_hidden else ''}\n\n", f"sheet {title}, row {first[0]}")
    head, line = table_lines([[str(first[0]), *first[1]]])
    found.add(f"{head}\n{line}\n")
    for number, cells in rows:
        found.add(f"{table_row([str(number), *cells])}\n", f"sheet {title}, row {number}")
    found.add("\n")
    return True


def _rows(values: Iterable[list[Any]]) -> Iterator[tuple[int, list[str]]]:
    """The number of each row that is not empty, from 1, and its cells up to the last that is not."""
    for number, row in enumerate(values, 1):
        cells = [_text_of(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield number, cells


def _text_of(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < WHOLE_NUMBERS else f"{value:.15g}"
    return str(value)


def cells_without_value(archive: zipfile.ZipFile) -> int:
    """How many cells of an XLSX have an error, or a formula that was never computed, as in files of other programs."""
    sheets = (archive.read(part) for part in archive.namelist() if _SHEET.fullmatch(part))
    return sum(len(_WITHOUT_VALUE.findall(sheet)) for sheet in sheets)
