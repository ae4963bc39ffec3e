"""Find, link and remove files in the hub's own cache, which other programs share.

The layout is the hub library's: `models--OWNER--NAME/blobs/ETAG` hold bytes, `snapshots/COMMIT/FILE` link to them,
`refs/REVISION` name a commit, `.locks` beside the repositories hold locks. Reading it here spares loading the library.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import FileError
from chat.hub.names import DEFAULT_REVISION

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_cache() -> Path:
    """The folder of the hub's cache, as the hub library finds it: HF_HUB_CACHE, else below HF_HOME."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if not named:
        caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        named = (os.environ.get("HF_HOME") or f"{caches}/huggingface") + "/hub"
    return Path(os.path.expandvars(named)).expanduser().absolute()


@dataclass(frozen=True)
class CachedRepository:
    """The paths of one repository in the cache, which may be missing."""

    repository: str  # owner/name

    @property
    def folder(self) -> Path:
        """The folder of blobs, snapshots and refs."""
        return hub_cache() / ("models--" + self.repository.replace("/", "--"))

    def blob(self, etag: str) -> Path:
        """The path of a file's bytes, by its hash."""
        return self.folder / "blobs" / etag

    def partial(self, etag: str) -> Path:
        """The partial file of a download; older hub libraries use the same name and resume it too."""
        return self.folder / "blobs" / f"{etag}.incomplete"

    def lock(self, etag: str) -> Path:
        """The file that the hub library locks while it downloads this blob."""
        return hub_cache() / ".locks" / self.folder.name / f"{etag}.lock"

    def snapshot(self, commit: str) -> Path:
        """The folder in which a commit's files have their names."""
        return self.folder / "snapshots" / commit

    def commit(self, revision: str | None = None) -> str | None:
        """The commit that a revision meant when it was last asked for; None if it never was."""
        revision = revision or DEFAULT_REVISION
        if _COMMIT.fullmatch(revision):
            return revision
        try:
            commit = (self.folder / "refs" / revision).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        return commit if _COMMIT.fullmatch(commit) else None

    def files(self, commit: str) -> tuple[str, ...]:
        """The names of a commit's files that are complete here; broken links do not count."""
        snapshot = self.snapshot(commit)
        found = (path for path in snapshot.rglob("*") if path.is_file())
        return tuple(sorted(path.relative_to(snapshot).as_posix() for path in found))

    def gguf_files(self) -> dict[str, Path]:
        """Every GGUF of this repository by its name in it: of the commit that `main` meant last, else the newest."""
        found: dict[str, Path] = {}
        current = self.commit()
        snapshots = [path for path in self.folder.glob("snapshots/*") if path.is_dir()]
        for snapshot in sorted(snapshots, key=lambda path: (path.name == current, path.stat().st_mtime), reverse=True):
            for path in snapshot.rglob("*.gguf"):
                if path.is_file():
                    found.setdefault(path.relative_to(snapshot).as_posix(), path)
        return dict(sorted(found.items()))

    def remember(self, revision: str | None, commit: str) -> None:
        """Note which commit a revision means, so that it is found without a network."""
        revision = revision or DEFAULT_REVISION
        if revision != commit:
            ref = self.folder / "refs" / revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(commit, encoding="ascii")

    def link(self, name: str, commit: str, etag: str) -> Path:
        """Give a blob its name in a commit; where links are not possible the file itself moves there."""
        pointer = self.snapshot(commit) / name
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.unlink(missing_ok=True)
        try:
            pointer.symlink_to(os.path.relpath(self.blob(etag), pointer.parent))
        except FileExistsError:  # another program linked it meanwhile
            pass
        except OSError:
            self.blob(etag).replace(pointer)
        return pointer


@dataclass(frozen=True)
class CachedPlace:
    """What a path in the cache says of its file: the repository, the commit, and the name in it."""

    repository: CachedRepository
    commit: str
    name: str


def place_in_cache(path: Path) -> CachedPlace | None:
    """The place of a file in the cache, by its path; None for any other file."""
    cache = hub_cache()
    parts = path.relative_to(cache).parts if path.is_relative_to(cache) else ()
    match parts:
        case (folder, "snapshots", commit, *name) if name and folder.startswith("models--") and folder.count("--") > 1:
            repository = CachedRepository("/".join(folder.split("--", 2)[1:]))
            return CachedPlace(repository, commit, "/".join(name))
    return None


def cached_gguf_files() -> Iterator[tuple[CachedRepository, str, Path]]:
    """Every GGUF in the cache: its repository, its name in it, and its path; the newest copy of each name."""
    for folder in sorted(hub_cache().glob("models--*--*")):
        repository = CachedRepository("/".join(folder.name.split("--", 2)[1:]))
        yield from ((repository, name, path) for name, path in repository.gguf_files().items())


def remove_cached(repository: CachedRepository, name: str) -> int:
    """Remove a file from every commit of a repository, and its bytes where nothing else needs them.

    Of a link that leads out of the repository only the link is removed, never what it leads to.

    Returns:
        The bytes that were freed.

    Raises:
        FileError: it cannot be removed, or lies behind a folder that is a link out of the repository.
    """
    freed, home = 0, Path(os.path.realpath(repository.folder))
    pointers = [path for path in repository.folder.glob("snapshots/*/" + _literal(name)) if _is_present(path)]
    for pointer in pointers:
        if not Path(os.path.realpath(pointer.parent)).is_relative_to(home):
            raise FileError(f"{pointer}: lies outside of the hub's cache, so it is not removed")
    try:
        for pointer in pointers:
            blob = _target(pointer)
            size = pointer.stat().st_size if pointer.exists() else 0
            pointer.unlink()
            if blob is None:
                freed += size
            elif _is_blob(repository, blob) and not _is_linked(repository, blob):
                freed += (
                    0 if blob.is_symlink() else size
                )  # the store that repositories share: `hf cache prune` frees it
                blob.unlink(missing_ok=True)
        _remove_empty_folders(repository)
    except OSError as error:
        raise FileError(f"{error.filename}: cannot be removed: {error.strerror}") from error
    return freed


def _literal(name: str) -> str:
    """A name as a pattern that matches only itself."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _is_present(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _target(pointer: Path) -> Path | None:
    """The blob that a name links to, one step only; None if the path is the file itself."""
    return Path(os.path.normpath(pointer.parent / pointer.readlink())) if pointer.is_symlink() else None


def _is_linked(repository: CachedRepository, blob: Path) -> bool:
    names = repository.folder.glob("snapshots/*/**/*")
    return any(path.is_symlink() and _target(path) == blob for path in names)


def _is_blob(repository: CachedRepository, path: Path) -> bool:
    """Whether a path is in the repository's own folder of bytes."""
    return os.path.realpath(path.parent) == os.path.realpath(repository.folder / "blobs")


def _remove_empty_folders(repository: CachedRepository) -> None:
    """Remove empty folders, and the repository if it has neither files nor parts of files."""
    for folder in sorted(repository.folder.glob("snapshots/**/"), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    if not any(repository.folder.glob("snapshots/*")) and not any(repository.folder.glob("blobs/*")):
        shutil.rmtree(repository.folder)
