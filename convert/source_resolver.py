"""What a person names -> folders and files of this machine; the hub is asked where a name means a repository there."""

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
from chat.hub.catalogue import find_official
from chat.system.console import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Say = Callable[[str], None]


def find_source(name: str, say: Say = tell) -> Path:
    """Have the source here: a folder, a GGUF, an official model, or `owner/name` and `hf:owner/name:QUANT` on the hub.

    A name that is neither a path nor a repository comes back as a path, for others to say that it does not exist.

    Raises:
        ChatError: the hub does not have it, or it cannot be fetched.
    """
    asked = _asked_of_hub(name)
    if asked is None:
        return Path(name)
    return pull_gguf(asked, say=say) if asked.wanted else checkpoint_files(str(asked), say=say)


@contextmanager
def find_outline(name: str, say: Say = tell) -> Iterator[tuple[Path, bool]]:
    """As `find_source`, for who asks about shapes only: weights that are not here are not fetched.

    Yields:
        The source, and whether its weights are in it. Where they are not, it is gone after the block.

    Raises:
        ChatError: as `find_source`, or the shapes cannot be had without the weights.
    """
    asked = _asked_of_hub(name)
    if asked is None:
        yield Path(name), True
    elif asked.wanted:
        here = gguf_here(asked)
        if here is None:
            raise ModelError(f"{asked} is not here yet", hint=f"`mistral-chat models pull {asked}` fetches it")
        yield here, True
    else:
        with checkpoint_outline(asked, say=say) as found:
            yield found


def find_adapter(text: str, say: Say = tell) -> tuple[Path, float]:
    """Have the adapter PATH[:SCALE] or OWNER/NAME[:SCALE] here, and its scale.

    Raises:
        ChatError: the scale is no finite number, or the hub does not have the adapter.
    """
    name, scale = split_scale(text)
    asked = _asked_of_hub(name, knows_official=False)
    return (Path(name) if asked is None else checkpoint_files(str(asked), say=say)), scale


def split_scale(text: str) -> tuple[str, float]:
    """Take NAME[:SCALE] apart; a path that is there with its colon is a path.

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


def _asked_of_hub(name: str, *, knows_official: bool = True) -> HubName | None:
    """What a name asks the hub for; None for a path, whether or not anything is there."""
    if name.startswith(PREFIX):
        return read_hub_name(name)
    if _exists(name):
        return None
    official = find_official(name) if knows_official else None
    if official is not None:
        return HubName(official.repository)
    return read_hub_name(name) if is_repository(name.partition("@")[0]) else None


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long, or a NUL
        return False
