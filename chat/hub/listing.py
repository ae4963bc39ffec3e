"""List the files of a repository with sizes and checksums, at a pinned commit."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from chat.errors import DataError
from chat.hub.client import answer, endpoint, web_page, with_retries

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_BYTES = 64 << 20
_GIT_HASH = re.compile(r"[0-9a-f]{40}")
_ODD = re.compile(r"[\0-\x1f\x7f\\:\ud800-\udfff]")  # in a name
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository."""

    name: str
    size: int  # bytes
    digest: str  # sha256; for a small file, which git keeps itself, git's sha1; the hub's cache calls its bytes so


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit, which pins all later requests."""

    repository: str
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all files."""
        return tuple(file.name for file in self.files)

    def url(self, file: RemoteFile) -> str:
        """The address of a file's bytes."""
        return f"{endpoint()}/{self.repository}/resolve/{self.commit}/{quote(file.name)}"


def list_files(repository: str, revision: str | None, say: Callable[[str], None]) -> Listing:
    """Ask once what a repository holds and which commit the revision means.

    Raises:
        ModelError: no such repository or revision, or no access.
        FileError: no network, or the hub fails.
        DataError: the answer is not a list of files.
    """
    tail = f"/revision/{quote(revision, safe='')}" if revision else ""
    url = f"{endpoint()}/api/models/{repository}{tail}?blobs=true"
    raw = with_retries(lambda: _read(url, repository, revision), f"the list of {repository}", say, tries=3)
    return read_listing(raw, repository)


def read_listing(raw: bytes, repository: str) -> Listing:
    """Read the hub's answer, which is not trusted.

    Raises:
        DataError: it is not a list of files, or lists a name that could leave its folder.
        FileError: it is a web page.
    """
    try:
        plain = json.loads(raw)
        commit, siblings = plain["sha"], plain["siblings"]
        if not _GIT_HASH.fullmatch(commit):
            raise ValueError("no commit")
        return Listing(repository, commit, tuple(_remote_file(each) for each in siblings))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if raw.lstrip()[:1] == b"<":
            raise web_page(f"the list of {repository}") from error
        hint = f"is {endpoint()} a hub that gives sizes and checksums? HF_ENDPOINT says which hub is asked"
        raise DataError(f"the hub's list of {repository} is not valid", hint=hint) from error


def _read(url: str, repository: str, revision: str | None) -> bytes:
    parts, count = [], 0
    with answer(url, repository, revision) as response:
        for part in response.iter_bytes(1 << 20):
            parts.append(part)
            count += len(part)
            if count > _MOST_BYTES:
                raise DataError(f"the hub's list of {repository} is over {_MOST_BYTES >> 20} MiB long")
    return b"".join(parts)


def _remote_file(plain: dict[str, Any]) -> RemoteFile:
    """One entry of the list. A name that could leave its folder is refused here.

    Raises:
        DataError: such a name.
        ValueError, KeyError, TypeError, AttributeError: it is not an entry.
    """
    name, large = plain["rfilename"], plain.get("lfs")
    size, digest = (large["size"], large["sha256"]) if large else (plain["size"], plain["blobId"])
    if type(size) is not int or not 0 <= size < 1 << 63:
        raise ValueError("no size")
    if not (_SHA256 if large else _GIT_HASH).fullmatch(digest):
        raise ValueError("no checksum")
    if any(part in ("", ".", "..") for part in name.split("/")) or _ODD.search(name):
        raise DataError(f"the hub lists a file {name!r}, which is not a plain name inside a folder")
    return RemoteFile(name, size, digest)
