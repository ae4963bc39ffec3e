"""Resolve the names of sources to folders and files of this machine, downloading from the hub what is not here."""

from __future__ import annotations

from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import ModelError, UsageError
from chat.hub import (
    PREFIX,
    HubName,
    checkpoint_files,
    checkpoint_outline,
    gguf_here,
    is_repository,
    pull_gguf,
    read_hub_name,
)
from chat.hub.names import find_official

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Say = Callable[[str], None]


def find_source(name: str, say: Say) -> Path:
    """The path of a source: a folder, a GGUF, an official model, or `owner/name` and `hf:owner/name:QUANT` on the hub.

    A name that is neither a path nor a repository is returned as a path; opening it reports that it does not exist.

    Raises:
        ChatError: the hub does not have it, or it cannot be fetched.
    """
    hub_name = _hub_name(name)
    if hub_name is None:
        return Path(name)
    return pull_gguf(hub_name, say=say) if hub_name.wanted else checkpoint_files(str(hub_name), say=say)


@contextmanager
def find_outline(name: str, say: Say) -> Iterator[tuple[Path, bool]]:
    """As `find_source`, for the shapes only: weights that are not here are not downloaded.

    Yields:
        The source, and whether it has its weights. A source without them is deleted after the block.

    Raises:
        ChatError: as `find_source`, or the shapes cannot be read without the weights.
    """
    hub_name = _hub_name(name)
    if hub_name is None:
        yield Path(name), True
    elif hub_name.wanted:
        here = gguf_here(hub_name)
        if here is None:
            raise ModelError(f"{hub_name} is not here yet", hint=f"`mistral-chat models pull {hub_name}` fetches it")
        yield here, True
    else:
        with checkpoint_outline(hub_name, say=say) as found:
            yield found


def find_adapter(text: str, say: Say) -> tuple[Path, float]:
    """The path of the adapter PATH[:SCALE] or OWNER/NAME[:SCALE], and its scale.

    Raises:
        ChatError: the scale is no finite number, or the hub does not have the adapter.
    """
    name, scale = split_scale(text)
    hub_name = _hub_name(name, with_official=False)
    return (Path(name) if hub_name is None else checkpoint_files(str(hub_name), say=say)), scale


def split_scale(text: str) -> tuple[str, float]:
    """Split NAME[:SCALE]; an existing path with a colon in it is a path.

    Raises:
        UsageError: the scale is no finite number.
    """
    head, colon, tail = text.rpartition(":")
    if not colon or not head or _exists(text):
        return text, 1.0
    try:
        scale = float(tail)
    except ValueError:
        return text, 1.0
    if not isfinite(scale):
        raise UsageError(f"`--lora {text}`: the scale must be a finite number")
    return head, scale


def _hub_name(name: str, *, with_official: bool = True) -> HubName | None:
    """The repository that a name means; None for a path, whether or not it exists."""
    if name.startswith(PREFIX):
        return read_hub_name(name)
    if _exists(name):
        return None
    official = find_official(name) if with_official else None
    if official is not None:
        return HubName(official.repository)
    return read_hub_name(name) if is_repository(name.partition("@")[0]) else None


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long, or a NUL
        return False
