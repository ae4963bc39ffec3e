"""Save KV cache states in files, and load only those that are exactly what was written.

A file holds: the magic bytes, the SHA-256 of the header, the length of the header (uint32), the header (JSON), the ids
(int32) and the payload; numbers are little-endian. The header has the fingerprint of everything that the payload
depends on, and the hashes of ids and payload: llama.cpp itself checks none of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.llama.kv_snapshots import Snapshot
from chat.system.cache_files import new_cache_file, remove_oldest
from chat.system.paths import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAGIC = b"MCSTATE\x01"
LARGEST_HEADER = 1 << 16  # bytes
LARGEST_IDS = 1 << 26
READ_BYTES = 1 << 26
PIECE_BYTES = 1 << 24  # that is written at a time
DISK_RESERVE_BYTES = 256 << 20
SUFFIX = ".state"
SAMPLE_BYTES = 512  # of the start and the end of a tensor
PLAIN_KEY = re.compile(r"[0-9a-z]{1,64}")  # can be part of a file's name


@dataclass(frozen=True)
class StateHeader:
    """The header of a file, and the ids after it.

    Attributes:
        oldest: the first position whose cells are in the payload.
    """

    path: Path
    key: str
    ids: array[int]
    oldest: int
    payload_sha256: str
    payload_bytes: int
    payload_offset: int


class KvStateStore:
    """The state files of one loaded model in one folder."""

    def __init__(self, folder: Path, fingerprint: dict[str, Any], limit_bytes: int) -> None:
        """Use a folder, which need not exist yet.

        Args:
            folder: of the files of all models.
            fingerprint: everything that a state depends on.
            limit_bytes: of all files together.
        """
        self._folder = folder
        self._fingerprint = json.dumps(fingerprint, sort_keys=True)
        self._model = hashlib.sha256(self._fingerprint.encode()).hexdigest()[:16]
        self._limit = limit_bytes

    def best(self, prompt: Sequence[int], window: int | None) -> tuple[StateHeader | None, int]:
        """The file that holds most of a prompt, and how many ids of it that is.

        Args:
            prompt: all ids of the prompt.
            window: the model's sliding window in tokens.
        """
        best: StateHeader | None = None
        length = 0
        for path in sorted(self._folder.glob(f"*-{self._model}{SUFFIX}")):
            header = self._header(path)
            if header is not None:
                reusable = Snapshot(header.ids, header.oldest, b"").reusable_prefix(prompt, window)
                if reusable > length:
                    best, length = header, reusable
        return best, length

    def load(self, header: StateHeader) -> Snapshot | None:
        """The state in a file; None if a single bit of it is not what was written."""
        try:
            with header.path.open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != header.payload_offset + header.payload_bytes:
                    return None
                file.seek(header.payload_offset)
                payload = bytearray(header.payload_bytes)
                view, done = memoryview(payload), 0
                while done < header.payload_bytes:
                    count = file.readinto(view[done : done + READ_BYTES])
                    if not count:
                        return None
                    done += count
            if hashlib.sha256(payload).hexdigest() != header.payload_sha256:
                return None
            os.utime(header.path)  # the file used last is removed last
        except (OSError, MemoryError):
            return None
        return Snapshot(header.ids, header.oldest, payload)

    def save(self, key: str, snapshot: Snapshot, advance: Callable[[], None] = lambda: None) -> Path | None:
        """Write a state, as a whole or not at all.

        Args:
            key: names the state; a session's id, with which the file's name then starts so that the file can be
                removed with the session, or any other text.
            snapshot: the state.
            advance: is called after each piece.

        Returns:
            The file, or None if the disk or the limit does not allow it.
        """
        size = len(snapshot.data) + 4 * len(snapshot.ids) + LARGEST_HEADER
        try:
            make_private_folder(self._folder)
            if size > self._limit or shutil.disk_usage(self._folder).free < size + DISK_RESERVE_BYTES:
                return None
            name = key if PLAIN_KEY.fullmatch(key) else hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:24]
            path = self._folder / f"{name}-{self._model}{SUFFIX}"
            self._write(path, key, snapshot, advance)
            remove_oldest(path, self._limit)
        except OSError:
            return None
        return path

    def _write(self, path: Path, key: str, snapshot: Snapshot, advance: Callable[[], None]) -> None:
        ids, digest = _to_bytes(snapshot.ids), hashlib.sha256()
        pieces = [memoryview(snapshot.data)[at : at + PIECE_BYTES] for at in range(0, len(snapshot.data), PIECE_BYTES)]
        for piece in pieces:
            digest.update(piece)
            advance()
        header = {
            "key": key,
            "fingerprint": self._fingerprint,
            "count": len(snapshot.ids),
            "oldest": snapshot.oldest,
            "ids_sha256": hashlib.sha256(ids).hexdigest(),
            "payload_sha256": digest.hexdigest(),
            "payload_bytes": len(snapshot.data),
        }
        text = json.dumps(header).encode()
        with new_cache_file(path) as file:
            file.write(MAGIC + hashlib.sha256(text).digest() + struct.pack("<I", len(text)) + text + ids)
            for piece in pieces:
                file.write(piece)
                os.fsync(file.fileno())  # else all of it would be written at the end, without a sign of life
                advance()

    def _header(self, path: Path) -> StateHeader | None:
        """The checked header of a file; None if it is damaged or of another model."""
        try:
            if not path.is_file():  # opening a pipe would wait
                return None
            with path.open("rb") as file:
                start = file.read(len(MAGIC) + 36)
                if len(start) != len(MAGIC) + 36 or not start.startswith(MAGIC):
                    return None
                length = struct.unpack("<I", start[-4:])[0]
                text = file.read(length) if length <= LARGEST_HEADER else b""
                if hashlib.sha256(text).digest() != start[len(MAGIC) : -4]:
                    return None
                header = json.loads(text)
                count, oldest, size = (header[name] for name in ("count", "oldest", "payload_bytes"))
                if header["fingerprint"] != self._fingerprint or {type(count), type(oldest), type(size)} != {int}:
                    return None
                if not (0 < count <= LARGEST_IDS and 0 <= oldest < count and 0 < size <= self._limit):
                    return None
                ids = file.read(4 * count)
                if hashlib.sha256(ids).hexdigest() != header["ids_sha256"]:
                    return None
                return StateHeader(
                    path=path,
                    key=str(header["key"]),
                    ids=_from_bytes(ids),
                    oldest=oldest,
                    payload_sha256=header["payload_sha256"],
                    payload_bytes=size,
                    payload_offset=file.tell(),
                )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None


def fingerprint_of_file(path: Path, samples: Sequence[tuple[int, int]]) -> str:
    """A hash of a model's file: its size, its modification time, and the start and the end of each tensor.

    Args:
        path: the file.
        samples: (offset, bytes) of each tensor.

    Raises:
        OSError: the file cannot be read.
    """
    status = path.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns} {len(samples)}".encode())
    with path.open("rb", buffering=0) as file:
        for offset, size in samples:
            for start in (offset, offset + max(size - SAMPLE_BYTES, 0)):
                file.seek(start)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _to_bytes(ids: array[int]) -> bytes:
    if sys.byteorder == "big":
        ids = array("i", ids)
        ids.byteswap()
    return ids.tobytes()


def _from_bytes(data: bytes) -> array[int]:
    ids = array("i")
    ids.frombytes(data)
    if sys.byteorder == "big":
        ids.byteswap()
    return ids
