"""Files of a folder of the cache: written as a whole or not at all, and beyond a limit the oldest are removed."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

WRITING = ".writing-"  # prefix of an incomplete file
ABANDONED_SECONDS = 3600  # an incomplete file this old is of a killed program


@contextmanager
def new_cache_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that takes the name `path` when it is complete, and is on the disk then.

    Yields:
        The new file, which only its owner may read.

    Raises:
        OSError: it cannot be written.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=WRITING, suffix=path.suffix)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove_oldest(kept: Path, most_bytes: int) -> None:
    """Remove the least recently used files beyond a limit, and incomplete ones that killed programs left.

    Args:
        kept: is not removed; the files are those of its folder with its suffix.
        most_bytes: of all files together.

    Raises:
        OSError: a file cannot be removed.
    """
    found = []
    for path in kept.parent.glob(f"*{kept.suffix}"):
        with suppress(OSError):
            status = path.stat()
            if path.name.startswith(WRITING) and time.time() - status.st_mtime > ABANDONED_SECONDS:
                path.unlink()
                continue
            found.append((path != kept, -status.st_mtime, status.st_size, path))
    total = 0
    for is_other, _, size, path in sorted(found):
        total += size
        if total > most_bytes and is_other:
            path.unlink(missing_ok=True)
