"""Our reader of SentencePiece files agrees with SentencePiece's own library on Mistral's real files."""

from __future__ import annotations

import random
from pathlib import Path

import mistral_common
import pytest
from sentencepiece import SentencePieceProcessor

from chat.errors import DataError
from convert.tokenizer import sentencepiece_file
from convert.tokenizer.sentencepiece_file import Piece, PieceType, parse_sentencepiece
from tests.convert.samples import V01, V03
from tests.grids import FULL

DATA = Path(mistral_common.__file__).parent / "data"
FILES = [*sorted(DATA.glob("*.model.v*")), V01 / "tokenizer.model", V03 / "tokenizer.model.v3"]


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_pieces_scores_and_types_are_those_of_the_library(path: Path) -> None:
    reference = SentencePieceProcessor(model_file=str(path))
    model = parse_sentencepiece(path.read_bytes(), str(path))
    assert [piece.text.decode() for piece in model.pieces] == [reference.id_to_piece(i) for i in range(len(reference))]
    assert [piece.score for piece in model.pieces] == [reference.get_score(i) for i in range(len(reference))]
    for kind, asked in (
        (PieceType.CONTROL, reference.is_control),
        (PieceType.BYTE, reference.is_byte),
        (PieceType.UNKNOWN, reference.is_unknown),
        (PieceType.UNUSED, reference.is_unused),
    ):
        assert [piece.type is kind for piece in model.pieces] == [asked(i) for i in range(len(reference))]
    assert (model.bos, model.eos, model.adds_space) == (reference.bos_id(), reference.eos_id(), True)


def test_user_defined_pieces_are_told_apart_which_the_library_does_not() -> None:
    model = parse_sentencepiece((DATA / "mistral_instruct_tokenizer_240323.model.v3").read_bytes(), "v3")
    found = [piece.text for piece in model.pieces if piece.type is PieceType.USER_DEFINED]
    assert found == [f"[REFERENCE_DOC_{number}]".encode() for number in range(19, -1, -1)]


def field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2, len(payload)]) + payload


BYTE_PAIRS = field(2, b"\x18\x02")  # trainer_spec.model_type = BPE


def test_a_file_made_by_hand_reads_as_written() -> None:
    one = field(1, field(1, "▁a".encode()) + b"\x15\x00\x00\x00\xbf" + b"\x18\x03")
    model = parse_sentencepiece(one + field(1, b"") + BYTE_PAIRS + field(3, b"\x18\x00"), "made")
    assert model.pieces == (Piece("▁a".encode(), -0.5, PieceType.CONTROL), Piece(b"", 0.0, PieceType.NORMAL))
    assert (model.bos, model.eos, model.adds_space) == (1, 2, False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "without pieces"),
        (BYTE_PAIRS, "without pieces"),
        (field(1, field(1, b"a")), "of another kind than byte pairs"),
        (b"\x0a\x05abc", r"is not a SentencePiece model \(it ends within field 1\)"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", r"it ends within field 1"),
        (b"\xff" * 11, r"a number of more than ten bytes"),
        (b"\x0b", r"wire type 3 at byte 1"),
        (field(1, b"\x18\x09"), r"9 is not a valid PieceType"),
        (field(1, field(1, b"\xff")) + BYTE_PAIRS, "can't decode byte"),
        (b"\x80", "is not a SentencePiece model"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        parse_sentencepiece(content, "tokenizer.model")
    assert caught.value.message.startswith("tokenizer.model is ")


def test_a_file_of_very_many_empty_fields_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the allowed size could hold 50 million fields of two bytes, which took minutes."""
    monkeypatch.setattr(sentencepiece_file, "FIELD_LIMIT", 10)
    for content in (b"\x08\0" * 11, field(2, b"\x08\0" * 10), field(1, b"\x20\0" * 5) * 2):
        with pytest.raises(DataError, match=r"is not a SentencePiece model \(more than 10 fields\)"):
            parse_sentencepiece(content, "tokenizer.model")


@pytest.mark.slow
def test_mutants_never_crash() -> None:
    raw = (V01 / "tokenizer.model").read_bytes()
    refused = 0
    count = 1_000 if FULL else 250
    for seed in range(count):
        generator = random.Random(seed)
        mutant = bytearray(raw)
        for _ in range(generator.randint(1, 5)):
            mutant[generator.randrange(len(mutant))] = generator.randrange(256)
        try:
            parse_sentencepiece(bytes(mutant[: generator.choice([len(mutant), generator.randrange(len(mutant))])]), "x")
        except DataError:
            refused += 1
    assert 0 < refused < count
