"""What a tokenizer becomes in a GGUF, whichever kind it was. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from chat.gguf.keys import SpacePrefix
from convert.tokenizer.sentencepiece_file import Piece, PieceType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.tokenizer.space_prefix import Prefix

UNUSED_SCORE = -10000.0


@dataclass(frozen=True)
class GgufVocabulary:
    """Pieces by id, and what the chat needs to know of them.

    `prompt_format` is one of Mistral's own, or None where the checkpoint's chat template is of another family and
    must be followed instead, or where the tokenizer is of a version that is not known: `unknown_version` names it then.
    `chat_templates` has the main one under the name `default`. `model_settings` is JSON of the settings that prompts
    tell the model, `system_prompt` the one that the release comes with. `normal_form` is the Unicode normal form that
    text gets before it is encoded, empty for none.
    """

    model: Literal["llama", "gpt2"]  # tokenizer.ggml.model
    pre: str  # tokenizer.ggml.pre
    pieces: tuple[Piece, ...]
    bos: int | None
    eos: int | None
    merges: tuple[str, ...] = ()
    further_ends: tuple[int, ...] = ()  # other ids that end an answer
    add_bos: bool | None = None  # None: as llama.cpp thinks right for the kind
    space_prefix: Prefix = "always"
    normal_form: str = ""
    prompt_format: str | None = None
    unknown_version: str = ""
    model_settings: str = ""
    system_prompt: str = ""
    chat_templates: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()

    @property
    def adds_space(self) -> bool:
        """Whether llama.cpp shall put a space before every text."""
        return self.space_prefix in ("always", SpacePrefix.MISSING)


def unused_piece(token: int) -> Piece:
    """What stands where the model has a row but the tokenizer no piece, as llama.cpp's converter names it."""
    return Piece(f"[PAD{token}]".encode(), UNUSED_SCORE, PieceType.UNUSED)
