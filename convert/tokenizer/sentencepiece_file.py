"""Parse a SentencePiece model file (a protobuf) as a list of pieces, without a protobuf library.

Source of the field numbers: sentencepiece_model.proto of google/sentencepiece.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from chat.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_LIMIT = 500_000  # the largest vocabularies in use have 262,000
FIELD_LIMIT = 2_000_000  # of a file: three in each piece, and the piece itself
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # fields of ModelProto
_BPE = 2


class PieceType(IntEnum):
    """What a piece is. SentencePiece's numbers, which are also those of `tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Piece:
    """One entry of a vocabulary; its id is its place."""

    text: bytes
    score: float
    type: PieceType


@dataclass(frozen=True)
class SentencePieceFile:
    """The vocabulary and the few settings that matter."""

    pieces: tuple[Piece, ...]
    bos: int = 1
    eos: int = 2
    adds_space: bool = True  # before the first word


@dataclass
class _Found:
    """What the three parts of the file said so far."""

    pieces: list[Piece] = field(default_factory=list)
    trainer: dict[int, int] = field(default_factory=dict)
    normalizer: dict[int, int] = field(default_factory=dict)


def parse_sentencepiece(content: bytes, what: str) -> SentencePieceFile:
    """Parse a SentencePiece model; `what` begins every error message.

    Raises:
        DataError: no protobuf, or no vocabulary of the byte-pair kind that llama.cpp can use.
    """
    found, count = _Found(), itertools.count(1)
    try:
        for number, value in _fields(memoryview(content), count):
            if number == _PIECES and isinstance(value, memoryview):
                found.pieces.append(_piece(value, count))
                if len(found.pieces) > PIECE_LIMIT:
                    raise ValueError(f"more than {PIECE_LIMIT:,} pieces")
            elif number == _TRAINER and isinstance(value, memoryview):
                found.trainer |= _numbers(value, count)
            elif number == _NORMALIZER and isinstance(value, memoryview):
                found.normalizer |= _numbers(value, count)
    except (ValueError, IndexError, struct.error) as error:
        raise DataError(f"{what} is not a SentencePiece model ({error})") from error
    if not found.pieces:
        raise DataError(f"{what} is a SentencePiece model without pieces")
    if found.trainer.get(3, 1) != _BPE:
        raise DataError(f"{what} is a SentencePiece model of another kind than byte pairs")
    return SentencePieceFile(
        pieces=tuple(found.pieces),
        bos=found.trainer.get(41, 1),
        eos=found.trainer.get(42, 2),
        adds_space=bool(found.normalizer.get(3, 1)),
    )


def _piece(message: memoryview, count: Iterator[int]) -> Piece:
    text, score, kind = b"", 0.0, PieceType.NORMAL
    for number, value in _fields(message, count):
        if number == 1 and isinstance(value, memoryview):
            text = bytes(value)
        elif number == 2 and isinstance(value, memoryview):
            score = struct.unpack("<f", value)[0]
        elif number == 3 and isinstance(value, int):
            kind = PieceType(value)
    text.decode("utf-8")
    return Piece(text, score, kind)


def _numbers(message: memoryview, count: Iterator[int]) -> dict[int, int]:
    """The message's whole numbers by field; negative ones are 2^64 too large, and none that matters is."""
    return {number: value for number, value in _fields(message, count) if isinstance(value, int)}


def _fields(message: memoryview, count: Iterator[int]) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value): whole numbers as int, everything else as its bytes.

    Args:
        message: a message of the file.
        count: numbers the fields of the whole file.

    Raises:
        ValueError: the message is damaged, or the file has too many fields.
    """
    at, size = 0, len(message)
    while at < size:
        if next(count) > FIELD_LIMIT:
            raise ValueError(f"more than {FIELD_LIMIT:,} fields")
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if length > size - at:
            raise ValueError(f"it ends within field {number}")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = message[at]
    if value < 0x80:  # as nearly all are
        return value, at + 1
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number of more than ten bytes at byte {at}")
