"""Refuse vocabularies that make llama.cpp abort, or throw in the middle of a text."""

from __future__ import annotations

from collections import Counter
from math import isnan
from typing import TYPE_CHECKING

from chat.gguf.cursor import shown
from chat.gguf.keys import MistralChatKey, TokenizerKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.gguf.reader import GgufFile

NONE = ("none", "no_vocab")
TOKENIZERS = ("llama", "gpt2", "bert", "t5", "rwkv", "plamo2", "gemma4", "hybriddna", "whitespace")
MERGED = ("gpt2", "gemma4", "hybriddna", "whitespace")  # byte-pair encoders
BYTE = 6  # the token type of `<0x0A>`
LAST_TYPE = 6

KEYS: dict[str, tuple[str, ...]] = {
    TokenizerKey.MODEL: ("str",),
    TokenizerKey.PRE: ("str",),
    TokenizerKey.TOKENS: ("[str]",),
    TokenizerKey.SCORES: ("[f32]", "[i32]"),
    TokenizerKey.TOKEN_TYPE: ("[i32]",),
    TokenizerKey.TOKEN_TYPE_COUNT: ("u32",),
    TokenizerKey.MERGES: ("[str]",),
    TokenizerKey.SUPPRESS_TOKENS: ("[i32]",),
    TokenizerKey.PRECOMPILED_CHARSMAP: ("[u8]", "[i8]"),
    TokenizerKey.ADD_BOS: ("bool",),
    TokenizerKey.ADD_EOS: ("bool",),
    TokenizerKey.ADD_SEP: ("bool",),
    TokenizerKey.ADD_SPACE_PREFIX: ("bool",),
    TokenizerKey.REMOVE_EXTRA_WHITESPACES: ("bool",),
    TokenizerKey.NORMALIZER_LOWERCASE: ("bool",),
    TokenizerKey.NORMALIZER_STRIP_ACCENTS: ("bool",),
    MistralChatKey.END_IDS: ("[u32]",),
}


def check_vocabulary(file: GgufFile, *, strict: bool) -> None:
    """Refuse a vocabulary that llama.cpp cannot load.

    Args:
        file: The model.
        strict: The vocabulary must also be able to encode every text.

    Raises:
        DataError: a rule is broken.
    """
    _check_types(file)
    model = file.metadata.get(TokenizerKey.MODEL)
    if model is None:
        raise file.fault(f"key '{TokenizerKey.MODEL}' is missing")
    if model in NONE and not strict:
        return
    allowed = TOKENIZERS[:2] if strict else TOKENIZERS
    if model not in allowed:
        raise file.fault(f"key '{TokenizerKey.MODEL}' is {shown(model)}, but must be one of {', '.join(allowed)}")
    pieces = file.metadata.get(TokenizerKey.TOKENS)
    if not pieces:
        raise file.fault(f"key '{TokenizerKey.TOKENS}' is missing or empty")
    if (
        model in MERGED
        and TokenizerKey.MERGES not in file.metadata
        and file.metadata.get(TokenizerKey.PRE) != "kimi-k2"
    ):
        raise file.fault(f"key '{TokenizerKey.MERGES}' is missing, which a {model} tokenizer needs")
    for key in (TokenizerKey.SCORES, TokenizerKey.TOKEN_TYPE):
        count = len(file.metadata.get(key, pieces))
        if count < len(pieces):
            raise file.fault(f"key '{key}' has {count} items for {len(pieces)} pieces")
    _check_distinct(file, pieces)
    if strict:
        check_encoding(file)


def check_encoding(file: GgufFile) -> None:
    """Refuse a vocabulary that cannot encode every text.

    Args:
        file: The model, of whose pieces each is there once.

    Raises:
        DataError: a rule is broken.
    """
    pieces = file.metadata[TokenizerKey.TOKENS]
    _check_numbers(file, len(pieces))
    if file.metadata[TokenizerKey.MODEL] == "llama":
        _check_bytes(file, pieces)


def _check_types(file: GgufFile) -> None:
    for name, kind in file.types.items():
        if name.startswith(TokenizerKey.PREFIX) or name in KEYS:
            kinds = ("u32",) if name.endswith(TokenizerKey.ID_SUFFIX) else KEYS.get(name, (kind,))
            if kind not in kinds:
                raise file.fault(f"key {shown(name)} is {kind}, but must be {' or '.join(kinds)}")


def _check_distinct(file: GgufFile, pieces: Sequence[str]) -> None:
    """Refuse a piece that is there twice: llama.cpp compares the sizes of two tables. It reads pieces as C strings."""
    texts: Sequence[str] = list(pieces)
    if "" in texts or "\0" in "".join(texts):
        texts = [text.partition("\0")[0] or f"[EMPTY_{number}]" for number, text in enumerate(texts)]
    if len(set(texts)) < len(texts):
        twice = next(text for text, count in Counter(texts).items() if count > 1)
        places = [number for number, text in enumerate(texts) if text == twice][:2]
        raise file.fault(f"the vocabulary holds the piece {shown(twice)} twice, as {places[0]} and {places[1]}")


def _check_numbers(file: GgufFile, count: int) -> None:
    for key in (TokenizerKey.BOS_ID, TokenizerKey.EOS_ID, TokenizerKey.UNKNOWN_ID):
        number = file.metadata.get(key, 0)
        if number >= count:
            raise file.fault(f"key '{key}' is {number}, but the vocabulary has {count} pieces")
    last = max(file.metadata.get(MistralChatKey.END_IDS, ()), default=0)
    if last >= count:
        raise file.fault(f"key '{MistralChatKey.END_IDS}' holds {last}, but the vocabulary has {count} pieces")
    types = file.metadata.get(TokenizerKey.TOKEN_TYPE, (0,))
    if not 0 <= min(types) <= max(types) <= LAST_TYPE:
        raise file.fault(
            f"key '{TokenizerKey.TOKEN_TYPE}' holds {min(types)} to {max(types)}, but types are 0 to {LAST_TYPE}"
        )
    if any(map(isnan, file.metadata.get(TokenizerKey.SCORES, ()))):
        raise file.fault(f"key '{TokenizerKey.SCORES}' holds a NaN, by which no order can be made")


def _check_bytes(file: GgufFile, pieces: Sequence[str]) -> None:
    """Require a piece for every byte: without one, llama.cpp throws at the first text that needs it."""
    known = set(pieces)
    for byte in range(256):
        if f"<0x{byte:02X}>" not in known and (byte > 127 or chr(byte) not in known):
            raise file.fault(f"the vocabulary has no piece for the byte <0x{byte:02X}>")
    for number, kind in enumerate(file.metadata.get(TokenizerKey.TOKEN_TYPE, ())):
        if kind == BYTE and number < len(pieces) and not _names_byte(pieces[number]):
            raise file.fault(f"piece {number}, {shown(pieces[number])}, is of the type of bytes but is not like <0x0A>")


def _names_byte(piece: str) -> bool:
    if len(piece) != 6 or not (piece.startswith("<0x") and piece.endswith(">")):
        return False
    return all(digit in "0123456789ABCDEFabcdef" for digit in piece[3:5])
