"""Download the files of a repository: list them, select, compare with the free disk space, fetch.

Files live in the hub's own cache, so that what other programs fetched is found and what we fetch is found by them.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from chat.errors import DataError, FileError, ModelError
from chat.hub.cache import CachedRepository, hub_cache, place_in_cache
from chat.hub.download import bytes_here, fetch, is_whole
from chat.hub.listing import Listing, RemoteFile, list_files
from chat.hub.names import HubName, read_hub_name
from chat.hub.select import choose_gguf, choose_projector, needed_for_conversion
from chat.system.environment import notify
from chat.system.progress import byte_bar
from chat.system.terminal_text import counted, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Say = Callable[[str], None]
    Choose = Callable[[Sequence[str]], Sequence[str]]

LARGEST_FILE = 50_000_000_000  # bytes; the hub serves no larger file over plain HTTP
_SPARE_BYTES = 64 << 20  # what a download leaves free


def pull_files(repository: str, choose: Choose, *, revision: str | None = None, say: Say = notify) -> tuple[Path, ...]:
    """Download the chosen files of a repository, unless they are here, and check them.

    Args:
        repository: `owner/name`.
        choose: from the names of all files to those that are wanted, in the order to fetch them.
        revision: branch, tag or commit; the newest without it.

    Returns:
        Their paths in the hub's cache, in the order of `choose`, all of one commit.

    Raises:
        ModelError: missing, gated or forbidden.
        FileError: no network, or no room on the disk; what was downloaded is kept, and the next call resumes it.
        DataError: the bytes do not have the checksum that the hub lists.
    """
    listing = list_files(repository, revision, say)
    files = {file.name: file for file in listing.files}
    return pull_listed(listing, [files[name] for name in choose(listing.names)], revision, say)


def pull_listed(listing: Listing, files: Sequence[RemoteFile], revision: str | None, say: Say) -> tuple[Path, ...]:
    """`pull_files` for what was listed and chosen already."""
    cache = CachedRepository(listing.repository)
    snapshot = cache.snapshot(listing.commit)
    lacking = [file for file in files if not is_whole(snapshot / file.name, file)]
    if lacking:
        _require_room(listing, lacking, cache)
        _fetch_all(listing, lacking, cache, say)
    cache.remember(revision, listing.commit)
    return tuple(snapshot / file.name for file in files)


def checkpoint_files(name: str, revision: str | None = None, *, say: Say = notify) -> Path:
    """A local folder with the files that a conversion of this repository reads.

    The folder is a commit's in the hub's cache, so other programs' files of that commit may be in it too. Without a
    network a complete copy that is here is used, with a notice.

    Args:
        name: `owner/name`, with or without `hf:` before and `@revision` after it.

    Raises:
        ModelError: missing, gated or forbidden, or there is no checkpoint in it.
        FileError: no network and no copy here, or no room on the disk.
        DataError: the bytes do not have the checksum that the hub lists.
        UsageError: the name is not valid.
    """
    asked = read_hub_name(name)
    revision = revision or asked.revision
    try:
        paths = pull_files(asked.repository, needed_for_conversion, revision=revision, say=say)
    except FileError as error:
        here = _checkpoint_here(asked.repository, revision)
        if here is None:
            raise
        say(f"{error.message}; using the copy that is here, commit {here.name[:8]}")
        return here
    folder = paths[-1].parent  # of the weights; a file before them may be in a folder of its own
    _require_indexed(folder)
    return folder


def checkpoint_size(name: str, *, say: Say = notify) -> tuple[int, int]:
    """How many bytes a conversion of this repository reads, and how many of them are not here yet.

    Without a network, a complete copy that is here is measured.
    """
    asked = read_hub_name(name)
    try:
        listing = list_files(asked.repository, asked.revision, say)
    except FileError:
        here = _checkpoint_here(asked.repository, asked.revision)
        if here is None:
            raise
        names = needed_for_conversion([path.name for path in here.iterdir()])
        return sum((here / name).stat().st_size for name in names), 0
    needed = set(needed_for_conversion(listing.names))
    cache = CachedRepository(asked.repository)
    files = [file for file in listing.files if file.name in needed]
    return sum(file.size for file in files), sum(file.size - bytes_here(file, cache) for file in files)


def gguf_here(asked: HubName) -> Path | None:
    """The GGUF that is asked for, if it is complete in the hub's cache; needs no network."""
    cache = CachedRepository(asked.repository)
    here = cache.gguf_files()
    if asked.revision:
        commit = cache.commit(asked.revision)
        here = {name: cache.snapshot(commit) / name for name in cache.files(commit)} if commit else {}
    try:
        return here[choose_gguf(tuple(here), asked)]
    except ModelError:
        return None


