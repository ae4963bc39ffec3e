"""What a tokenizer becomes in a GGUF, whichever kind it was. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from convert.tokenizer.sentencepiece_file import Piece, PieceType

if TYPE_CHECKING:
    from collections.abc import Mapping

UNUSED_SCORE = -10000.0


@dataclass(frozen=True)
class GgufVocabulary:
    """Pieces by id, and what the chat needs to know of them.

    `prompt_format` is one of Mistral's own, or None where the checkpoint's chat template is of another family and
    must be followed instead. `chat_templates` has the main one under the name `default`.
    """

    model: Literal["llama", "gpt2"]  # tokenizer.ggml.model
    pre: str  # tokenizer.ggml.pre
    pieces: tuple[Piece, ...]
    bos: int
    eos: int
    merges: tuple[str, ...] = ()
    eot: int | None = None  # a second end token
    add_bos: bool | None = None  # None: as llama.cpp thinks right for the kind
    adds_space: bool = True
    prompt_format: str | None = None
    chat_templates: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()


def unused_piece(token: int) -> Piece:
    """What stands where the model has a row but the tokenizer no piece, as llama.cpp's converter names it."""
    return Piece(f"[PAD{token}]".encode(), UNUSED_SCORE, PieceType.UNUSED)
