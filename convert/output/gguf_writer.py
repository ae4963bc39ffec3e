"""Write a large file that exists whole or not at all: a partial file beside it, renamed at the end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from functools import cache
from typing import TYPE_CHECKING

from chat import platform
from chat.errors import FileError
from chat.system.terminal_text import size_text
from chat.system.text_files import is_stream, real_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


def partial_path(path: Path) -> Path:
    """The path under which a file is written until it is complete."""
    path = real_path(path)
    return path.with_name(f".{path.name}.partial")


def check_target(path: Path, needed_bytes: int = 0, *, overwrite: bool) -> None:
    """Check that a file of `needed_bytes` may be written to `path`.

    Raises:
        FileError: it exists and must not be replaced, its folder is missing or not writable, or its disk is too full.
    """
    fault = target_fault(path, needed_bytes, overwrite=overwrite)
    if fault is not None:
        raise fault


def target_fault(path: Path, needed_bytes: int = 0, *, overwrite: bool) -> FileError | None:
    """Why a file of `needed_bytes` may not be written to `path`, or None."""
    folder = real_path(path).parent
    if path.is_dir():
        return FileError(f"{path} is a folder", hint="name the file with `-o`")
    try:
        to_stream = is_stream(path)
    except FileError as error:
        return error
    if to_stream:
        return FileError(f"{path} is a device or a pipe, and a model needs a file", hint="name a file with `-o`")
    if os.path.lexists(path) and not overwrite:
        return FileError(f"{path} exists already", hint="replace it with `--overwrite`, or name another file with `-o`")
    if not folder.is_dir():
        return FileError(f"{folder}: no such folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        return FileError(f"{folder}: no permission to write there", hint="name a file elsewhere with `-o`")
    lacking = needed_bytes - free_bytes(path)
    if lacking > 0:
        return FileError(
            f"{folder}: {size_text(needed_bytes)} are needed, {size_text(lacking)} more than are free",
            hint="write to another disk with `-o`, or choose a smaller type with `-t`",
        )
    return None


def targets_fault(targets: Sequence[tuple[Path, int]], *, overwrite: bool) -> FileError | None:
    """Why files of one folder, each with its bytes, may not be written together, or None."""
    faults = (target_fault(path, size, overwrite=overwrite) for path, size in targets)
    fault = next(filter(None, faults), None)
    if fault is not None:
        return fault
    needed = sum(size for _, size in targets)
    lacking = needed - free_bytes(*(path for path, _ in targets))
    if lacking > 0:
        return FileError(
            f"{real_path(targets[0][0]).parent}: {size_text(needed)} are needed for {len(targets)} files, "
            f"{size_text(lacking)} more than are free",
            hint="write to another disk with `-o`, or choose fewer or smaller types with `-t`",
        )
    return None


def free_bytes(*paths: Path) -> int:
    """Bytes free for new files of one folder; partial files of an earlier run count as free. It need not exist."""
    folder = next(folder for folder in real_path(paths[0]).parents if folder.is_dir())
    free = shutil.disk_usage(folder).free
    for path in paths:
        with contextlib.suppress(OSError):
            free += platform.allocated_bytes(partial_path(path).lstat())
    return free


FLAGS = os.O_RDWR | platform.NO_FOLLOW | platform.BINARY
FLUSHED_BYTES = 1 << 25  # that the disk begins to write at a time
SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h


@cache
def _flush_function() -> Callable[[int, int, int, int], int] | None:
    """Linux's sync_file_range(), which has the disk begin to write cached pages and does not wait for it."""
    function = getattr(platform.c_library(), "sync_file_range", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


class PartialFile:
    """A file that is being written under its partial path. Writing from several threads is safe."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write bytes at an offset from the start of the file.

        Raises:
            FileError: the disk is full or fails.
        """
        view, start = memoryview(data).cast("B"), offset
        try:
            while view:
                written = platform.write_at(self._descriptor, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise FileError(f"{self.path}: {error.strerror} while writing") from error
        if offset // FLUSHED_BYTES > start // FLUSHED_BYTES:
            self._flush(start // FLUSHED_BYTES * FLUSHED_BYTES, offset // FLUSHED_BYTES * FLUSHED_BYTES)

    def _flush(self, start: int, end: int) -> None:
        """Have the disk write a part while others are computed, so that `sync`, which sees its errors, is short."""
        flush = _flush_function()
        if flush is not None:
            flush(self._descriptor, start, end - start, SYNC_FILE_RANGE_WRITE)

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        os.fsync(self._descriptor)


@contextlib.contextmanager
def create(path: Path, size: int, *, overwrite: bool) -> Iterator[PartialFile]:
    """Write a file of `size` bytes within the block; it gets its name when the block ends well, else it is removed.

    The partial file is locked while it is written. One without a lock was left by a killed run and is removed first.

    Raises:
        FileError: it cannot be written, or another program is writing it.
    """
    with create_all([(path, size)], overwrite=overwrite) as (file,):
        yield file


@contextlib.contextmanager
def create_all(targets: Sequence[tuple[Path, int]], *, overwrite: bool) -> Iterator[tuple[PartialFile, ...]]:
    """Like `create`, for files of one folder, each with its bytes: all of them get their names, or none does.

    Raises:
        FileError: one cannot be written, or another program is writing it.
    """
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(_partial_file(path, size)) for path, size in targets]
        yield tuple(file for file, _ in made)
        paths = [path for path, _ in targets]
        for path, (file, descriptor) in zip(paths, made, strict=True):
            _finish(file, descriptor, path, overwrite=overwrite)
        _publish([file for file, _ in made], paths)


@contextlib.contextmanager
def temporary(path: Path, size: int) -> Iterator[PartialFile]:
    """Like `create`, but the file is there within the block only, and `path` never is.

    Raises:
        FileError: it cannot be written, or another program is writing it.
    """
    with _partial_file(path, size) as (file, _):
        yield file
        file.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _partial_file(path: Path, size: int) -> Iterator[tuple[PartialFile, int]]:
    """A new, locked partial file and its descriptor; it is removed if the block fails."""
    partial = partial_path(path)
    try:
        descriptor = _open_exclusively(partial)
    except OSError as error:
        raise FileError(f"{partial}: {error.strerror}") from error
    try:
        _resize(descriptor, size, partial)
        yield PartialFile(partial, descriptor), descriptor
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    finally:
        os.close(descriptor)


def _open_exclusively(partial: Path) -> int:
    """Create the partial file and lock it; an unlocked leftover is removed."""
    while True:
        try:
            descriptor = platform.open_movable(partial, FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            _remove_leftover(partial)
            continue
        if platform.lock_file(descriptor) and _is_same_file(descriptor, partial):
            return descriptor
        os.close(descriptor)  # between the two calls another run removed it as a leftover


def _remove_leftover(partial: Path) -> None:
    try:
        descriptor = platform.open_movable(partial, FLAGS)
    except FileNotFoundError:
        return
    try:
        if not platform.lock_file(descriptor):
            raise FileError(f"{partial}: another conversion is writing this file", hint="wait for it, or use `-o`")
        if _is_same_file(descriptor, partial):
            partial.unlink()
    finally:
        os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _resize(descriptor: int, size: int, partial: Path) -> None:
    try:
        os.ftruncate(descriptor, size)
    except OSError as error:
        raise FileError(f"{partial}: {error.strerror}") from error


def _finish(file: PartialFile, descriptor: int, path: Path, *, overwrite: bool) -> None:
    """Bring a file to the disk as it will be, and check its name once more."""
    try:
        mask = os.umask(0o077)
        os.umask(mask)
        platform.set_file_mode(descriptor, 0o666 & ~mask)
        file.sync()
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    check_target(path, overwrite=overwrite)  # again: it may have appeared meanwhile


def _publish(files: Sequence[PartialFile], paths: Sequence[Path]) -> None:
    """Give files of one folder their names; if one cannot get its name, those that are new lose theirs again."""
    new: list[Path] = []
    try:
        for file, path in zip(files, paths, strict=True):
            target = file.path.with_name(real_path(path).name)
            is_new = not os.path.lexists(target)
            file.path.replace(target)
            if is_new:
                new.append(target)
    except BaseException as error:
        for target in new:
            target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FileError(f"{path}: {error.strerror}") from error
        raise
    try:
        platform.sync_folder(files[0].path.parent)
    except OSError as error:
        raise FileError(f"{paths[0]}: {error.strerror}") from error
