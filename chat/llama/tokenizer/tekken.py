"""Encode text with a Tekken vocabulary by tiktoken.

llama.cpp's own pattern for Tekken lacks `\\p{M}`, and so splits Thai or Hindi elsewhere than mistral-common does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chat.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import tiktoken

# The pattern in every tekken.json so far; a GGUF with another one has it in its metadata
PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LONG_SPACE = re.compile(r"(?<!\s)\s{50000}")


class TekkenEncoder:
    """The text part of a Tekken vocabulary: ids from `first_id` on, in the order of their ranks."""

    def __init__(self, encoding: tiktoken.Encoding, first_id: int) -> None:
        self._encoding = encoding
        self._first_id = first_id

    def encode(self, text: str) -> list[int]:
        """The ids of a text.

        Raises:
            DataError: tiktoken cannot split it.
        """
        if _LONG_SPACE.search(text):
            return self.encode_by_words(text)
        try:
            ranks = self._encoding.encode_ordinary(text)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of pyo3, not a subclass of Exception
                raise
            raise DataError(f"a text of {len(text):,} characters cannot be split into words: {error}") from error
        return [rank + self._first_id for rank in ranks]

    def encode_by_words(self, text: str) -> list[int]:
        """The ids of a text, slower but in bounded memory: tiktoken's splitter fails on a million spaces in a row."""
        import regex  # type: ignore[import-untyped]

        ids: list[int] = []
        for word in regex.finditer(self._encoding._pat_str, text):
            ids += self._encoding._encode_single_piece(word.group())
        return [rank + self._first_id for rank in ids]


def tekken_of(pieces: Sequence[str], first_id: int, pattern: str = PATTERN) -> TekkenEncoder | None:
    """The encoder for the text pieces of a GGUF vocabulary, or None where they are no Tekken vocabulary.

    Args:
        pieces: text pieces by id, in GPT-2's letters for bytes.
        first_id: of the first piece.
        pattern: regular expression that splits text into words.
    """
    import tiktoken

    bytes_of = {ord(letter): byte for byte, letter in enumerate(byte_letters())}
    try:
        spelled = [piece.translate(bytes_of).encode("latin-1") for piece in pieces]
    except UnicodeEncodeError:
        return None
    ranks = {piece: rank for rank, piece in enumerate(spelled)}
    if len(ranks) != len(pieces) or spelled[:256] != [bytes([byte]) for byte in range(256)]:
        return None
    encoding = tiktoken.Encoding("tekken", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return TekkenEncoder(encoding, first_id)


def byte_letters() -> str:
    """GPT-2's letter for each byte, 256 in order: a printable byte is itself, others are letters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(256))
