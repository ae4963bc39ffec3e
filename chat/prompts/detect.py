"""Detect a model's prompt format from its GGUF metadata; no template is run here, and nothing is guessed.

Where the marks are those of a version that is not known here, or of several, the user has to choose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chat.errors import ModelError
from chat.gguf.keys import GeneralKey, MistralChatKey, TokenizerKey
from chat.prompts.mistral_versions import MISTRAL_VERSIONS
from chat.prompts.registry import FORMATS
from chat.prompts.segments import decoded

if TYPE_CHECKING:
    from collections.abc import Mapping

_SPECIAL_TYPES = {3, 4}  # CONTROL, USER_DEFINED
_INSTRUCT = re.compile(r"\b(instruct|chat|it)\b", re.IGNORECASE)
_BASE = re.compile(r"\bbase\b", re.IGNORECASE)


class UnknownFormatError(ModelError):
    """A model's prompt format is not known, or its marks are those of several."""


@dataclass(frozen=True)
class Detected:
    """A prompt format and the reason for it.

    Attributes:
        name: one of `FORMATS`; `template` for a chat template that has to be run.
        reason: why, as a clause for the user.
        is_named: the file or the user names the format.
    """

    name: str
    reason: str
    is_named: bool = field(default=False, compare=False)


def detect_format(metadata: Mapping[str, Any]) -> Detected:
    """The format a model was trained on.

    Args:
        metadata: a GGUF's keys and values; arrays as sequences, texts as str or UTF-8 bytes.

    Raises:
        UnknownFormatError: it is of a version that is not known here, or may be of several.
    """
    own = _text(metadata, MistralChatKey.PROMPT_FORMAT)
    if own in FORMATS:
        return Detected(own, "the file names it", is_named=True)
    if version := own or _text(metadata, MistralChatKey.TOKENIZER_VERSION):
        raise _unknown(f"the model's prompt format is of version {version}, which is not known here", metadata)
    pieces = _special_pieces(metadata)
    template = _text(metadata, TokenizerKey.CHAT_TEMPLATE)
    if template:
        return _of_template(template, metadata, pieces)
    return _without_template(metadata, pieces)


def _of_template(template: str, metadata: Mapping[str, Any], pieces: frozenset[str]) -> Detected:
    if "[INST]" in template and "<<SYS>>" not in template:
        name = _mistral(template, metadata, pieces)
        if name:
            return Detected(name, f"its chat template and vocabulary are those of {name}")
    return Detected("template", "its chat template is not one of Mistral's")


def _mistral(template: str, metadata: Mapping[str, Any], pieces: frozenset[str]) -> str | None:
    """The Mistral format of a template with `[INST]`, by the control pieces it can use."""
    if "[INST]" not in pieces:
        return "v1" if _is_sentencepiece(metadata) else None
    if _is_sentencepiece(metadata):
        return _sentencepiece_version(pieces)
    if "[MODEL_SETTINGS]" in template:
        return "v15" if "[MODEL_SETTINGS]" in pieces else None
    if "[ARGS]" in template and "[ARGS]" in pieces:
        if "[CALL_ID]" in template:
            return "v11"
        if "[MODEL_SETTINGS]" in pieces:
            reason = "its vocabulary has the pieces of version v15, and its chat template is one of v13"
            raise _unknown(f"the model's prompt format is not certain: {reason}", metadata)
        return "v13"
    return "v7-tekken" if "[SYSTEM_PROMPT]" in template else "v3-tekken"


def _without_template(metadata: Mapping[str, Any], pieces: frozenset[str]) -> Detected:
    name = " ".join(_text(metadata, key) for key in (GeneralKey.NAME, GeneralKey.BASENAME, GeneralKey.FINETUNE))
    words = re.sub(r"[_\-.]", " ", name)
    if "[INST]" in pieces and not _BASE.search(words):
        version = _sentencepiece_version(pieces) if _is_sentencepiece(metadata) else _tekken_version(pieces)
        return Detected(version, f"it has no chat template, but the control pieces of {version}")
    if _INSTRUCT.search(words) and _is_sentencepiece(metadata) and "[INST]" not in pieces:
        return Detected("v1", "it has neither chat template nor control pieces, but its name says instruct")
    return Detected("raw", "it has no chat template")


def _sentencepiece_version(pieces: frozenset[str]) -> str:
    if "[SYSTEM_PROMPT]" in pieces:
        return "v7"
    return "v3" if "[REFERENCE_DOC_0]" in pieces or "[PREFIX]" in pieces else "v2"


def _tekken_version(pieces: frozenset[str]) -> str:
    if "[MODEL_SETTINGS]" in pieces:
        return "v15"
    if "[THINK]" in pieces:
        return "v13"
    if "[ARGS]" in pieces:
        return "v11"
    return "v7-tekken" if "[SYSTEM_PROMPT]" in pieces else "v3-tekken"


def _unknown(message: str, metadata: Mapping[str, Any]) -> UnknownFormatError:
    """The error of a format that is not certain, with what the user can do."""
    newest = list(MISTRAL_VERSIONS)[-1]
    ways = [f"`--prompt-format {newest}` prompts it as the newest version that is known"]
    if _text(metadata, TokenizerKey.CHAT_TEMPLATE):
        ways.insert(0, "`--prompt-format template` follows its chat template")
    return UnknownFormatError(message, hint=", ".join(ways))


def _is_sentencepiece(metadata: Mapping[str, Any]) -> bool:
    return _text(metadata, TokenizerKey.MODEL) in ("llama", "")


def _special_pieces(metadata: Mapping[str, Any]) -> frozenset[str]:
    tokens = metadata.get(TokenizerKey.TOKENS) or ()
    kinds = metadata.get(TokenizerKey.TOKEN_TYPE)
    if kinds is None:
        return frozenset(decoded(token) for token in tokens)
    return frozenset(decoded(token) for token, kind in zip(tokens, kinds, strict=False) if kind in _SPECIAL_TYPES)


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key)
    return decoded(value) if isinstance(value, str | bytes) else ""
