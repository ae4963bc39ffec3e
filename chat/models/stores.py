"""Find GGUF files where this program and others keep them: ours, the hub's cache, Ollama, LM Studio, llama.cpp.

Only folders and Ollama's manifests are read here, no model. What cannot be read is passed over, and the depth of
folders and the number of entries are limited: a folder of links, or a whole disk, does not hold up a start.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from chat.errors import FileError
from chat.hub import HubName, cached_gguf_files, quant_of
from chat.models import OLLAMA_PREFIX
from chat.system.paths import models_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Where = Literal["models", "hub cache", "current folder", "Ollama", "LM Studio", "llama.cpp", "elsewhere"]
OWN: tuple[Where, ...] = ("models", "hub cache")  # only these are ever removed
SUFFIX = ".gguf"
NO_MODEL = ("mmproj", ".imatrix.")  # in names of files that go with a model
OLLAMA_SYSTEM_STORE = Path("/usr/share/ollama/.ollama/models")  # of Ollama's service on Linux
MAX_ENTRIES = 5000  # of one store that are looked at
MAX_MANIFEST_BYTES = 1 << 20
_LM_STUDIO_DEPTH = 3  # publisher/repository/file
_MANIFEST_DEPTH = 5  # registry/owner/name/tag; one more where the name has a slash
_LEAST_PARTS = 3
_MODEL_LAYER, _ADAPTER_LAYER = "application/vnd.ollama.image.model", "application/vnd.ollama.image.adapter"
_PROJECTOR_LAYER = "application/vnd.ollama.image.projector"
_DEFAULT_REGISTRY, _DEFAULT_OWNER = "registry.ollama.ai", "library"
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)


@dataclass(frozen=True)
class LocalFile:
    """A GGUF that is here; nothing of it is read yet. `name` is what `-m` takes."""

    name: str
    path: Path
    where: Where
    repository: str = ""  # in the hub's cache
    repository_file: str = ""
    further_parts: tuple[Path, ...] = ()  # of a split model

    @property
    def is_model(self) -> bool:
        """Whether it is a model by its name: picture encoders and importance matrices only go with one."""
        return not any(mark in self.path.name.lower() for mark in NO_MODEL)

    @property
    def is_encoder(self) -> bool:
        """Whether it is a picture encoder, by its name."""
        return NO_MODEL[0] in self.path.name.lower()

    @property
    def size(self) -> int:
        """The bytes of all its parts; 0 for what is gone."""
        return sum(_size(path) for path in (self.path, *self.further_parts))


def pulled_files() -> tuple[LocalFile, ...]:
    """Every GGUF in the models folder, a split model as one."""
    try:
        ours = sorted(path for path in models_folder().glob(f"*{SUFFIX}") if path.is_file())
    except OSError:
        ours = []
    return tuple(_joined(LocalFile(path.stem, path, "models") for path in ours))


def local_files() -> tuple[LocalFile, ...]:
    """Every GGUF in the models folder and in the hub's cache, a split model as one."""
    return (*pulled_files(), *_joined(_cached()))


def found_files() -> tuple[LocalFile, ...]:
    """Every GGUF in all places, ours first, each file once and a split model as one.

    Picture encoders and importance matrices are no models.
    """
    try:
        own = local_files()
    except FileError:  # without a home folder
        own = ()
    seen: set[str] = set()
    unique = []
    for file in (*own, *foreign_files()):
        real = os.path.realpath(file.path)
        if real not in seen and file.is_model:
            seen.add(real)
            unique.append(file)
    return tuple(unique)


def foreign_files() -> tuple[LocalFile, ...]:
    """Every GGUF in the current folder and in the stores of other programs, a split model as one.

    Those of LM Studio and llama.cpp are named after the file, or by the path where several files have that name.
    """
    here = _gguf_files(Path(), depth=1)
    current = [LocalFile(_as_path(path.name), _absolute(path), "current folder") for path in here]
    named = [
        LocalFile(path.stem, path, where)
        for where, folder, depth in _program_folders()
        for path in _gguf_files(folder, depth)
    ]
    counts = Counter(file.name.lower() for file in named)
    named = [file if counts[file.name.lower()] == 1 else replace(file, name=_shown(file.path)) for file in named]
    return (*_joined(current), *ollama_files(), *_joined(named))


def ollama_files() -> tuple[LocalFile, ...]:
    """Ollama's models that are one GGUF, by their manifests; those with an adapter are left out."""
    files: dict[str, LocalFile] = {}
    for store in ollama_stores():
        for manifest in _walk(store / "manifests", _MANIFEST_DEPTH):
            parts = manifest.relative_to(store / "manifests").parts
            blob = _model_blob(manifest, store) if len(parts) >= _LEAST_PARTS else None
            if blob is not None:
                name = OLLAMA_PREFIX + _ollama_name(parts)
                files.setdefault(name, LocalFile(name, blob, "Ollama"))
    return tuple(sorted(files.values(), key=lambda file: file.name))


def ollama_file(name: str) -> LocalFile | None:
    """The model of exactly this name, with `ollama:` and its tag; only its own manifest is read."""
    place, _, tag = name.removeprefix(OLLAMA_PREFIX).rpartition(":")
    owned = (*place.split("/"), tag)
    if not {"", ".", ".."}.isdisjoint(owned):
        return None
    for store in ollama_stores():
        for parts in ((_DEFAULT_REGISTRY, _DEFAULT_OWNER, *owned), (_DEFAULT_REGISTRY, *owned), owned):
            if len(parts) < _LEAST_PARTS or OLLAMA_PREFIX + _ollama_name(parts) != name:
                continue
            if blob := _model_blob(store.joinpath("manifests", *parts), store):
                return LocalFile(name, blob, "Ollama")
    return None


