"""Find the file that a model's name means, here or on the hub. Knows names and paths, not what is in the file.

What looks into folders and at the hub is imported for names alone, so that a session with a file begins sooner.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from chat.ground.catalogue import DEFAULT, Official, find_official, official_names
from chat.ground.errors import ModelError
from chat.ground.sizes import size_text
from chat.guide import NAME as GUIDE
from chat.guide import PATH as GUIDE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.models.inventory import LocalFile

WAYS_TO_A_MODEL = (
    "name a GGUF file with `-m FILE`, or make one: `mistral-chat convert CHECKPOINT_FOLDER`; "
    f"`mistral-chat models pull {DEFAULT.aliases[0]}` fetches {DEFAULT.name}; "
    "`export MISTRAL_CHAT_MODEL=NAME` names it for good"
)


def resolve(name: str | None, *, say: Callable[[str], None] | None = None) -> Path:
    """The GGUF file that `name` means.

    A path; a name in the models folder, or how one of them begins; `hf:owner/repo[:QUANT]`, which is downloaded where
    it is not here; the name of an official model that was pulled; `guide`. None means the only model that was pulled,
    and the guide inside this program where there is none.

    Args:
        say: hears of downloads, instead of the person.

    Raises:
        ModelError: nothing has that name, or several things; the hint says what to do.
        ChatError: a download failed.
    """
    if name is None:
        return _only_model()
    path = _existing(name)
    if path and not path.is_dir():
        return path
    if name == GUIDE:
        return GUIDE_FILE
    from chat.ground.hub import PREFIX, gguf_here, pull_gguf, read_hub_name
    from chat.ground.person import tell
    from chat.models.inventory import find_local, local_files

    if name.startswith(PREFIX):
        asked = read_hub_name(name)
        return gguf_here(asked) or pull_gguf(asked, say=say or tell)
    files = local_files()
    found = find_local(name, files) or _pulled(find_official(name), files) or _beginning(name, files)
    if found is not None:
        return found.path
    raise _unknown(name, is_folder=path is not None, files=files)


def _existing(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long for a path, or with a NUL; `~` of nobody
        return None


def _only_model() -> Path:
    from chat.models.inventory import local_files

    ours = [file for file in local_files() if file.where == "models"]
    if len(ours) == 1:
        return ours[0].path
    if not ours and GUIDE_FILE.exists():
        return GUIDE_FILE
    if not ours:
        raise ModelError("no model is named", hint=WAYS_TO_A_MODEL)
    names = " or ".join(f"`-m {file.name}`" for file in ours[:3])
    raise ModelError(
        f"no model is named, and {len(ours)} are here",
        hint=f"say {names}; `export MISTRAL_CHAT_MODEL=NAME` names it for good",
    )


def _pulled(official: Official | None, files: Sequence[LocalFile]) -> LocalFile | None:
    """What was made of an official model, if it is here; the first by name of several."""
    from chat.models.inventory import find_by_start

    ours = [file for file in files if file.where == "models"]
    return next(iter(find_by_start(official.name, ours)), None) if official else None


def _beginning(name: str, files: Sequence[LocalFile]) -> LocalFile | None:
    from chat.models.inventory import find_by_start

    found = find_by_start(name, files) if name else ()
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ModelError(f"`{name}` could be {len(found)} models: {names}", hint="write more of the name")
    return found[0] if found else None


def _unknown(name: str, *, is_folder: bool, files: Sequence[LocalFile]) -> ModelError:
    """Why a name leads nowhere, and the nearest way out."""
    from chat.ground.hub import HubName, is_repository

    official = find_official(name)
    if is_folder and not official:
        return ModelError(f"{name} is a folder, not a GGUF file", hint=f"`mistral-chat convert {name}` makes one of it")
    if official:
        sizes = f"downloads {size_text(official.download_bytes)}, makes {size_text(official.q4_bytes)} of it"
        return ModelError(
            f"{official.name} is not here yet", hint=f"`mistral-chat models pull {name}` fetches it: {sizes}"
        )
    if is_repository(name):
        hint = f"on the hub it would be `{HubName(name)}` (GGUF files) or `mistral-chat convert {name}` (a checkpoint)"
        return ModelError(f"no model at {name}", hint=hint)
    names = {each.lower(): each for each in (*(file.name for file in files), *official_names())}
    if near := get_close_matches(name.lower(), names, n=3, cutoff=0.6):
        return ModelError(f"no model at {name}", hint=f"near it: {', '.join(f'`{names[each]}`' for each in near)}")
    return ModelError(f"no model at {name}", hint=WAYS_TO_A_MODEL)
