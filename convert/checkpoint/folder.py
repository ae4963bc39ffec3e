"""Open a checkpoint folder as one source of named tensors, by its index file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chat.errors import ChatError, DataError, ModelError
from convert.checkpoint.json_file import read_json_object
from convert.checkpoint.safetensors_file import open_safetensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from convert.checkpoint.mapped_file import TensorEntry, TensorFile

SHARD_LIMIT = 1000
SHARD = r"-\d+-of-\d+"  # of a file's name; people lose the index, and the names say as much


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: every tensor once, and the file that gives the sizes."""

    folder: Path
    files: tuple[TensorFile, ...]
    tensors: Mapping[str, tuple[TensorFile, TensorEntry]]
    config_path: Path
    config: Mapping[str, Any]
    unlisted: frozenset[str] = frozenset()  # tensors that are in a shard, but not in the index
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        return name_of(self.folder)

    @property
    def nbytes(self) -> int:
        """Size of all weight files."""
        return sum(file.file.size for file in self.files)


@dataclass(frozen=True)
class Layout:
    """One way in which a release names its weight files; `index` is None where the files' names alone tell."""

    index: str | None
    files: re.Pattern[str]
    config: str  # the file of sizes that goes with it, if both are there
    opener: Callable[[Path], TensorFile]


def _open_torch(path: Path) -> TensorFile:
    from convert.checkpoint.torch_file import open_torch

    return open_torch(path)


# In order of preference: both layouts share a folder as a rule, and only one of them must be read. A whole file comes
# before the shards, as in transformers: saving a fine-tune into the release's folder leaves the old shards there.
LAYOUTS = (
    Layout(None, re.compile(r"model\.safetensors"), "config.json", open_safetensors),
    Layout("model.safetensors.index.json", re.compile(r"(?!)"), "config.json", open_safetensors),
    Layout(None, re.compile(r"gptq_model-[\w.-]+\.safetensors"), "config.json", open_safetensors),
    Layout(None, re.compile(rf"model{SHARD}\.safetensors"), "config.json", open_safetensors),
    Layout(None, re.compile(r"consolidated\.safetensors"), "params.json", open_safetensors),
    Layout("consolidated.safetensors.index.json", re.compile(r"(?!)"), "params.json", open_safetensors),
    Layout(None, re.compile(rf"consolidated(\.\d+|{SHARD})\.safetensors"), "params.json", open_safetensors),
    Layout(None, re.compile(r"pytorch_model\.bin"), "config.json", _open_torch),
    Layout("pytorch_model.bin.index.json", re.compile(r"(?!)"), "config.json", _open_torch),
    Layout(None, re.compile(rf"pytorch_model{SHARD}\.bin"), "config.json", _open_torch),
    Layout(None, re.compile(r"consolidated\.\d+\.(pth|pt)"), "params.json", _open_torch),
)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a downloaded checkpoint.

    Raises:
        ModelError: there is no checkpoint.
        DataError: a shard is missing or damaged, or the folder's files contradict each other.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "no such folder"
        raise ModelError(
            f"{folder}: {problem}", hint="name the folder of a checkpoint, a GGUF, or `OWNER/NAME` on the hub"
        )
    names = {path.name for path in folder.iterdir()}
    for layout in LAYOUTS:
        if layout.index in names and layout.index is not None:
            return _open_indexed(folder, layout, names)
        files = sorted(name for name in names if layout.files.fullmatch(name))
        if files:
            opened = _open_files(folder, layout, files, names)
            return replace(opened, warnings=_warn_of_others(folder, files[0], names))
    raise _no_checkpoint(folder, names)


def _warn_of_others(folder: Path, file: str, names: set[str]) -> tuple[str, ...]:
    """Say that a whole file is read, where an index or shards of the same name lie beside it."""
    stem, dot, suffix = file.rpartition(".")
    shards = sorted(name for name in names if re.fullmatch(rf"{re.escape(stem)}{SHARD}{re.escape(dot + suffix)}", name))
    index = f"{file}.index.json"
    if not shards and not (index in names and _names_others(folder / index, file)):
        return ()
    left_out = f"`{shards[0]}`" if shards else f"`{index}`"
    more = f" and {len(shards) - 1} more shards" if shards[1:] else ""
    return (f"{folder}: converts `{file}`, not {left_out}{more} beside it, as transformers would",)


def _names_others(index: Path, file: str) -> bool:
    """Whether an index names another file; one that cannot be read is not used anyway."""
    try:
        weight_map = read_json_object(index).get("weight_map")
    except ChatError:
        return True
    return not isinstance(weight_map, dict) or set(map(str, weight_map.values())) != {file}


def _no_checkpoint(folder: Path, names: set[str]) -> ModelError:
    hint = "its weights are `model*.safetensors`, `pytorch_model*.bin` or `consolidated*` files"
    ready = sorted(name for name in names if name.endswith(".gguf"))
    if ready:
        hint = f"the folder holds a GGUF: name the file itself, `{folder / ready[0]}`"
    return ModelError(f"{folder}: no checkpoint there", hint=hint)


