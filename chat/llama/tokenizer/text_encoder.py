"""Encode plain text with a loaded vocabulary, so that it never becomes a control id."""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chat.errors import DataError, ModelError
from chat.gguf.keys import MistralChatKey, SpacePrefix, TokenizerKey
from chat.llama.tokenizer.vocabulary import BYTE_LETTERS, MATCHED, Vocabulary, checked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import tiktoken

_PREFIXES = (SpacePrefix.FIRST, SpacePrefix.MISSING, SpacePrefix.NEVER)
_SPACES = (" ", "\u2581")
_NORMAL_TYPE = 1  # tokenizer.ggml.token_type
_GUARDS = "\x01☺\x02\x03"  # candidates for a character that no piece joins to others
# Characters of a part. llama.cpp needs a hundred bytes for each character of a text; and where bytes have no piece, it
# lengthens its list of ids byte by byte: a megabyte of line breaks takes minutes as one text, a second in parts
_LONG_TEXT = 4096
# The pattern in every tekken.json so far; a GGUF with another one has it in its metadata
PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LONG_SPACE = re.compile(r"(?<!\s)\s{50000}")


class TextEncoder:
    """Encodes one text at a time, as mistral-common does."""

    def __init__(self, pieces: Vocabulary, metadata: Mapping[str, Any]) -> None:
        self._pieces = pieces
        self._metadata = metadata

    def encode(self, text: str, *, is_own: bool = True, is_first: bool = True) -> list[int]:
        """The ids of one text, with the space that the vocabulary wants before it.

        Args:
            text: a text between control pieces, or the whole.
            is_own: it is encoded as a text of its own, as SentencePiece does.
            is_first: it begins the prompt; BOS may stand before it.

        Raises:
            DataError: text that has no UTF-8.
        """
        if self._metadata.get(MistralChatKey.NORMAL_FORM) == "NFC":
            text = unicodedata.normalize("NFC", text)
        if self._prefix == SpacePrefix.MISSING:
            return self._encode_between(text, is_own)
        leads = self._leads(text, is_own, is_first)
        if not (self._pieces.is_sentencepiece and MATCHED.search(text)):
            return self._encode_unmatched(text, leads)
        ids: list[int] = []
        position = 0
        for match in MATCHED.finditer(text):
            found = self._pieces.id_of.get(match.group())
            if found is not None:
                before = text[position : match.start()]
                begins = leads and not position
                ids += self._encode_unmatched(before, begins) if before or not begins else self._space
                ids.append(found)
                position = match.end()
        return ids + self._encode_unmatched(text[position:], leads and not position)

    def fewest_tokens(self, text: str) -> int:
        """At least how many tokens a text has, without encoding it; 0 where the vocabulary does not tell.

        NFC makes at most three bytes one.
        """
        fewest = self._pieces.fewest_tokens(text)
        return fewest // 3 if self._metadata.get(MistralChatKey.NORMAL_FORM) == "NFC" else fewest

    @cached_property
    def adds_space(self) -> bool:
        """Whether a text of its own gets a space before it."""
        return self._pieces.is_sentencepiece and bool(self._prefix or self._guard[1])

    @cached_property
    def _prefix(self) -> str:
        """The vocabulary's `SpacePrefix`; empty where llama.cpp alone decides on spaces."""
        found = self._metadata.get(MistralChatKey.SPACE_PREFIX)
        return str(found) if found in _PREFIXES and self._pieces.is_sentencepiece else ""

    @cached_property
    def _space(self) -> list[int]:
        """The ids of the space before a text that has nothing else."""
        return self._guard[1] or (self._pieces.tokenize(" ") if self._prefix else [])

    def _leads(self, text: str, is_own: bool, is_first: bool) -> bool:
        """Whether a text gets a space before it, if the vocabulary puts spaces before texts."""
        if is_own or not self._prefix:
            return True
        if self._prefix == SpacePrefix.NEVER or text.startswith(_SPACES):
            return False
        return is_first and not self._pieces.matched_in_text.match(text)

    def _encode_between(self, text: str, is_own: bool) -> list[int]:
        """The ids of a text whose parts between user-defined pieces each get a space, unless they begin with one."""
        ids: list[int] = []
        position = 0
        for match in self._pieces.matched_in_text.finditer(text):
            part = text[position : match.start()]
            ids += self._encode_unmatched(part, (is_own and not position) or not part.startswith(_SPACES))
            ids.append(self._pieces.special[match.group()])
            position = match.end()
        rest = text[position:]
        return ids + self._encode_unmatched(rest, (is_own and not position) or not rest.startswith(_SPACES))

    def _encode_unmatched(self, text: str, leads: bool) -> list[int]:
        """The ids of text without pieces that mistral-common matches; `leads` where it is the start of the whole."""
        ids = self._encode_part(text, leads)
        if self._pieces.forbidden.isdisjoint(ids):
            return ids
        parts = _cut(text, self._pieces.forbidden_names)
        return [token for index, part in enumerate(parts) for token in self._encode_part(part, leads and not index)]

    def _encode_part(self, text: str, leads: bool) -> list[int]:
        if self._tekken is not None:
            return self._tekken.encode(checked(text))
        if len(text) <= _LONG_TEXT or not (self._pieces.is_sentencepiece or self._pieces.is_byte_level):
            return self._tokenize(text, leads)
        ids: list[int] = []
        for index, part in enumerate(self._split(text)):
            ids += self._tokenize(part, leads and not index)
        return ids

    def _split(self, text: str) -> Iterator[str]:
        """The text in parts of about `_LONG_TEXT` characters, or longer where it cannot be cut.

        Pieces are merged from neighbours, so the ids before and after two characters that no piece has together are
        independent of each other.
        """
        position, at = 0, _LONG_TEXT
        while match := self._cuts.search(text, at):
            at = end = match.end()
            if 0 < end < len(text) and self._pair(text, end) not in self._pairs:
                yield text[position:end]
                position, at = end, end + _LONG_TEXT
            elif match.start() == end:
                at += 1
        yield text[position:]

    @cached_property
    def _cuts(self) -> re.Pattern[str]:
        """Ends where a text may be cut, if no piece has the two characters there together.

        Byte-level vocabularies split a text into words first, by a pattern: none of them looks beyond one white space
        between two letters, and none treats the second word otherwise at the start of a text.
        """
        if not self._pieces.is_sentencepiece:
            return re.compile(r"(?<=[^\W\d_])(?=[ \n\t][^\W\d_])")
        return re.compile(rf"{self._unjoined.pattern}|(?<=\S)(?=\s)")

    @cached_property
    def _pairs(self) -> frozenset[str]:
        """Neighbours within a piece: characters, or letters for bytes."""
        return frozenset(name[at : at + 2] for name in self._pieces.names for at in range(len(name) - 1))

    def _pair(self, text: str, end: int) -> str:
        """The neighbours at a place of the text, as pieces have them."""
        pair = text[end - 1 : end + 1]
        if self._pieces.is_sentencepiece:
            return pair.replace(" ", "\u2581")
        left, right = (character.encode() for character in pair)
        return BYTE_LETTERS[left[-1]] + BYTE_LETTERS[right[0]]

    def _tokenize(self, text: str, leads: bool) -> list[int]:
        """llama.cpp's ids of a text, without the space before it unless it `leads`."""
        if not text or not self._pieces.is_sentencepiece:
            return self._pieces.tokenize(text) if text else []
        if self._prefix and self._prefix != SpacePrefix.MISSING:  # llama.cpp adds none
            return self._pieces.tokenize(f" {text}" if leads else text)
        if leads:
            return self._pieces.tokenize(text)
        guard, before, width = self._guard
        return self._pieces.tokenize(guard + text)[len(before) + width :]

    @cached_property
    def _tekken(self) -> TekkenEncoder | None:
        if self._metadata.get(TokenizerKey.PRE) != "tekken":
            return None
        kinds, names = self._pieces.kinds, self._pieces.names
        ordinary = [token for token, kind in enumerate(kinds) if kind == _NORMAL_TYPE]
        if not ordinary or ordinary[-1] - ordinary[0] != len(ordinary) - 1:
            return None
        pattern = self._metadata.get(MistralChatKey.TEKKEN_PATTERN)
        texts = names[ordinary[0] : ordinary[-1] + 1]
        return tekken_of(texts, ordinary[0], pattern if isinstance(pattern, str) else PATTERN)

    @cached_property
    def _joined(self) -> frozenset[str]:
        """Characters that some piece joins to others; a text can be split beside all other characters."""
        return frozenset("".join(name for name in self._pieces.names if len(name) > 1)) | {" "}

    @cached_property
    def _unjoined(self) -> re.Pattern[str]:
        return re.compile(f"[^{re.escape(''.join(sorted(self._joined)))}]")

    @cached_property
    def _guard(self) -> tuple[str, list[int], int]:
        """A character to write before text that does not lead: (it, the ids before it, how many ids it has)."""
        for guard in _GUARDS:
            if guard not in self._joined:
                once, twice = self._pieces.tokenize(guard), self._pieces.tokenize(guard + guard)
                width = len(twice) - len(once)
                return guard, once[: len(once) - width], width
        raise ModelError("the model's vocabulary joins every character to others, so that no text can be split")


def _cut(text: str, names: re.Pattern[str]) -> list[str]:
    """The text in parts, none of which contains a whole name."""
    parts: list[str] = []
    position = 0
    match = names.search(text)
    while match:
        parts.append(text[position : match.start() + 1])
        position = match.start() + 1
        match = names.search(text, position)
    return [*parts, text[position:]]


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

    bytes_of = {ord(letter): byte for byte, letter in enumerate(BYTE_LETTERS)}
    try:
        spelled = [piece.translate(bytes_of).encode("latin-1") for piece in pieces]
    except UnicodeEncodeError:
        return None
    ranks = {piece: rank for rank, piece in enumerate(spelled)}
    if len(ranks) != len(pieces) or spelled[:256] != [bytes([byte]) for byte in range(256)]:
        return None
    encoding = tiktoken.Encoding("tekken", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return TekkenEncoder(encoding, first_id)
