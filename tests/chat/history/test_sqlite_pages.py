"""The reader of pages agrees with SQLite on good files, and no damaged file makes it fail."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from chat.history.sqlite_pages import PAGE_BYTES, Row, SqlitePages, read_rows
from tests.grids import FULL

if TYPE_CHECKING:
    from pathlib import Path

MUTANTS = 2_000 if FULL else 200


def value(seeded: random.Random) -> int | float | str | bytes | None:
    """A value of any kind and width; some make a row continue on overflow pages."""
    kind = seeded.randrange(6)
    if kind == 0:
        return seeded.choice((0, 1, -1, 2**7, -(2**15), 2**23, 2**31, -(2**47), 2**62, -(2**63)))
    if kind == 1:
        return seeded.uniform(-1e9, 1e9)
    if kind == 2:
        return "é日\U0001f600x" * seeded.choice((0, 1, 50, 400, 4000))
    if kind == 3:
        return seeded.randbytes(seeded.choice((1, 100, 4060, 4061, 4062, 20_000)))
    return None if kind == 4 else "short"


def tables(path: Path, seed: int) -> dict[int, list[tuple[int, Row]]]:
    """Fill two tables, change and delete rows; returns the rows that SQLite reads, by the number of columns."""
    seeded = random.Random(seed)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TABLE a (number INTEGER PRIMARY KEY, x, y, z)")
        connection.execute("CREATE TABLE b (number INTEGER PRIMARY KEY, p, q, r, s, t)")
        for _ in range(150):
            for table, width in (("a", 3), ("b", 5)):
                number = seeded.choice((None, seeded.randrange(1, 400), 2**40 + seeded.randrange(10)))
                values = (number, *(value(seeded) for _ in range(width)))
                marks = ", ".join("?" * len(values))
                connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)
                connection.execute(f"DELETE FROM {table} WHERE number = ?", (seeded.randrange(1, 400),))
        return {
            4: [(row[0], (None, *row[1:])) for row in connection.execute("SELECT * FROM a ORDER BY number")],
            6: [(row[0], (None, *row[1:])) for row in connection.execute("SELECT * FROM b ORDER BY number")],
        }


@pytest.mark.parametrize("seed", range(5))
def test_rows_equal_what_sqlite_reads(seed: int, tmp_path: Path) -> None:
    expected = tables(tmp_path / "x.db", seed)
    found = sorted(read_rows(SqlitePages(tmp_path / "x.db")), key=lambda row: row[0])
    assert {width: [row for row in found if len(row[1]) == width] for width in expected} == expected


def test_rows_in_the_write_ahead_log_replace_those_in_the_file(tmp_path: Path) -> None:
    path, copy = tmp_path / "x.db", tmp_path / "copy.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE a (number INTEGER PRIMARY KEY, x, y, z)")
    connection.execute("INSERT INTO a VALUES (1, 'old', 0, 0)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("UPDATE a SET x = 'new'")
    connection.execute("INSERT INTO a VALUES (2, 'more', 1, 1)")
    for suffix in ("", "-wal"):
        copy.with_name(copy.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    connection.close()

    def rows() -> list[tuple[int, Row]]:
        return sorted(row for row in read_rows(SqlitePages(copy)) if len(row[1]) == 4)

    assert rows() == [(1, (None, "new", 0, 0)), (2, (None, "more", 1, 1))]
    log = copy.with_name("copy.db-wal")
    log.write_bytes(log.read_bytes()[: 32 + 24 + PAGE_BYTES + 100])  # the second transaction was torn
    assert rows() == [(1, (None, "new", 0, 0))]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_no_damage_makes_it_fail_or_repeat_rows(part: int, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    tables(path, part)
    original = path.read_bytes()
    seeded = random.Random(part)
    for _ in range(MUTANTS // 4):
        damaged = bytearray(original)
        for _ in range(seeded.choice((1, 10, 300))):
            offset = seeded.randrange(len(damaged))
            length = seeded.choice((1, 2, 9))
            damaged[offset : offset + length] = seeded.choice(
                (b"\xff" * length, b"\0" * length, seeded.randbytes(length))
            )
        path.write_bytes(damaged[: seeded.randrange(1, len(damaged)) if seeded.random() < 0.3 else None])
        count = sum(1 for _ in read_rows(SqlitePages(path)))
        assert count <= len(damaged) // 4
