"""Find the embedding model that `--find` compares passages with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.errors import ChatError
from chat.models.resolve import resolve

if TYPE_CHECKING:
    from pathlib import Path

    from chat.config.options import Settings

OFF = "off"
# what the names of such models hold, the ones that find most first
NAMES = ("embeddinggemma", "bge-", "mxbai-embed", "nomic-embed", "arctic-embed", "-embedding", "gte-", "e5-", "minilm")


def embedding_model(settings: Settings) -> Path | None:
    """The file that `--embedding-model` names, else one that is here; None if there is none or it is `off`.

    Raises:
        ChatError: the named one is missing, or no embedding model.
    """
    if settings.embedding_model == OFF:
        return None
    if settings.embedding_model is not None:
        path = resolve(settings.embedding_model)
        _check(path)
        return path
    return _found()


def _found() -> Path | None:
    """The first of the models on this machine whose name and content are those of an embedding model."""
    from chat.models.stores import found_files

    files = found_files()
    for mark in NAMES:
        for file in files:
            if mark in file.name.lower() or mark in file.path.name.lower():
                try:
                    _check(file.path)
                except ChatError:
                    continue
                return file.path
    return None


def _check(path: Path) -> None:
    from chat.gguf.reader import read_gguf
    from chat.gguf.validate_embedding import check_embedding_model

    check_embedding_model(read_gguf(path))
