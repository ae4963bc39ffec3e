"""List the models on this machine, in the models folder and in the hub's cache, and find the one that a name means."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.errors import ChatError, ModelError
from chat.gguf.keys import ModelKey
from chat.guide import NAME as GUIDE
from chat.guide import PATH as GUIDE_FILE
from chat.hub import (
    PREFIX,
    HubName,
    gguf_here,
    is_repository,
    pull_gguf,
    read_hub_name,
)
from chat.hub.names import DEFAULT, Official, find_official, official_names
from chat.models import OLLAMA_PREFIX
from chat.models.projector import find_projector
from chat.models.stores import (
    OWN,
    SUFFIX,
    LocalFile,
    Where,
    foreign_files,
    found_files,
    local_files,
    ollama_file,
    ollama_files,
    pulled_files,
)
from chat.system.terminal_text import size_text

if TYPE_CHECKING:
    from chat.gguf.reader import GgufFile

ADAPTER = "adapter"  # the type of a file that is no model
_LONGEST_ARRAY = 64  # items shown; vocabularies are left out
_CHOICES_SHOWN = 6  # of models that a name could mean
NO_SIMILAR_MODEL = "`mistral-chat models list` shows what is here, and `mistral-chat models pull NAME` fetches more"
WAYS_TO_A_MODEL = (
    "name a GGUF file with `-m FILE`, or make one: `mistral-chat convert CHECKPOINT_FOLDER`; "
    f"`mistral-chat models pull {DEFAULT.aliases[0]}` fetches {DEFAULT.name}; "
    "`export MISTRAL_CHAT_MODEL=NAME` names it for good"
)


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
    mmproj: str | None = None  # its picture encoder, where `listed_models` looked for one

    @property
    def summary(self) -> str:
        """Size, type and window in a few words; only the size where the header was not read."""
        return summary(self.size, self.type, self.window)

    def to_json(self) -> dict[str, Any]:
        """The model as plain values."""
        return dict(vars(self))


def summary(size: int, quantization: str, window: int | None) -> str:
    """A model in a few words.

    Args:
        size: bytes.
        quantization: its name; empty where it is unknown, and then the window is too.
        window: tokens; None for none.
    """
    if not quantization:
        return size_text(size)
    return ", ".join([size_text(size), quantization, *([f"window {window:,}"] if window else [])])


def find_local(name: str, files: Sequence[LocalFile]) -> LocalFile | None:
    """The file of exactly this name, in any case, with or without `.gguf`."""
    wanted = name.lower().removesuffix(SUFFIX)
    return next((file for file in files if file.name.lower().removesuffix(SUFFIX) == wanted), None)


def find_by_start(name: str, files: Sequence[LocalFile]) -> tuple[LocalFile, ...]:
    """The files whose name begins so."""
    return tuple(file for file in files if file.name.lower().startswith(name.lower()))


def describe(file: LocalFile) -> LocalModel:
    """What the strict reader says of a file; a file that has not changed is read once."""
    try:
        status = file.path.stat()
    except OSError:
        return _described(file, (0, 0))
    return _described(file, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=256)
def _described(file: LocalFile, _stamp: tuple[int, int]) -> LocalModel:
    try:
        return _from_header(file, read_checked(file.path))
    except ChatError as error:
        problem = error.message.removeprefix(f"{file.path}: ")
        return LocalModel(file.name, str(file.path), file.where, file.size, problem=problem)


def listed_models() -> list[LocalModel]:
    """Every model that is here, those that cannot be used too; only where we keep them, adapters and lone encoders."""
    models = [model for model in map(describe, found_files()) if model.type != ADAPTER or model.where in OWN]
    found = [None if each.problem else find_projector(Path(each.path)) for each in models]
    models = [replace(model, mmproj=str(path)) if path else model for model, path in zip(models, found, strict=True)]
    used = {os.path.realpath(path) for path in found if path}
    lone = [each for each in local_files() if each.is_encoder and os.path.realpath(each.path) not in used]
    return [*models, *(_lone_encoder(each) for each in lone)]


def _lone_encoder(file: LocalFile) -> LocalModel:
    problem = f"is a picture encoder that no model here uses; `mistral-chat models rm {file.name}` removes it"
    return LocalModel(file.name, str(file.path), file.where, file.size, problem=problem)


def usable_models(seconds: float) -> list[LocalModel]:
    """The models that a user can choose from: no adapters, and nothing that cannot be used.

    Args:
        seconds: for reading headers. After that the rest is given with name, place and size only.
    """
    end = time.monotonic() + seconds
    models = []
    for file in found_files():
        if time.monotonic() >= end:
            models.append(LocalModel(file.name, str(file.path), file.where, file.size))
            continue
        model = describe(file)
        if not model.problem and model.type != ADAPTER:
            models.append(model)
    return models


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


def _from_header(file: LocalFile, header: GgufFile) -> LocalModel:
    is_adapter = header.is_adapter
    context = header.key(ModelKey.CONTEXT_LENGTH)
    return LocalModel(
        name=file.name,
        path=str(file.path),
        where=file.where,
        size=file.size,
        type=ADAPTER if is_adapter else header.type_name,
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
    if name.startswith(OLLAMA_PREFIX):
        return _in_ollama(name).path
    files = local_files()
    models = [file for file in files if file.is_model]
    official = find_official(name)
    found = find_local(name, files) or _pulled(official, models) or _beginning(name, models)
    if found is None and not official:  # a name of the catalogue never means another program's file
        found = _foreign(name, foreign_files())
    if found is not None:
        return found.path
    raise _unknown(name, is_folder=is_folder, files=models)


def only_model() -> Path:
    """The only model that was pulled; the guide inside this program where there is none.

    Raises:
        ModelError: there are several, or nothing at all; the hint says what to do.
    """
    ours = [file for file in pulled_files() if file.is_model]
    if len(ours) == 1:
        return ours[0].path
    if not ours and GUIDE_FILE.exists():
        return GUIDE_FILE
    if not ours:
        raise ModelError("no model is named", hint=WAYS_TO_A_MODEL)
    names = " or ".join(f"`-m {file.name}`" for file in ours[:3])
    raise ModelError(
        f"no model is named, but there are {len(ours)} here",
        hint=f"choose one with {names}; `export MISTRAL_CHAT_MODEL=NAME` names it for good",
    )


def _pulled(official: Official | None, files: Sequence[LocalFile]) -> LocalFile | None:
    """What was made of an official model, if it is here; the first by name of several."""
    ours = [file for file in files if file.where == "models"]
    return next(iter(find_by_start(official.name, ours)), None) if official else None


def _beginning(name: str, files: Sequence[LocalFile]) -> LocalFile | None:
    return _only(name, find_by_start(name, files) if name else ())


def _only(name: str, found: Sequence[LocalFile]) -> LocalFile | None:
    """The only file that a name could mean; None if there is none.

    Raises:
        ModelError: there are several.
    """
    if len(found) > 1:
        shown = [file.name for file in found[:_CHOICES_SHOWN]]
        names = ", ".join([*shown, *(["..."] if len(found) > len(shown) else [])])
        raise ModelError(f"`{name}` matches {len(found)} models: {names}", hint="type more of the name")
    return found[0] if found else None


def _foreign(name: str, files: Sequence[LocalFile]) -> LocalFile | None:
    """The file of another program, or of the current folder, with exactly this name.

    A model of Ollama is also found without `ollama:`, and without its tag if that is `latest` or the only one.

    Raises:
        ModelError: there are several.
    """
    wanted = name.lower().removesuffix(SUFFIX)
    if not wanted:
        return None
    called = [(file.name.lower().removeprefix(OLLAMA_PREFIX).removesuffix(SUFFIX), file) for file in files]
    exact = [file for each, file in called if each in (wanted, f"{wanted}:latest")]
    return _only(name, exact or [file for each, file in called if each.startswith(f"{wanted}:")])


def _in_ollama(name: str) -> LocalFile:
    """The model of Ollama that `ollama:NAME` means.

    Raises:
        ModelError: there is none, or there are several.
    """
    if exact := ollama_file(name):
        return exact
    bare = name.removeprefix(OLLAMA_PREFIX)
    files = ollama_files()
    if found := _foreign(bare, files):
        return found
    near = get_close_matches(name, [file.name for file in files], n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(f'`{each}`' for each in near)}?"
    else:
        hint = "`mistral-chat models list` shows the models that can be used; OLLAMA_MODELS names Ollama's folder"
    raise ModelError(f"Ollama has no GGUF model called `{bare}` here", hint=hint)


def _unknown(name: str, *, is_folder: bool, files: Sequence[LocalFile]) -> ModelError:
    """Why a name leads nowhere, and the nearest way out."""
    official = find_official(name)
    if is_folder and not official:
        return ModelError(f"{name} is a folder, not a GGUF file", hint=f"`mistral-chat convert {name}` makes one of it")
    if official:
        sizes = f"a download of {size_text(official.download_bytes)}, kept as {size_text(official.q4_bytes)}"
        hint = f"`mistral-chat models pull {name}` fetches it: {sizes}"
        if foreign := _near_foreign(name):
            hint += f"; {foreign} is already here"
        return ModelError(f"{official.name} is not here yet", hint=hint)
    if is_repository(name):
        hint = f"on the hub it would be `{HubName(name)}` (GGUF files) or `mistral-chat convert {name}` (a checkpoint)"
        return ModelError(f"there is no model `{name}`", hint=hint)
    near = _similar(name.lower(), (GUIDE, *(file.name for file in (*files, *foreign_files())), *official_names()))
    hint = f"did you mean {' or '.join(f'`{each}`' for each in near)}?" if near else NO_SIMILAR_MODEL
    return ModelError(f"there is no model `{name}`", hint=hint)


def _similar(typed: str, known: Iterable[str]) -> list[str]:
    """The names that begin with what was typed, and those that look like it; three at most."""
    names = {each.lower(): each for each in known}
    begun = [each for each in names if len(typed) > 1 and each.startswith(typed)]
    near = [each for each in get_close_matches(typed, names, n=3, cutoff=0.6) if each not in begun]
    return [names[each] for each in (*begun, *near)][:3]


def _near_foreign(name: str) -> str:
    """How `-m` names the model of another program that begins with this name; empty if there is not exactly one."""
    try:
        found = _foreign(name, [file for file in foreign_files() if file.where != "current folder"])
    except ModelError:
        return ""
    return f"`-m {found.name}`" if found else ""
