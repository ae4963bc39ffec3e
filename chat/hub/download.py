"""Download one file into the hub's cache: locked, resumed, checked, then renamed.

The hub library throws a partial download away and compares no hash, so the transfer is ours; the cache stays its own.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

from chat import platform
from chat.errors import DataError, FileError
from chat.hub.client import BrokenOffError, answer, lock_file, refuse_web_page, with_retries
from chat.system.terminal_text import size_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chat.hub.cache import CachedRepository
    from chat.hub.listing import Listing, RemoteFile
    from chat.system.progress import Progress

_PIECE = 1 << 20
_SHA256_LENGTH = 64


def fetch(
    listing: Listing, file: RemoteFile, cache: CachedRepository, progress: Progress, say: Callable[[str], None]
) -> Path:
    """Download one file into the cache, unless it is there, and check it.

    An interrupted download is kept and resumed. Another program's download of the same file is waited for.

    Returns:
        Its path in the cache.

    Raises:
        ChatError: it cannot be downloaded; a file with wrong bytes is deleted.
    """
    progress.describe(file.name)
    try:
        with ExitStack() as stack:
            lock = cache.lock(file.digest)
            try:
                stack.enter_context(lock_file(lock, timeout_seconds=0.1))
            except TimeoutError:
                say(f"another program is downloading {file.name}: waiting for it")
                stack.enter_context(lock_file(lock))
            if not is_whole(cache.blob(file.digest), file):
                _download_or_clean(listing, file, cache, progress, say)
            return cache.link(file.name, listing.commit, file.digest)
    except OSError as error:
        hint = "HF_HOME names another folder for the hub's cache"
        raise FileError(f"{error.filename or file.name}: cannot be written: {error.strerror}", hint=hint) from error


def is_whole(path: Path, file: RemoteFile) -> bool:
    """Whether a file of the right size is there."""
    return path.is_file() and path.stat().st_size == file.size


def bytes_here(file: RemoteFile, cache: CachedRepository) -> int:
    """How many bytes of a file are here already."""
    if is_whole(cache.blob(file.digest), file):
        return file.size
    partial = cache.partial(file.digest)
    return min(file.size, partial.stat().st_size) if partial.is_file() else 0


def _download_or_clean(
    listing: Listing, file: RemoteFile, cache: CachedRepository, progress: Progress, say: Callable[[str], None]
) -> None:
    """Download, and delete a partial file that cannot be completed. Needs the lock, so that no other program writes."""
    partial = cache.partial(file.digest)
    try:
        _download(listing, file, cache, progress, say)
    except DataError:
        partial.unlink(missing_ok=True)
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        partial.unlink(missing_ok=True)
        hint = "what was downloaded before is kept; make room and try again, or set HF_HOME to a larger disk"
        raise FileError(f"the disk is full, so {file.name} was not finished", hint=hint) from error


def _download(
    listing: Listing, file: RemoteFile, cache: CachedRepository, progress: Progress, say: Callable[[str], None]
) -> None:
    partial = cache.partial(file.digest)
    partial.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | platform.NO_FOLLOW | platform.BINARY, 0o666)
    with os.fdopen(descriptor, "r+b", buffering=0) as stream:
        transfer = _Transfer(listing, file, stream, progress)
        if transfer.resumed and not transfer.finish(say):
            say(f"the partial file of {file.name} is damaged: it is downloaded again")
            transfer.restart()
        if not transfer.is_right and not transfer.finish(say):
            raise DataError(
                f"{file.name}: what arrived is not what the hub promised, and was deleted",
                hint=f"its checksum is {transfer.digest()}, not {file.digest}; try again, or another network",
            )
        os.fsync(stream.fileno())
    partial.replace(cache.blob(file.digest))


class _Transfer:
    """A download into an open file, which is hashed on the way."""

    def __init__(self, listing: Listing, file: RemoteFile, stream: BinaryIO, progress: Progress) -> None:
        self.listing, self.file, self.stream, self.progress = listing, file, stream, progress
        self.count = 0
        self.restart_hash()
        if os.fstat(stream.fileno()).st_size > file.size:
            stream.truncate(0)
        while piece := stream.read(_PIECE):
            self._take(piece)
        self.resumed = self.count > 0

    @property
    def is_right(self) -> bool:
        """Whether all bytes have arrived, with the right checksum."""
        return self.count == self.file.size and self.digest() == self.file.digest

    def restart_hash(self) -> None:
        """Begin the checksum that the hub lists for this kind of file."""
        if len(self.file.digest) == _SHA256_LENGTH:
            self.hash = hashlib.sha256()
        else:
            self.hash = hashlib.sha1(b"blob %d\0" % self.file.size, usedforsecurity=False)  # as git names a file

    def digest(self) -> str:
        """The checksum of the bytes so far."""
        return self.hash.hexdigest()

    def restart(self) -> None:
        """Delete the bytes so far."""
        self.stream.seek(0)
        self.stream.truncate()
        self.progress.advance(-self.count)
        self.count = 0
        self.restart_hash()

    def finish(self, say: Callable[[str], None]) -> bool:
        """Download the missing bytes; whether the whole file has the right checksum then."""
        if self.count < self.file.size:
            with_retries(self._attempt, self.file.name, say)
        return self.is_right

    def _attempt(self) -> None:
        """Ask once for the missing bytes."""
        before = self.count
        try:
            url = self.listing.url(self.file)
            with answer(url, self.listing.repository, self.listing.commit, start=self.count) as response:
                refuse_web_page(response, self.file.name)
                if not self._continues(response):
                    self.restart()
                    before = 0
                    if response.status_code != 200:
                        raise BrokenOffError("it cannot resume in the middle")
                for piece in response.iter_bytes():  # as they come: a chunk size would lose what is cut
                    self._write(piece)
        except BrokenOffError as error:
            raise BrokenOffError(str(error), progressed=self.count > before) from error
        if self.count < self.file.size:
            raise BrokenOffError(f"it sent {self.count} of {self.file.size} bytes", progressed=self.count > before)

    def _continues(self, response: object) -> bool:
        """Whether the answer begins at the byte that was asked for."""
        status: int = response.status_code  # type: ignore[attr-defined]
        if status == 206:
            span: str = response.headers.get("content-range", "")  # type: ignore[attr-defined]
            return re.match(rf"bytes {self.count}-", span) is not None
        return self.count == 0

    def _write(self, piece: bytes) -> None:
        if self.count + len(piece) > self.file.size:
            raise DataError(
                f"{self.file.name}: the hub promised {size_text(self.file.size)} and sends more: it was deleted",
                hint="try again, or another network",
            )
        view = memoryview(piece)
        while view:
            view = view[self.stream.write(view) :]
        self._take(piece)

    def _take(self, piece: bytes) -> None:
        self.hash.update(piece)
        self.count += len(piece)
        self.progress.advance(len(piece))
