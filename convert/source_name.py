"""What a person names as SOURCE -> a folder or a file of this machine; the hub is asked where it names a repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chat.ground.hub import PREFIX, checkpoint_files, is_repository, pull_gguf, read_hub_name, tell

if TYPE_CHECKING:
    from collections.abc import Callable


def find_source(name: str, say: Callable[[str], None] = tell) -> Path:
    """Have the source here: a folder, a GGUF, or `owner/name` on the hub, `hf:owner/name:QUANT` for a GGUF there.

    A name that is neither a path nor a repository comes back as a path, for others to say that it does not exist.

    Raises:
        ChatError: the hub does not have it, or it cannot be fetched.
    """
    if not name.startswith(PREFIX) and (_exists(name) or not is_repository(name.partition("@")[0])):
        return Path(name)
    asked = read_hub_name(name)
    return pull_gguf(asked, say=say) if asked.wanted else checkpoint_files(name, say=say)


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long, or a NUL
        return False
