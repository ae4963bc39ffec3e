"""Look up the pieces of a loaded vocabulary: their names, kinds and bytes."""

from __future__ import annotations

import ctypes
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from chat.gguf.keys import MistralChatKey, TokenizerKey
from chat.llama.library import llama
from chat.prompts.segments import ChatTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_UNKNOWN, _CONTROL, _USER_DEFINED = 1 << 0, 1 << 3, 1 << 4  # llama_token_attr
_LSTRIP, _RSTRIP = 1 << 7, 1 << 8
_SPECIAL = _UNKNOWN | _CONTROL | _USER_DEFINED
_NORMAL_TYPE = 1  # tokenizer.ggml.token_type
_SENTENCEPIECE, _BYTE_LEVEL = 1, 2  # LLAMA_VOCAB_TYPE_SPM and _BPE
_LONGEST_TEXT = 2**31 - 32  # bytes; llama.cpp counts in int32
# Pieces that mistral-common itself matches in text, in SentencePiece files of v3 and v7
MATCHED = re.compile(r"\[REFERENCE_DOC_1?[0-9]\]|\[/?REF\]")
# User-defined pieces that structure a conversation; others (runs of spaces, HTML tags) are ordinary text
_STRUCTURE = re.compile(r"<\|.*\|>|<｜.*｜>|\[/?[A-Z][A-Z_0-9]*\]|</?s>|<(?:unk|pad|bos|eos)>|<(?:start|end)_of_.*>")
_MARKER = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")


