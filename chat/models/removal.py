"""Remove a model, and its picture encoder where no other model uses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from chat.errors import FileError
from chat.hub import CachedRepository, remove_cached
from chat.models.projector import find_projector

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chat.models.stores import LocalFile


@dataclass(frozen=True)
class Removal:
    """What is removed together.

    Attributes:
        file: a model, or a picture encoder.
        encoder: the picture encoder of that model.
        users: the names of the other models that use the encoder, which stays for them.
    """

    file: LocalFile
    encoder: LocalFile | None
    users: tuple[str, ...]

    @property
    def removes_encoder(self) -> bool:
        """Whether the model's encoder goes with it."""
        return self.encoder is not None and not self.users


def plan_removal(file: LocalFile, files: Sequence[LocalFile]) -> Removal:
    """Find out what goes with a file.

    Args:
        file: to remove.
        files: all that are in our folders, this one among them.
    """
    encoder = file if file.is_encoder else _encoder_of(file, files)
    if encoder is None:
        return Removal(file, None, ())
    beside = [each for each in files if each.is_model and each != file and _place(each) == _place(encoder)]
    users = tuple(each.name for each in beside if _encoder_of(each, files) == encoder)
    return Removal(file, None if encoder is file else encoder, users)


def remove(file: LocalFile) -> int:
    """Remove a file, in the hub's cache its bytes too; of a split model all parts, the first one last.

    Returns:
        The bytes that were freed.

    Raises:
        FileError: it cannot be removed.
    """
    paths = (*reversed(file.further_parts), file.path)
    if file.repository:
        repository, folder = CachedRepository(file.repository), PurePosixPath(file.repository_file).parent
        return sum(remove_cached(repository, str(folder / path.name)) for path in paths)
    return sum(map(_remove_file, paths))


def _encoder_of(model: LocalFile, files: Sequence[LocalFile]) -> LocalFile | None:
    """The picture encoder that a model uses, if it is in our folders.

    In the hub's cache a file is told by its name in the repository: several commits may have it.
    """
    path = find_projector(model.path)
    if path is None:
        return None
    for each in files:
        is_it = path.as_posix().endswith(f"/{each.repository_file}") if each.repository else path == each.path
        if is_it and _place(each) == _place(model):
            return each
    return None


def _place(file: LocalFile) -> tuple[str, str]:
    return file.where, file.repository


def _remove_file(path: Path) -> int:
    try:
        size = 0 if path.is_symlink() else path.stat().st_size
        path.unlink()
    except OSError as error:
        raise FileError(f"{path}: cannot be removed: {error.strerror}") from error
    return size
