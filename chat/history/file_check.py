"""Check the history's file without a change to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from chat.errors import DataError
from chat.history.schema import CHECKED_BYTES, RefusedError, check_version

if TYPE_CHECKING:
    from pathlib import Path


def count_sessions(path: Path) -> int:
    """Count the sessions of a history, and check all pages of a file up to `CHECKED_BYTES`.

    Raises:
        DataError: it is damaged, it cannot be opened, or a newer version or another program wrote it.
    """
    mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=1.0)) as connection:
            if check_version(connection) == 0:
                return 0
            if path.stat().st_size <= CHECKED_BYTES:
                verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise DataError(f"{path}: {verdict}")
            return int(connection.execute("SELECT count(*) FROM sessions").fetchone()[0])
    except (sqlite3.Error, RefusedError) as error:
        raise DataError(f"{path}: {error}") from error
