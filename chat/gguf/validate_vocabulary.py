"""Refuse vocabularies that llama.cpp asserts on, or that make it throw in the middle of a text. Knows no model."""

from __future__ import annotations

from collections import Counter
from math import isnan
from typing import TYPE_CHECKING

from chat.gguf.cursor import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.gguf.reader import GgufFile

PREFIX = "tokenizer.ggml."
NONE = ("none", "no_vocab")
TOKENIZERS = ("llama", "gpt2", "bert", "t5", "rwkv", "plamo2", "gemma4", "hybriddna", "whitespace")
MERGED = ("gpt2", "gemma4", "hybriddna", "whitespace")  # byte-pair encoders
BYTE = 6  # the token type of `<0x0A>`
LAST_TYPE = 6

# below `tokenizer.ggml.`; further ids end in `_token_id`
KEYS: dict[str, tuple[str, ...]] = {
    "model": ("str",),
    "pre": ("str",),
    "tokens": ("[str]",),
    "scores": ("[f32]", "[i32]"),
    "token_type": ("[i32]",),
    "token_type_count": ("u32",),
    "merges": ("[str]",),
    "suppress_tokens": ("[i32]",),
    "precompiled_charsmap": ("[u8]", "[i8]"),
    "add_bos_token": ("bool",),
    "add_eos_token": ("bool",),
    "add_sep_token": ("bool",),
    "add_space_prefix": ("bool",),
    "remove_extra_whitespaces": ("bool",),
    "normalizer.lowercase": ("bool",),
    "normalizer.strip_accents": ("bool",),
}


def check_vocabulary(file: GgufFile, *, strict: bool) -> None:
    """Refuse a vocabulary that llama.cpp cannot hold.

    Args:
        strict: the model is one that we run for certain, so the vocabulary must also be able to write every text.

    Raises:
        DataError: a rule is broken.
    """
    _check_types(file)
    model = file.metadata.get(PREFIX + "model")
    if model is None:
        raise file.fault(f"key '{PREFIX}model' is missing")
    if model in NONE and not strict:
        return
    allowed = TOKENIZERS[:2] if strict else TOKENIZERS
    if model not in allowed:
        raise file.fault(f"key '{PREFIX}model' is {shown(model)}, but must be one of {', '.join(allowed)}")
    pieces = file.metadata.get(PREFIX + "tokens")
    if not pieces:
        raise file.fault(f"key '{PREFIX}tokens' is missing or empty")
    if model in MERGED and PREFIX + "merges" not in file.metadata and file.metadata.get(PREFIX + "pre") != "kimi-k2":
        raise file.fault(f"key '{PREFIX}merges' is missing, which a {model} tokenizer needs")
    for key in ("scores", "token_type"):
        count = len(file.metadata.get(PREFIX + key, pieces))
        if count < len(pieces):
            raise file.fault(f"key '{PREFIX}{key}' has {count} items for {len(pieces)} pieces")
    _check_distinct(file, pieces)
    if strict:
        _check_numbers(file, len(pieces))
    if strict and model == "llama":
        _check_bytes(file, pieces)


def _check_types(file: GgufFile) -> None:
    for name, kind in file.types.items():
        if name.startswith(PREFIX):
            key = name.removeprefix(PREFIX)
            kinds = ("u32",) if key.endswith("_token_id") else KEYS.get(key, (kind,))
            if kind not in kinds:
                raise file.fault(f"key {shown(name)} is {kind}, but must be {' or '.join(kinds)}")


def _check_distinct(file: GgufFile, pieces: Sequence[str]) -> None:
    """No piece twice: llama.cpp counts its two tables against each other and aborts. It reads pieces as C strings."""
    texts: Sequence[str] = list(pieces)
    if "" in texts or "\0" in "".join(texts):
        texts = [text.partition("\0")[0] or f"[EMPTY_{number}]" for number, text in enumerate(texts)]
    if len(set(texts)) < len(texts):
        twice = next(text for text, count in Counter(texts).items() if count > 1)
        places = [number for number, text in enumerate(texts) if text == twice][:2]
        raise file.fault(f"the vocabulary holds the piece {shown(twice)} twice, as {places[0]} and {places[1]}")


def _check_numbers(file: GgufFile, count: int) -> None:
    for key in ("bos_token_id", "eos_token_id", "unknown_token_id"):
        number = file.metadata.get(PREFIX + key, 0)
        if number >= count:
            raise file.fault(f"key '{PREFIX}{key}' is {number}, but the vocabulary has {count} pieces")
    types = file.metadata.get(PREFIX + "token_type", (0,))
    if not 0 <= min(types) <= max(types) <= LAST_TYPE:
        raise file.fault(f"key '{PREFIX}token_type' holds {min(types)} to {max(types)}, but types are 0 to {LAST_TYPE}")
    if any(map(isnan, file.metadata.get(PREFIX + "scores", ()))):
        raise file.fault(f"key '{PREFIX}scores' holds a NaN, by which no order can be made")


def _check_bytes(file: GgufFile, pieces: Sequence[str]) -> None:
    """A piece for every byte: without one llama.cpp throws through its C interface at the first text that needs it."""
    known = set(pieces)
    for byte in range(256):
        if f"<0x{byte:02X}>" not in known and (byte > 127 or chr(byte) not in known):
            raise file.fault(f"the vocabulary has no piece for the byte <0x{byte:02X}>")
    for number, kind in enumerate(file.metadata.get(PREFIX + "token_type", ())):
        if kind == BYTE and number < len(pieces) and not _names_byte(pieces[number]):
            raise file.fault(f"piece {number}, {shown(pieces[number])}, is of the type of bytes but is not like <0x0A>")


def _names_byte(piece: str) -> bool:
    if len(piece) != 6 or not (piece.startswith("<0x") and piece.endswith(">")):
        return False
    return all(digit in "0123456789ABCDEFabcdef" for digit in piece[3:5])
