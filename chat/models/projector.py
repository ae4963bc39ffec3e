"""Find the picture encoder (an `mmproj` GGUF) that belongs to a model's file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chat.errors import ChatError
from chat.gguf.keys import MistralChatKey, TokenizerKey
from chat.gguf.reader import read_gguf
from chat.gguf.validate_pictures import check_fits, check_picture_encoder
from chat.prompts.segments import PICTURE
from chat.system.environment import notify
from chat.system.network import require_network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chat.gguf.reader import GgufFile

MARK = "mmproj"  # in the names of picture encoders
SHORTEST_NAME = 4  # letters and digits of a model's name, to be one
MOST_FILES = 5000  # of a folder that are looked at
_GENERIC = re.compile(r"(?:^|[-_.])(?:mmproj|model|gguf|ggml|f16|bf16|f32|fp16|fp32|q8_0)(?=$|[-_.])", re.IGNORECASE)


def find_projector(model: Path) -> Path | None:
    """The picture encoder beside a model, in its repository, or in Ollama's manifest of it; None where none fits.

    One with the hash that the model's file notes is taken first; then one named after the model; then one that is named
    after no model. One whose embeddings have another size is never taken.

    Args:
        model: its file.
    """
    found = [path for path in _beside(model) if path != model]
    if not found and "snapshots" in model.parts:
        found = _in_repository(model)
    if not found and model.parent.name == "blobs":
        from chat.models.stores import ollama_projectors

        found = list(ollama_projectors(model))
    if not found:
        return None
    try:
        header = read_gguf(model)
    except ChatError:
        return None  # the engine says why
    fitting = [(path, file) for path in found if (file := _fitting(path, header)) is not None]
    noted = header.metadata.get(MistralChatKey.MMPROJ_SHA256)
    same = [path for path, file in fitting if noted and file.metadata.get(MistralChatKey.MMPROJ_SHA256) == noted]
    others = [path for path, file in fitting if MistralChatKey.MMPROJ_SHA256 not in file.metadata or not noted]
    stem = _plain(model.name)
    named = [path for path in others if len(name := _plain(path.name)) >= SHORTEST_NAME and name in stem]
    generic = [path for path in others if not _plain(path.name)]
    is_alone = len(fitting) == 1 and len(_models_beside(model)) <= 1
    for group in (same, named, generic, others if is_alone else []):
        if group:
            return min(group, key=_preference)
    return None


def fetch_projector(model: Path, say: Callable[[str], None] = notify) -> Path | None:
    """Download the picture encoder of a model in the hub's cache that was downloaded without it.

    The hub is asked only for a model whose vocabulary has pictures, and that is in the hub's cache.

    Args:
        model: its file.
        say: gets sentences for the user.

    Returns:
        None where the model is of another place, or its repository has none.

    Raises:
        ChatError: offline, no network, no room on the disk; see `chat.hub.pull_files`.
    """
    from chat.hub import place_in_cache, pull_projector

    place = place_in_cache(model)
    if place is None or not _knows_pictures(model):
        return None
    require_network(f"asking the hub whether {place.repository.repository} has a picture encoder")
    return pull_projector(model, say=say)


def _knows_pictures(model: Path) -> bool:
    try:
        return PICTURE.piece in read_gguf(model).metadata.get(TokenizerKey.TOKENS, ())
    except ChatError:
        return False  # the engine says why


def _beside(model: Path) -> list[Path]:
    return [path for path in _gguf_files(model) if MARK in path.name.lower()]


def _in_repository(model: Path) -> list[Path]:
    """The picture encoders in other folders and commits of a model's repository, which is in the hub's cache."""
    from chat.hub import place_in_cache

    place = place_in_cache(model)
    return [path for path in place.repository.gguf_files().values() if MARK in path.name.lower()] if place else []


def _models_beside(model: Path) -> list[Path]:
    return [path for path in _gguf_files(model) if MARK not in path.name.lower()]


def _gguf_files(model: Path) -> list[Path]:
    try:
        names = [path for path, _ in zip(model.parent.iterdir(), range(MOST_FILES), strict=False)]
    except OSError:
        return []
    return sorted(path for path in names if path.suffix.lower() == ".gguf")


def _fitting(path: Path, model: GgufFile) -> GgufFile | None:
    """The header of a picture encoder that the model can use; None for any other file."""
    try:
        file = read_gguf(path)
        check_picture_encoder(file)
        check_fits(file, model)
    except ChatError:
        return None
    return file


def _plain(name: str) -> str:
    """The part of a file's name that names the model, in small letters and digits; empty where none does."""
    stem = name.removesuffix(".gguf")
    while (shorter := _GENERIC.sub("", stem)) != stem:
        stem = shorter
    return "".join(re.findall(r"[a-z0-9]+", stem.lower()))


def _preference(path: Path) -> tuple[int, str]:
    from chat.hub import PROJECTOR_TYPES, quant_of  # the hub's modules take a moment

    quant = quant_of(path.name)
    return (PROJECTOR_TYPES.index(quant) if quant in PROJECTOR_TYPES else len(PROJECTOR_TYPES), path.name)