def ollama_projectors(model: Path) -> tuple[Path, ...]:
    """The picture encoders that Ollama's manifests name together with a model's file."""
    store = model.parent.parent
    for manifest in _walk(store / "manifests", _MANIFEST_DEPTH):
        if _model_blob(manifest, store) == model:
            return tuple(blob for digest in _layers(manifest, _PROJECTOR_LAYER) if (blob := _blob(digest, store)))
    return ()


def ollama_stores() -> tuple[Path, ...]:
    """The folders of Ollama's models: OLLAMA_MODELS alone if it is set, else the user's and the service's."""
    if named := os.environ.get("OLLAMA_MODELS"):
        return (Path(named).expanduser(),)
    return (*_in_home(".ollama/models"), OLLAMA_SYSTEM_STORE)


def _program_folders() -> Iterator[tuple[Where, Path, int]]:
    for folder in (".lmstudio/models", ".cache/lm-studio/models"):
        yield from (("LM Studio", path, _LM_STUDIO_DEPTH) for path in _in_home(folder))
    if cache := os.environ.get("LLAMA_CACHE"):
        yield "llama.cpp", Path(cache), 1
    elif caches := os.environ.get("XDG_CACHE_HOME"):
        yield "llama.cpp", Path(caches) / "llama.cpp", 1
    else:
        folder = "Library/Caches/llama.cpp" if sys.platform == "darwin" else ".cache/llama.cpp"
        yield from (("llama.cpp", path, 1) for path in _in_home(folder))


def _in_home(folder: str) -> tuple[Path, ...]:
    try:
        return (Path.home() / folder,)
    except RuntimeError:  # a user without a home folder
        return ()


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """The regular files below a folder, each folder's by name.

    Args:
        depth: how many folders deep; below them and after `MAX_ENTRIES` entries nothing more is read.
    """
    waiting = [(folder, depth)]
    left = MAX_ENTRIES
    while waiting and left > 0:
        current, levels = waiting.pop()
        try:
            with os.scandir(current) as entries:
                found = sorted(islice(entries, left), key=lambda entry: entry.name)
        except OSError:
            continue
        left -= len(found)
        for entry in found:
            if _holds(entry.is_dir):
                if levels > 1:
                    waiting.append((Path(entry.path), levels - 1))
            elif _holds(entry.is_file):
                yield Path(entry.path)


def _holds(test: Callable[[], bool]) -> bool:
    """The result of a test of an entry; False where the entry cannot be read."""
    try:
        return test()
    except OSError:
        return False


def _gguf_files(folder: Path, depth: int) -> list[Path]:
    return sorted(path for path in _walk(folder, depth) if path.suffix.lower() == SUFFIX)


def _model_blob(manifest: Path, store: Path) -> Path | None:
    """The GGUF of a manifest; None where there is none, or where it is not the whole model."""
    models = _layers(manifest, _MODEL_LAYER)
    return _blob(models[0], store) if models and not _layers(manifest, _ADAPTER_LAYER) else None


def _layers(manifest: Path, kind: str) -> list[str]:
    """The digests of the layers of one kind; none where the manifest cannot be read."""
    try:
        if manifest.stat().st_size > MAX_MANIFEST_BYTES:
            return []
        layers = json.loads(manifest.read_bytes())["layers"]
        return [str(layer["digest"]) for layer in layers if layer["mediaType"] == kind]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return []


def _blob(text: str, store: Path) -> Path | None:
    """The file of a digest, if it is there."""
    digest = _DIGEST.fullmatch(text)
    if digest is None:
        return None
    paths = [store / "blobs" / f"sha256{mark}{digest[1]}" for mark in "-:"]
    return next((path for path in paths if _size(path)), None)


def _ollama_name(parts: Sequence[str]) -> str:
    """The name of a model as Ollama prints it, from the parts of its manifest's path."""
    *place, tag = parts
    if place[0] == _DEFAULT_REGISTRY:
        place = place[2:] if place[1] == _DEFAULT_OWNER else place[1:]
    return f"{'/'.join(place)}:{tag}"


def _cached() -> Sequence[LocalFile]:
    found = list(cached_gguf_files())
    quants = [(repository, quant_of(name)) for repository, name, _ in found]
    files = []
    for (repository, name, path), (_, quant) in zip(found, quants, strict=True):
        is_unique = quant and quants.count((repository, quant)) == 1
        called = HubName(repository.repository, None, quant if is_unique else name)
        files.append(LocalFile(str(called), path, "hub cache", repository.repository, name))
    return files


def _joined(files: Iterable[LocalFile]) -> list[LocalFile]:
    """The files, of a split model the first one with the paths of the others; parts without a first are left out."""
    parts: dict[tuple[str, Path, str, str], dict[int, LocalFile]] = {}
    whole = []
    for file in files:
        found = _PART.fullmatch(file.path.name)
        if found is None:
            whole.append(file)
            continue
        name = Path(file.repository_file) if file.repository else file.path  # the parts may lie in several snapshots
        group = parts.setdefault((file.repository, name.parent, found[1], found[3]), {})
        group[int(found[2])] = file
        if int(found[2]) == 1:
            whole.append(file)
    further = {
        group[1]: tuple(group[number].path for number in sorted(group) if number > 1)
        for group in parts.values()
        if 1 in group
    }
    return [replace(file, further_parts=further.get(file, ())) for file in whole]


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError:  # the current folder was removed
        return path


def _as_path(name: str) -> str:
    """A file's name that is no option and no home folder."""
    return f"./{name}" if name.startswith(("-", "~")) else name


def _shown(path: Path) -> str:
    """A path with `~` for the home folder."""
    for home in _in_home(""):
        if path.is_relative_to(home):
            return f"~/{path.relative_to(home)}"
    return str(path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
