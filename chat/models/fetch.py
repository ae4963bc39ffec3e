"""Download a model by name: a GGUF from the hub, or an official checkpoint that is then converted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.errors import FileError, ModelError
from chat.hub import (
    PREFIX,
    CachedRepository,
    checkpoint_files,
    checkpoint_size,
    gguf_here,
    needed_for_conversion,
    pull_gguf,
    read_hub_name,
    remove_cached,
    require_room,
)
from chat.hub.names import DEFAULT, Official, find_official, near_names
from chat.models.projector import fetch_projector, find_projector
from chat.system.environment import notify
from chat.system.paths import models_folder, require_private_folder
from chat.system.terminal_text import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Convert = Callable[[Sequence[str]], None]  # runs `mistral-chat convert` with these arguments

RECIPE = "Q4_K_M"


def pull(name: str, convert: Convert, *, discard: bool = False, say: Callable[[str], None] = notify) -> Path:
    """Have a model here, asking the hub only for what is not; its path.

    Args:
        name: `hf:owner/repo[:QUANT]` for a GGUF, or the name of an official model.
        discard: remove the checkpoint after it was converted.

    Raises:
        ChatError: it cannot be had.
    """
    if not name.startswith(PREFIX) and (official := find_official(name)):
        return _pull_official(official, convert, discard=discard, say=say)
    if not name.startswith(PREFIX) and "/" not in name:
        near = " or ".join(f"`{similar}`" for similar in near_names(name))
        first = f"did you mean {near}?" if near else f"`{DEFAULT.aliases[0]}` is a good first one;"
        raise ModelError(
            f"there is no official model `{name}`", hint=f"{first} `mistral-chat models list --official` lists them"
        )
    asked = read_hub_name(name)
    here = gguf_here(asked)
    if here is None:
        return pull_gguf(asked, say=say)
    say(f"{asked} is already here")
    if find_projector(here) is None:
        try:
            fetch_projector(here, say)
        except FileError as error:  # without a network the model can be used
            say(f"warning: its picture encoder was not looked for: {error.message}")
    return here


def _pull_official(official: Official, convert: Convert, *, discard: bool, say: Callable[[str], None]) -> Path:
    target = models_folder() / f"{official.name}-{RECIPE}.gguf"
    if target.exists():
        say(f"{official.name} is already here")
        return target
    whole, lacking = checkpoint_size(official.repository, say=say)
    _announce(official, whole, lacking, discard, say)
    require_room(official.q4_bytes, target.parent, f"the {RECIPE} of {official.name}", "MISTRAL_CHAT_HOME")
    require_private_folder(target.parent)
    convert([str(checkpoint_files(official.repository, say=say)), "-o", str(target), "-t", RECIPE])
    if discard:
        say(f"removed the checkpoint and freed {size_text(_discard(official.repository))}")
    return target


def _announce(official: Official, whole: int, lacking: int, discard: bool, say: Callable[[str], None]) -> None:
    """Say what is going to happen, with sizes, before it does."""
    coming = "all of it is here" if not lacking else f"{size_text(lacking)} to download"
    after = "is removed afterwards" if discard else "stays in the hub's cache (`--discard` removes it afterwards)"
    say(
        f"{official.repository} is a checkpoint of {size_text(whole)}, {coming}; "
        f"it becomes about {size_text(official.q4_bytes)} of {RECIPE}; the checkpoint {after}"
    )


def _discard(repository: str) -> int:
    """Remove the files of a checkpoint from the hub's cache."""
    cache = CachedRepository(repository)
    commit = cache.commit()
    names = needed_for_conversion(cache.files(commit)) if commit else ()
    return sum(remove_cached(cache, name) for name in names)
