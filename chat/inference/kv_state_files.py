"""Keep saved states on disk, and trust none that is not exactly ours. Knows bytes and folders, not llama.cpp.

A file: magic, sha256 of the head, length of the head, the head (JSON), the ids (int32, little-endian), the payload. The
head carries the fingerprint of everything that gave the payload its meaning, and the hashes of ids and payload:
llama.cpp itself checks none of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import sys
import tempfile
import time
from array import array
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.llama.kv_snapshots import Snapshot
from chat.system.paths import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"MCSTATE\x01"
LARGEST_HEAD = 1 << 16
LARGEST_IDS = 1 << 26
DISK_RESERVE_BYTES = 256 << 20
SUFFIX = ".state"
WRITING = ".writing-"  # a file that is not whole yet, or never became so
ABANDONED_SECONDS = 3600
PLAIN_KEY = re.compile(r"[0-9a-z]{1,64}")  # may begin a file's name as it is


@dataclass(frozen=True)
class StateHeader:
    """What a file says of itself before its payload is read."""

    path: Path
    key: str
    ids: array[int]
    oldest: int
    payload_sha256: str
    payload_bytes: int
    payload_offset: int


class KvStateStore:
    """The states of one loaded model in one folder; `fingerprint` names all that a state depends on."""

    def __init__(self, folder: Path, fingerprint: dict[str, Any], limit_bytes: int) -> None:
        self._folder = folder
        self._fingerprint = json.dumps(fingerprint, sort_keys=True)
        self._model = hashlib.sha256(self._fingerprint.encode()).hexdigest()[:16]
        self._limit = limit_bytes

    def best(self, prompt: Sequence[int], window: int | None) -> tuple[StateHeader | None, int]:
        """The file that spares most of a prompt, and how many ids that is."""
        best: StateHeader | None = None
        reach = 0
        for path in sorted(self._folder.glob(f"*-{self._model}{SUFFIX}")):
            head = self._head(path)
            if head is not None:
                found = Snapshot(head.ids, head.oldest, b"").reusable_prefix(prompt, window)
                if found > reach:
                    best, reach = head, found
        return best, reach

    def load(self, head: StateHeader) -> Snapshot | None:
        """The state of a file, or None where a single bit of it is not what was written."""
        try:
            with head.path.open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != head.payload_offset + head.payload_bytes:
                    return None
                file.seek(head.payload_offset)
                payload = bytearray(head.payload_bytes)
                view, at = memoryview(payload), 0
                while at < head.payload_bytes:
                    count = file.readinto(view[at : at + (1 << 26)])
                    if not count:
                        return None
                    at += count
            if hashlib.sha256(payload).hexdigest() != head.payload_sha256:
                return None
            os.utime(head.path)  # used: the last to be removed
        except OSError:
            return None
        return Snapshot(head.ids, head.oldest, payload)

    def save(self, key: str, snapshot: Snapshot) -> Path | None:
        """Write a state under a name of its own, whole or not at all; None where the disk or the limit does not allow.

        Args:
            key: a session's id, with which the file's name begins so that whoever removes the session finds it, or
                whatever else tells one state from another.
        """
        size = len(snapshot.data) + 4 * len(snapshot.ids) + LARGEST_HEAD
        try:
            make_private_folder(self._folder)
            if size > self._limit or shutil.disk_usage(self._folder).free < size + DISK_RESERVE_BYTES:
                return None
            name = key if PLAIN_KEY.fullmatch(key) else hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:24]
            path = self._folder / f"{name}-{self._model}{SUFFIX}"
            self._write(path, key, snapshot)
            self._remove_oldest(path)
        except OSError:
            return None
        return path

    def _write(self, path: Path, key: str, snapshot: Snapshot) -> None:
        ids = _to_bytes(snapshot.ids)
        head = {
            "key": key,
            "fingerprint": self._fingerprint,
            "count": len(snapshot.ids),
            "oldest": snapshot.oldest,
            "ids_sha256": hashlib.sha256(ids).hexdigest(),
            "payload_sha256": hashlib.sha256(snapshot.data).hexdigest(),
            "payload_bytes": len(snapshot.data),
        }
        text = json.dumps(head).encode()
        descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=WRITING, suffix=SUFFIX)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(MAGIC + hashlib.sha256(text).digest() + struct.pack("<I", len(text)) + text + ids)
                file.write(snapshot.data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _head(self, path: Path) -> StateHeader | None:
        """The checked head of a file; None for every file that is not a whole one of ours for this very model."""
        try:
            with path.open("rb") as file:
                start = file.read(len(MAGIC) + 36)
                if len(start) != len(MAGIC) + 36 or not start.startswith(MAGIC):
                    return None
                length = struct.unpack("<I", start[-4:])[0]
                text = file.read(length) if length <= LARGEST_HEAD else b""
                if hashlib.sha256(text).digest() != start[len(MAGIC) : -4]:
                    return None
                head = json.loads(text)
                if head["fingerprint"] != self._fingerprint or not 0 < head["count"] <= LARGEST_IDS:
                    return None
                ids = file.read(4 * head["count"])
                if hashlib.sha256(ids).hexdigest() != head["ids_sha256"]:
                    return None
                return StateHeader(
                    path=path,
                    key=head["key"],
                    ids=_from_bytes(ids),
                    oldest=head["oldest"],
                    payload_sha256=head["payload_sha256"],
                    payload_bytes=head["payload_bytes"],
                    payload_offset=file.tell(),
                )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remove_oldest(self, kept: Path) -> None:
        """Remove the least recently used states of all models beyond the limit, and what killed programs left."""
        found = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):
                status = path.stat()
                if path.name.startswith(WRITING) and time.time() - status.st_mtime > ABANDONED_SECONDS:
                    path.unlink()
                    continue
                found.append((path != kept, -status.st_mtime, status.st_size, path))
        total = 0
        for _, _, size, path in sorted(found):
            total += size
            if total > self._limit and path != kept:
                path.unlink(missing_ok=True)


def fingerprint_of_file(path: Path, samples: Sequence[tuple[int, int]]) -> str:
    """Hash of a model's file: its size, its time, and the beginning and the end of each tensor.

    Args:
        samples: (offset, bytes) of each tensor.
    """
    status = path.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns} {len(samples)}".encode())
    with path.open("rb", buffering=0) as file:
        for offset, size in samples:
            for at in (offset, offset + max(size - 512, 0)):
                file.seek(at)
                digest.update(file.read(512))
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
