"""Find the file that a model's name means: in the models folder, the catalogue, or on the hub."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from chat.errors import ModelError
from chat.guide import PATH as GUIDE_FILE
from chat.hub import PREFIX, HubName, gguf_here, is_repository, pull_gguf, read_hub_name
from chat.hub.catalogue import DEFAULT, Official, find_official, official_names
from chat.models.inventory import LocalFile, find_by_start, find_local, local_files
from chat.system.units import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WAYS_TO_A_MODEL = (
    "name a GGUF file with `-m FILE`, or make one: `mistral-chat convert CHECKPOINT_FOLDER`; "
    f"`mistral-chat models pull {DEFAULT.aliases[0]}` fetches {DEFAULT.name}; "
    "`export MISTRAL_CHAT_MODEL=NAME` names it for good"
)


def find_model(name: str, *, is_folder: bool) -> Path:
    """The file that `name` means, downloaded where it names one on the hub that is not here.

    Args:
        is_folder: a folder has that name.

    Raises:
        ModelError: nothing has that name, or several things; the hint says what to do.
        ChatError: a download failed.
    """
    if name.startswith(PREFIX):
        asked = read_hub_name(name)
        return gguf_here(asked) or pull_gguf(asked)
    files = local_files()
    found = find_local(name, files) or _pulled(find_official(name), files) or _beginning(name, files)
    if found is not None:
        return found.path
    raise _unknown(name, is_folder=is_folder, files=files)


def only_model() -> Path:
    """The only model that was pulled; the guide inside this program where there is none.

    Raises:
        ModelError: there are several, or nothing at all; the hint says what to do.
    """
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
    ours = [file for file in files if file.where == "models"]
    return next(iter(find_by_start(official.name, ours)), None) if official else None


def _beginning(name: str, files: Sequence[LocalFile]) -> LocalFile | None:
    found = find_by_start(name, files) if name else ()
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ModelError(f"`{name}` could be {len(found)} models: {names}", hint="write more of the name")
    return found[0] if found else None


def _unknown(name: str, *, is_folder: bool, files: Sequence[LocalFile]) -> ModelError:
    """Why a name leads nowhere, and the nearest way out."""
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