def pull_gguf(asked: HubName, *, say: Say = notify) -> Path:
    """Download a GGUF, unless it is here, with its picture encoder if it has one; the model's path.

    Raises:
        ChatError: as `pull_files`.
    """
    listing = list_files(asked.repository, asked.revision, say)
    name = choose_gguf(listing.names, asked)
    model = next(file for file in listing.files if file.name == name)
    projector = _projector_of(name, listing, say)
    return pull_listed(listing, [model, *([projector] if projector else [])], asked.revision, say)[0]


def pull_projector(model: Path, *, say: Say = notify) -> Path | None:
    """Download the picture encoder of a GGUF that is in the hub's cache; None where its repository has none.

    It is looked for in the model's commit, if the hub still has it, then in the newest one: many came later.

    Raises:
        ChatError: as `pull_files`.
    """
    place = place_in_cache(model)
    if place is None:
        return None
    repository = place.repository.repository
    with suppress(ModelError):
        if path := _pulled_projector(place.name, list_files(repository, place.commit, say), say):
            return path
    return _pulled_projector(place.name, list_files(repository, None, say), say)


def _pulled_projector(model: str, listing: Listing, say: Say) -> Path | None:
    projector = _projector_of(model, listing, say)
    return pull_listed(listing, [projector], listing.commit, say)[0] if projector else None


def _projector_of(model: str, listing: Listing, say: Say) -> RemoteFile | None:
    """The picture encoder that is fetched for a model of a repository, which is said; None for none."""
    name = choose_projector(listing.names, model, listing.repository)
    found = next((file for file in listing.files if file.name == name), None)
    if found is not None:
        say(f"with {found.name}, {size_text(found.size)}, the model reads pictures")
    return found


def _fetch_all(listing: Listing, files: Sequence[RemoteFile], cache: CachedRepository, say: Say) -> None:
    total = sum(file.size for file in files)
    here = sum(bytes_here(file, cache) for file in files)
    count = counted(len(files), "file")
    already = f", of which {size_text(here)} are here" if here else ""
    say(f"downloading {count} of {listing.repository}, {size_text(total)}{already}")
    try:
        with byte_bar(listing.repository, total) as progress:
            for file in files:
                fetch(listing, file, cache, progress, say)
    except KeyboardInterrupt:
        say("stopped; what was downloaded is kept: the same command resumes it")
        raise


def _require_room(listing: Listing, files: Sequence[RemoteFile], cache: CachedRepository) -> None:
    """Raise before anything is fetched if it cannot fit."""
    largest = max(files, key=lambda file: file.size)
    if largest.size > LARGEST_FILE:
        raise ModelError(
            f"{largest.name} has {size_text(largest.size)}, but the hub serves no file over {size_text(LARGEST_FILE)}",
            hint=f"fetch it with `hf download {listing.repository}`: it is found in the hub's cache then",
        )
    require_room(sum(file.size - bytes_here(file, cache) for file in files), hub_cache(), f"{listing.repository}")


def require_room(needed: int, folder: Path, what: str, variable: str = "HF_HOME") -> None:
    """Check that the disk of a folder, which need not exist yet, has `needed` bytes free.

    Args:
        what: what the bytes are needed for, as the message names it.
        variable: the environment variable that names another folder.

    Raises:
        FileError: it has less.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if needed + _SPARE_BYTES > free:
        raise FileError(
            f"{what} needs {size_text(needed)} more on the disk, but {folder} has {size_text(free)} free",
            hint=f"make room, or name a folder on a larger disk: `export {variable}=FOLDER`",
        )


def _checkpoint_here(repository: str, revision: str | None) -> Path | None:
    """The folder of a checkpoint from an earlier call that is complete, judging by names."""
    cache = CachedRepository(repository)
    commit = cache.commit(revision)
    if commit is None:
        return None
    try:
        needed_for_conversion([name for name in cache.files(commit) if "/" not in name])
        _require_indexed(cache.snapshot(commit))
    except (ModelError, DataError):
        return None
    return cache.snapshot(commit)


def _require_indexed(folder: Path) -> None:
    """Raise a DataError if the index of the chosen layout names a file that is not there."""
    present = {path.name for path in folder.iterdir() if path.is_file()}
    for name in needed_for_conversion(sorted(present)):
        if not name.endswith(".index.json"):
            continue
        try:
            shards = set(json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{name}: is not an index of weights") from error
        if lacking := sorted(str(shard) for shard in shards if shard not in present):
            raise DataError(f"{name} names {lacking[0]}, which the repository lacks")
