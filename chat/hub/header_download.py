"""Download what tells the shapes of a repository's checkpoint: its small files, and only the headers of its weights.

A safetensors file begins with the length of its header.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import FileError, ModelError
from chat.hub.cache import CachedRepository
from chat.hub.client import BrokenOffError, answer, refuse_web_page, with_retries
from chat.hub.download import is_whole
from chat.hub.listing import list_files
from chat.hub.pull import checkpoint_files, pull_listed
from chat.hub.select import is_model_weights, needed_for_conversion
from chat.system.environment import notify
from chat.system.terminal_text import counted, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chat.hub.listing import Listing, RemoteFile
    from chat.hub.names import HubName

    Say = Callable[[str], None]

LENGTH_BYTES = 8
FIRST_BYTES = 1 << 18  # holds the header of nearly every shard
MOST_BYTES = 100_000_000  # of a header: the format's own limit


@contextmanager
def checkpoint_outline(asked: HubName, *, say: Say = notify) -> Iterator[tuple[Path, bool]]:
    """A folder like that of `checkpoint_files`, with only the headers of weights that are not all here.

    Yields:
        The folder, and whether the weights are in it. If not, each of their files has its header
        and its size, but no data, and the folder is deleted after the block.

    Raises:
        ModelError: missing, gated, forbidden, or the weights are of a kind that has no header.
        ChatError: as `checkpoint_files`.
    """
    try:
        listing = list_files(asked.repository, asked.revision, say)
    except FileError:  # no network: a complete copy that is here will do
        yield checkpoint_files(str(asked), say=say), True
        return
    needed = set(needed_for_conversion(listing.names))
    files = [file for file in listing.files if file.name in needed]
    weights = [file for file in files if is_model_weights(file.name)]
    snapshot = CachedRepository(asked.repository).snapshot(listing.commit)
    are_here = all(is_whole(snapshot / file.name, file) for file in weights)
    if not are_here:
        _require_headers(asked, weights)
    small = pull_listed(listing, [file for file in files if file not in weights], asked.revision, say)
    if are_here:
        yield snapshot, True
        return
    with tempfile.TemporaryDirectory(prefix="mistral-chat-") as place:
        # the names of these folders are those of the model and the commit
        folder = Path(place) / snapshot.parent.parent.name / "snapshots" / listing.commit
        try:
            _fill(folder, {path.relative_to(snapshot): path for path in small}, listing, weights, say)
        except OSError as error:
            raise FileError(f"{folder}: cannot be written: {error.strerror}") from error
        yield folder, False


def _require_headers(asked: HubName, weights: list[RemoteFile]) -> None:
    pickled = [file.name for file in weights if not file.name.endswith(".safetensors")]
    if pickled:
        size = size_text(sum(file.size for file in weights))
        raise ModelError(
            f"{asked.repository}: {pickled[0]} has no header with its shapes, so a dry run needs the whole file",
            hint=f"leave out `--dry-run` to download the {size} and convert them",
        )


def _fill(folder: Path, small: Mapping[Path, Path], listing: Listing, weights: list[RemoteFile], say: Say) -> None:
    """Copy the small files, by their paths within the folder, and read the headers of the others."""
    folder.mkdir(parents=True)
    for name, path in small.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, folder / name)
    size = size_text(sum(file.size for file in weights))
    count = counted(len(weights), "file")
    say(f"reading the headers of {count} of {listing.repository}; the {size} of weights are not downloaded")
    for file in weights:
        with (folder / file.name).open("wb") as sparse_file:
            sparse_file.write(_header(listing, file, say))
            sparse_file.truncate(file.size)


def _header(listing: Listing, file: RemoteFile, say: Say) -> bytes:
    """The length and the header, and maybe more; less only if it is not a safetensors file."""
    start = _read(listing, file, 0, min(FIRST_BYTES, file.size), say)
    end = LENGTH_BYTES + int.from_bytes(start[:LENGTH_BYTES], "little")
    if len(start) < end <= min(file.size, MOST_BYTES):
        start += _read(listing, file, len(start), end, say)
    return start


def _read(listing: Listing, file: RemoteFile, start: int, stop: int, say: Say) -> bytes:
    """Bytes [start, stop) of a file, also from a hub without ranges."""

    def attempt() -> bytes:
        found = bytearray()
        with answer(listing.url(file), listing.repository, listing.commit, start=start, stop=stop) as response:
            refuse_web_page(response, file.name)
            skipped = 0 if response.status_code == 206 else start
            for part in response.iter_bytes(1 << 16):
                found += part
                if len(found) >= skipped + stop - start:
                    return bytes(found[skipped : skipped + stop - start])
        raise BrokenOffError("it ends too early")

    return with_retries(attempt, f"the header of {file.name}", say)