def _open_indexed(folder: Path, layout: Layout, names: set[str]) -> Checkpoint:
    path = folder / str(layout.index)
    weight_map = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise DataError(f"{path}: `weight_map` must name the file of each tensor")
    shards = {_shard_name(path, tensor, shard) for tensor, shard in weight_map.items()}
    if len(shards) > SHARD_LIMIT:
        raise DataError(f"{path}: names {len(shards)} files")
    missing = sorted(shards - names)
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise DataError(
            f"{folder}: the shard `{missing[0][:120]}`{more} is missing",
            hint="download what is missing into the folder",
        )
    files = {shard: layout.opener(inside(folder, shard)) for shard in sorted(shards)}
    tensors = {}
    for tensor, shard in weight_map.items():
        if tensor not in files[shard].tensors:
            raise DataError(f"{files[shard].path}: tensor `{tensor[:120]}` is not in it, though the index says so")
        tensors[tensor] = (files[shard], files[shard].tensors[tensor])
    _check_shards_agree(files, weight_map)
    unlisted = _unlisted(files, weight_map)
    opened = _with_config(folder, layout, tuple(files.values()), tensors | unlisted, names)
    return replace(opened, unlisted=frozenset(unlisted))


def _shard_name(path: Path, tensor: str, shard: Any) -> str:
    """A shard lies beside its index: anything else would let an index name any file of the machine."""
    if not isinstance(shard, str) or not shard or shard in (".", "..") or re.search(r"[/\\\0]", shard):
        raise DataError(
            f"{path}: the file of tensor `{tensor[:120]}` is {str(shard)[:120]!r}, not a name in its folder"
        )
    return shard


def _check_shards_agree(files: Mapping[str, TensorFile], weight_map: Mapping[str, str]) -> None:
    for shard, file in files.items():
        for tensor in file.tensors:
            if weight_map.get(tensor, shard) != shard:
                raise DataError(f"{file.path}: tensor `{tensor}` is also in `{weight_map[tensor]}`")


def _unlisted(
    files: Mapping[str, TensorFile], weight_map: Mapping[str, str]
) -> dict[str, tuple[TensorFile, TensorEntry]]:
    """The tensors of the shards that the index leaves out, which transformers reads too."""
    found: dict[str, tuple[TensorFile, TensorEntry]] = {}
    for file in files.values():
        for tensor, entry in file.tensors.items():
            if tensor in found:
                raise DataError(f"{file.path}: tensor `{tensor}` is also in `{found[tensor][0].path.name}`")
            if tensor not in weight_map:
                found[tensor] = (file, entry)
    return found


def _open_files(folder: Path, layout: Layout, files: list[str], names: set[str]) -> Checkpoint:
    tensors: dict[str, tuple[TensorFile, TensorEntry]] = {}
    opened = tuple(layout.opener(inside(folder, name)) for name in files)
    for file in opened:
        for name, entry in file.tensors.items():
            if name in tensors:
                raise DataError(f"{file.path}: tensor `{name}` is also in `{tensors[name][0].path.name}`")
            tensors[name] = (file, entry)
    return _with_config(folder, layout, opened, tensors, names)


def name_of(folder: Path) -> str:
    """`owner/model` where a folder lies in the hub's cache, else the folder's own name."""
    folder = folder.resolve()
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
    return folder.name or "model"


def inside(folder: Path, name: str) -> Path:
    """The path of a file of the folder; links may lead to other files of the same folder or hub cache only.

    The hub's cache keeps `snapshots/REVISION/NAME` as links to `blobs/HASH` of the same repository, which since hub
    library 2.4 may be links to `blobs/HA/HASH` beside the repositories, shared by all of them.

    Raises:
        DataError: a link leads elsewhere, or to itself.
    """
    path = folder / name
    home = folder.resolve()
    repository = home.parent.parent
    allowed = (repository, repository.parent / "blobs") if home.parent.name == "snapshots" else (home,)
    try:
        target = path.resolve()
        is_loop = target.is_symlink()  # since Python 3.13 it is left unresolved
    except (RuntimeError, OSError) as error:  # the first one is a loop before that
        raise DataError(f"{path}: is a link that leads nowhere") from error
    if is_loop:
        raise DataError(f"{path}: is a link that leads nowhere")
    if not any(target.is_relative_to(place) for place in allowed):
        raise DataError(f"{path}: is a link that leads out of the folder")
    return path


def _with_config(
    folder: Path,
    layout: Layout,
    files: tuple[TensorFile, ...],
    tensors: Mapping[str, tuple[TensorFile, TensorEntry]],
    names: set[str],
) -> Checkpoint:
    other = "params.json" if layout.config == "config.json" else "config.json"
    name = next((name for name in (layout.config, other) if name in names), None)
    if name is None:
        raise DataError(
            f"{folder}: neither `config.json` nor `params.json` is there to say the model's sizes",
            hint="download the release's own into the folder",
        )
    path = inside(folder, name)
    return Checkpoint(folder, files, tensors, path, read_json_object(path))
