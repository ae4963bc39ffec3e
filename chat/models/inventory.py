"""List the models on this machine, in the models folder and in the hub's cache, and find the one that a name means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chat.errors import ChatError, FileError, ModelError
from chat.gguf.keys import ModelKey
from chat.guide import PATH as GUIDE_FILE
from chat.hub import (
    PREFIX,
    CachedRepository,
    HubName,
    cached_gguf_files,
    gguf_here,
    is_repository,
    pull_gguf,
    quant_of,
    read_hub_name,
    remove_cached,
)
from chat.hub.names import DEFAULT, Official, find_official, official_names
from chat.system.paths import models_folder
from chat.system.terminal_text import size_text

if TYPE_CHECKING:
    from chat.gguf.reader import GgufFile

Where = Literal["models", "hub cache", "elsewhere"]
_SUFFIX = ".gguf"
_LONGEST_ARRAY = 64  # items shown; vocabularies are left out
WAYS_TO_A_MODEL = (
    "name a GGUF file with `-m FILE`, or make one: `mistral-chat convert CHECKPOINT_FOLDER`; "
    f"`mistral-chat models pull {DEFAULT.aliases[0]}` fetches {DEFAULT.name}; "
    "`export MISTRAL_CHAT_MODEL=NAME` names it for good"
)


@dataclass(frozen=True)
class LocalFile:
    """A GGUF that is here; nothing of it is read yet. `name` is what `-m` takes."""

    name: str
    path: Path
    where: Where
    repository: str = ""  # in the hub's cache
    repository_file: str = ""


@dataclass(frozen=True)
class LocalModel:
    """What a GGUF's header says of it. `problem` tells why it cannot be used; what is unknown then is empty."""

    name: str
    path: str
    where: Where
    size: int  # bytes
    type: str = ""
    window: int | None = None  # tokens
    prompt_format: str = ""
    architecture: str = ""
    context: int | None = None  # tokens it was trained for
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """The model as plain values."""
        return dict(vars(self))


def local_files() -> tuple[LocalFile, ...]:
    """Every GGUF that is here, ours first."""
    try:
        ours = sorted(path for path in models_folder().glob(f"*{_SUFFIX}") if path.is_file())
    except OSError:
        ours = []
    return (*(LocalFile(path.stem, path, "models") for path in ours), *_cached())


def _cached() -> Sequence[LocalFile]:
    found = list(cached_gguf_files())
    quants = [(repository, quant_of(name)) for repository, name, _ in found]
    files = []
    for (repository, name, path), (_, quant) in zip(found, quants, strict=True):
        is_unique = quant and quants.count((repository, quant)) == 1
        called = HubName(repository.repository, None, quant if is_unique else name)
        files.append(LocalFile(str(called), path, "hub cache", repository.repository, name))
    return files


def find_local(name: str, files: Sequence[LocalFile]) -> LocalFile | None:
    """The file of exactly this name, in any case, with or without `.gguf`."""
    wanted = name.lower().removesuffix(_SUFFIX)
    return next((file for file in files if file.name.lower().removesuffix(_SUFFIX) == wanted), None)


def find_by_start(name: str, files: Sequence[LocalFile]) -> tuple[LocalFile, ...]:
    """The files whose name begins so."""
    return tuple(file for file in files if file.name.lower().startswith(name.lower()))


def describe(file: LocalFile) -> LocalModel:
    """What the strict reader says of a file."""
    size = file.path.stat().st_size if file.path.exists() else 0
    try:
        return _described(file, read_checked(file.path), size)
    except ChatError as error:
        problem = error.message.removeprefix(f"{file.path}: ")
        return LocalModel(file.name, str(file.path), file.where, size, problem=problem)


def read_checked(path: Path) -> GgufFile:
    """The header of a GGUF that a model can be run from.

    Raises:
        ChatError: it cannot.
    """
    from chat.gguf.reader import read_gguf
    from chat.gguf.validate_model import check_model

    header = read_gguf(path)
    check_model(header)
    return header


def _described(file: LocalFile, header: GgufFile, size: int) -> LocalModel:
    is_adapter = header.is_adapter
    context = header.key(ModelKey.CONTEXT_LENGTH)
    return LocalModel(
        name=file.name,
        path=str(file.path),
        where=file.where,
        size=size,
        type="adapter" if is_adapter else header.type_name,
        window=header.window,
        prompt_format="" if is_adapter else _prompt_format(header),
        architecture=header.architecture,
        context=context if isinstance(context, int) else None,
    )


def _prompt_format(header: GgufFile) -> str:
    """The name of a model's prompt format, or `unknown`."""
    from chat.prompts.detect import UnknownFormatError, detect_format

    try:
        return detect_format(header.metadata).name
    except UnknownFormatError:
        return "unknown"


def plain_metadata(header: GgufFile) -> dict[str, Any]:
    """A header's keys as plain values; of long arrays only the length."""
    return {key: _plain(value) for key, value in header.metadata.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return value
    return list(value) if len(value) <= _LONGEST_ARRAY else f"{len(value)} items"


def remove(file: LocalFile) -> int:
    """Remove a file, in the hub's cache its bytes too.

    Returns:
        The bytes that were freed.

    Raises:
        FileError: it cannot be removed.
    """
    if file.repository:
        return remove_cached(CachedRepository(file.repository), file.repository_file)
    try:
        size = 0 if file.path.is_symlink() else file.path.stat().st_size
        file.path.unlink()
    except OSError as error:
        raise FileError(f"{file.path}: cannot be removed: {error.strerror}") from error
    return size


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