def _byte_letters() -> str:
    """GPT-2's letter for each byte, 256 in order: a printable byte is itself, others are letters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTE_LETTERS = _byte_letters()  # of byte-level vocabularies


class Vocabulary:
    """The pieces of one vocabulary. Control pieces are those that llama.cpp treats as such."""

    def __init__(self, vocab: Any, metadata: Mapping[str, Any]) -> None:
        """Prepare the look-up; tables are made when they are first needed.

        Args:
            vocab: llama.cpp's pointer, of a model that outlives this object.
            metadata: keys and values of its file, as the GGUF reader gives them.
        """
        self._vocab = vocab
        self._api = llama()
        self._metadata = metadata
        self.size: int = self._api.llama_vocab_n_tokens(vocab)
        self.is_sentencepiece = self._api.llama_vocab_type(vocab) == _SENTENCEPIECE
        self.is_byte_level = self._api.llama_vocab_type(vocab) == _BYTE_LEVEL
        self._bytes: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    @cached_property
    def names(self) -> Sequence[str]:
        """The name of each piece in the file, by id."""
        return tuple(self._metadata.get(TokenizerKey.TOKENS) or ())

    @cached_property
    def kinds(self) -> Sequence[int]:
        """`tokenizer.ggml.token_type` by id; all normal where the file has none."""
        kinds = self._metadata.get(TokenizerKey.TOKEN_TYPE)
        return tuple(kinds) if kinds else (_NORMAL_TYPE,) * len(self.names)

    def fewest_tokens(self, text: str) -> int:
        """At least how many tokens a text has, by its bytes and the longest piece; 0 where the kind is another one."""
        if not (self.is_byte_level or self.is_sentencepiece):
            return 0
        data = text.encode("utf-8", "replace")
        return len(data.translate(None, delete=self._dropped_bytes)) // max(self._longest_bytes, 1)

    @cached_property
    def _longest_bytes(self) -> int:
        """The bytes of the longest piece."""
        longest = 0
        for name in self.names:
            text = name.replace("\u2581", " ") if self.is_sentencepiece else name
            size = len(text.encode("utf-8", "replace"))
            if size > longest and self.is_byte_level and not name.strip(BYTE_LETTERS):
                size = len(name)  # a letter for each byte
            longest = max(longest, size)
        return longest

    @cached_property
    def _dropped_bytes(self) -> bytes:
        """Bytes of texts that llama.cpp leaves out, because a byte-level vocabulary has no piece for them."""
        missing = (byte for byte, letter in enumerate(BYTE_LETTERS) if letter not in self.id_of)
        return bytes(missing) if self.is_byte_level else b""

    @cached_property
    def id_of(self) -> Mapping[str, int]:
        """The first id of each name."""
        return {name: token for token, name in reversed(list(enumerate(self.names)))}

    @cached_property
    def special(self) -> Mapping[str, int]:
        """Ids of control, unknown and user-defined pieces by name."""
        pairs = zip(range(self.size), self.names, self.kinds, strict=False)
        suspects = [
            token
            for token, name, kind in pairs
            if kind != _NORMAL_TYPE or (name[:1] in ("<", "[") and _STRUCTURE.fullmatch(name))
        ]
        return {self.names[token]: token for token in suspects if self._attribute(token) & _SPECIAL}

    @cached_property
    def special_names(self) -> re.Pattern[str]:
        """Finds names of special pieces, longer ones first."""
        return _any_of(self.special)

    @cached_property
    def forbidden(self) -> frozenset[int]:
        """Ids that no text may become: control pieces, and user-defined ones that a chat template writes.

        The second rule is that of transformers' `sanitize_control_tokens`.
        """
        chat_template = ChatTemplate.of_metadata(self._metadata)
        templates = (chat_template.text, *chat_template.named.values())
        return frozenset(
            token
            for name, token in self.special.items()
            if not self._attribute(token) & _USER_DEFINED
            or self.is_end(token)
            or _STRUCTURE.fullmatch(name)
            or (_MARKER.fullmatch(name) and any(name in template for template in templates))
        )

    @cached_property
    def forbidden_names(self) -> re.Pattern[str]:
        """Finds names of pieces that no text may become."""
        return _any_of(self.names[token] for token in self.forbidden)

    @cached_property
    def matched(self) -> frozenset[int]:
        """Ids of pieces that mistral-common matches in text; they are text in answers too."""
        if not self.is_sentencepiece:
            return frozenset()
        return frozenset(token for name, token in self.special.items() if MATCHED.fullmatch(name))

    def control_id(self, name: str) -> int | None:
        """The id of a special piece, or None where there is none of that name."""
        ids = self.tokenize(name, special=True)
        if len(ids) != 1 or not self._attribute(ids[0]) & _SPECIAL:
            return None
        return ids[0] if self._api.llama_vocab_get_text(self._vocab, ids[0]) == name.encode() else None

    def is_control(self, token: int) -> bool:
        """Whether an id adds nothing to a text but has a name."""
        return not self.text_bytes(token) and bool(self.named_bytes(token))

    def is_end(self, token: int) -> bool:
        """Whether an id ends an answer: by llama.cpp's own rules, or by the ids that the file lists besides."""
        found = self._ends.get(token)
        if found is None:
            is_end = token in self.listed_ends or bool(self._api.llama_vocab_is_eog(self._vocab, token))
            found = self._ends[token] = is_end
        return found

    def strips_before(self, token: int) -> bool:
        """Whether white space before a special piece is left out, as for some of Jina's."""
        return bool(self._attribute(token) & _LSTRIP)

    def strips_after(self, token: int) -> bool:
        """Whether white space after a special piece is left out, as for Phi 3's."""
        return bool(self._attribute(token) & _RSTRIP)

    @cached_property
    def listed_ends(self) -> frozenset[int]:
        """The ids that end an answer by `MistralChatKey.END_IDS`."""
        return frozenset(self._metadata.get(MistralChatKey.END_IDS) or ())

    @cached_property
    def matched_in_text(self) -> re.Pattern[str]:
        """Finds names of user-defined pieces, which llama.cpp finds in text."""
        return _any_of(name for name, token in self.special.items() if self._attribute(token) & _USER_DEFINED)

    @cached_property
    def bos(self) -> int | None:
        """The id that begins a prompt."""
        found = self._api.llama_vocab_bos(self._vocab)
        return None if found < 0 else int(found)

    @cached_property
    def eos(self) -> int | None:
        """The id that ends an answer within a prompt."""
        found = self._api.llama_vocab_eos(self._vocab)
        return None if found < 0 else int(found)

    @cached_property
    def wants_bos(self) -> bool:
        """Whether prompts of this model begin with BOS."""
        return bool(self._api.llama_vocab_get_add_bos(self._vocab))

    def tokenize(self, text: str, special: bool = False) -> list[int]:
        """llama.cpp's ids of a text.

        Args:
            text: at most 2 GiB of UTF-8.
            special: names of control pieces in it become control ids; never for a user's text.

        Raises:
            DataError: it has lone surrogates, or is longer than llama.cpp can count.
        """
        data = checked(text).encode()
        size = len(data) + 16  # a piece has at least a byte; the space before the text is one more
        if size > _LONGEST_TEXT:
            raise DataError(f"a text of {len(data)} bytes is too long, the limit is {_LONGEST_TEXT}")
        buffer = (self._api.llama_token * size)()
        count = self._api.llama_tokenize(self._vocab, data, len(data), buffer, size, False, special)
        if count < 0:
            raise DataError(f"llama.cpp cannot encode a text of {len(data)} bytes")
        return list(buffer[:count])

    def text_bytes(self, token: int) -> bytes:
        """The bytes that an id adds to an answer's text; none for control pieces.

        Raises:
            DataError: there is no such id.
        """
        if token not in self._bytes:
            self._bytes[token] = self.named_bytes(token, named=token in self.matched)
        return self._bytes[token]

    def named_bytes(self, token: int, named: bool = True) -> bytes:
        """The bytes of an id; the name of a control piece where `named`, else none.

        Raises:
            DataError: there is no such id.
        """
        if not 0 <= token < self.size:
            raise DataError(f"id {token} is not in the vocabulary of {self.size:,} pieces")
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._api.llama_token_to_piece(self._vocab, token, buffer, size, 0, named)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def _attribute(self, token: int) -> int:
        return int(self._api.llama_vocab_get_attr(self._vocab, token))


def checked(text: str) -> str:
    """The same text.

    Raises:
        DataError: it has lone surrogates, which have no UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"lone surrogate U+{ord(text[error.start]):04X} at character {error.start + 1}") from error
    return text


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted((name for name in names if name), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
