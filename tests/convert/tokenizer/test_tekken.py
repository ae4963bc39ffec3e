"""Tekken files become the vocabulary that llama.cpp's converter makes of them, and broken ones are refused."""

from __future__ import annotations

import base64
import json
import math
import random
from typing import TYPE_CHECKING, Any

import pytest
from gguf.vocab import MistralVocab

from chat.cli.main import run
from chat.errors import DataError
from chat.llama.tokenizer.text_encoder import PATTERN
from chat.prompts.segments import Text
from convert.tokenizer import tekken
from convert.tokenizer.sentencepiece_file import PieceType
from convert.tokenizer.tekken import parse_tekken
from tests.chat.prompts.mistral_common_reference import text
from tests.chat.vocabulary_files import DATA, load, tekken_json
from tests.convert.samples import Sizes, make_checkpoint
from tests.grids import FULL

if TYPE_CHECKING:
    from pathlib import Path

REAL = DATA / "tekken_240718.json"


def llamas(path: Path) -> tuple[list[tuple[bytes, int]], list[str]]:
    """Pieces with their types, and merges, as gguf-py reads them for llama.cpp's converter."""
    theirs = MistralVocab(path.parent)
    return [(piece, int(kind)) for piece, _, kind in theirs.all_tokens()], theirs.extract_vocab_merges_from_model()


@pytest.mark.parametrize("version", ["v3", "v7", "v11"] if not FULL else ["v3", "v7", "v11", "v13"])
def test_pieces_types_and_merges_are_those_of_llama_cpps_converter(version: str, tmp_path: Path) -> None:
    content = tekken_json(version, 130_000 if FULL else 5000)
    (tmp_path / "tekken.json").write_bytes(content)
    made = parse_tekken(content, "tekken.json")
    pieces, merges = llamas(tmp_path / "tekken.json")
    assert [(piece.text, int(piece.type)) for piece in made.pieces] == pieces
    assert list(made.merges) == merges
    assert (made.model, made.pre, made.bos, made.eos, made.add_bos) == ("gpt2", "tekken", 1, 2, True)


@pytest.mark.parametrize("name", ["tekken_240911.json", *(("tekken_240718.json", "v7", "v11", "v13") if FULL else ())])
@pytest.mark.slow
def test_a_checkpoint_with_a_real_file_becomes_a_gguf_with_the_judges_ids(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way. mistral-common ships two files, of version 3; newer ones are their pieces with newer names."""
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    sizes = Sizes(layers=1, width=32, heads=1, kv_heads=1, hidden=32, vocabulary=131_072, is_tied=True)
    folder = make_checkpoint(tmp_path / "model", sizes)
    (folder / "tokenizer.model").unlink()
    path = folder / "tekken.json"
    path.write_bytes((DATA / name).read_bytes() if name.endswith(".json") else tekken_json(name, 130_072, 1000))
    out = tmp_path / "out.gguf"
    assert run(["convert", str(folder), "-t", "Q8_0", "-o", str(out), "-q", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []
    vocabulary, metadata = load(out)
    assert (vocabulary.size, vocabulary.bos, vocabulary.eos, vocabulary.ends) == (131_072, 1, 2, {2})
    assert metadata["mistral_chat.prompt_format"] == {"v7": "v7-tekken"}.get(
        name, name if name[0] == "v" else "v3-tekken"
    )
    if name.endswith(".json"):  # these files do not list their special pieces
        pieces = metadata["tokenizer.ggml.tokens"]
        named = ["<unk>", "[TOOL_CONTENT]", "<SPECIAL_20>", "<SPECIAL_999>"]
        assert [pieces[token] for token in (0, 19, 20, 999)] == named
        assert {*metadata["tokenizer.ggml.token_type"][:1000]} == {PieceType.CONTROL}
    dice = random.Random(12)
    mixed = "".join(text(dice, 20) for _ in range(10_000 if FULL else 2000))
    assert len(mixed) > 100_000
    assert vocabulary.encode([Text(mixed)]) == Tekkenizer.from_file(path).encode(mixed, bos=False, eos=False)


def test_both_wings_know_the_same_pattern_and_it_is_the_real_files() -> None:
    assert tekken.KNOWN_PATTERN == PATTERN == json.loads(REAL.read_bytes())["config"]["pattern"]


def small(**changes: Any) -> bytes:
    """A Tekken file of the 256 bytes and one pair, with changes."""
    pieces = [*(bytes([byte]) for byte in range(256)), b"ab"]
    data: dict[str, Any] = {
        "config": {
            "pattern": PATTERN,
            "default_vocab_size": 25 + len(pieces),
            "default_num_special_tokens": 25,
            "version": "v3",
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(piece).decode(), "token_str": None}
            for rank, piece in enumerate(pieces)
        ],
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        place: Any = data
        for parent in parents:
            place = place[int(parent) if isinstance(place, list) else parent]
        if isinstance(place, list):
            place[int(last)] = value
        elif value is None:
            del place[last]
        else:
            place[last] = value
    return json.dumps(data).encode()


def test_a_small_file_is_spelled_as_gpt2_spells_bytes() -> None:
    made = parse_tekken(small(), "tekken.json")
    assert made.merges == ("a b",)
    assert [made.pieces[25 + byte].text.decode() for byte in (0, 10, 32, 65, 0xAD, 0xFF)] == [
        "Ā",
        "Ċ",
        "Ġ",
        "A",
        "Ń",
        "ÿ",
    ]


def test_a_version_we_do_not_speak_is_noted_and_names_no_format() -> None:
    made = parse_tekken(small(config__version="v99"), "tekken.json")
    assert (made.prompt_format, made.unknown_version) == (None, "v99")


def test_the_settings_of_v15_are_kept_as_json() -> None:
    builder = {"reasoning_effort": {"type": "enum", "values": ["none", "high"], "default": "high"}, "json_schema": None}
    made = parse_tekken(small(config__version="v15", model_settings_builder=builder), "tekken.json")
    assert (made.prompt_format, json.loads(made.model_settings)) == ("v15", builder)
    assert parse_tekken(small(config__version="v15"), "tekken.json").model_settings == ""


@pytest.mark.parametrize(
    "effort", [{}, {"values": [], "default": None}, {"values": ["a"], "default": "b"}, {"values": "a"}, 7]
)
def test_settings_without_a_default_among_their_values_are_refused(effort: Any) -> None:
    content = small(config__version="v15", model_settings_builder={"reasoning_effort": effort})
    with pytest.raises(DataError, match="its model_settings_builder has no reasoning efforts"):
        parse_tekken(content, "tekken.json")


BYTE_0 = {"rank": 0, "token_bytes": "AQ==", "token_str": None}
ORPHAN = {"rank": 256, "token_bytes": base64.b64encode(b"abc").decode(), "token_str": None}
SPECIAL = [{"rank": 0, "token_str": "<unk>", "is_control": True}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a Tekken vocabulary"),
        (b"\xff{", "not a Tekken vocabulary"),
        (b"[]", "not a Tekken vocabulary"),
        (b"[" * 100_000, "not a Tekken vocabulary"),
        (small(config=None), "it has no 'config'"),
        (small(vocab=None), "it has no 'vocab'"),
        (small(vocab=7), "not a Tekken vocabulary"),
        (small(config__default_vocab_size="many"), "not a Tekken vocabulary"),
        (small(config__default_vocab_size=10**12), "text pieces wanted of 257"),
        (small(config__default_vocab_size=30), "5 text pieces wanted of 257"),
        (small(config__default_num_special_tokens=0), "0 special pieces"),
        (small(config__default_num_special_tokens=10**9), "1000000000 special pieces"),
        (small(config__default_num_special_tokens=math.inf), "cannot convert float infinity to integer"),
        (small(vocab__256__token_bytes="YWFh" * 400), "text pieces of 1,456 bytes, the longest of 1,200"),
        (small(special_tokens=[{"rank": 0, "token_str": "\ud800"}]), "surrogates not allowed"),
        (small(config__default_num_special_tokens=5), "20 special pieces, where 5 have room"),
        (small(vocab__0=BYTE_0), "the first 256 text pieces are not the single bytes"),
        (small(vocab__256__token_bytes="YQ=="), "two text pieces of the same bytes"),
        (small(vocab__256__token_bytes="%%"), "not a Tekken vocabulary"),
        (small(vocab__256__rank=7), "text pieces out of order"),
        (small(vocab__256=ORPHAN), "text piece 256 of the Tekken vocabulary cannot be made of two others"),
        (small(special_tokens=SPECIAL), "tekken.json has no special piece `<s>`"),
        (small(special_tokens=SPECIAL * 2), "special piece 1 is out of order"),
        (small(special_tokens=[{"rank": 0, "token_str": "<SPECIAL_1>"}]), "two special pieces of one name"),
        (small(special_tokens=7), "not a Tekken vocabulary"),
        (small(config__pattern="\\w+"), "splits text by another pattern than all Tekken vocabularies so far"),
    ],
)
def test_broken_files_are_refused_in_one_sentence(content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        parse_tekken(content, "tekken.json")
    assert "\n" not in caught.value.message


def test_mutated_files_never_crash() -> None:
    dice = random.Random(9)
    whole = small()
    for _ in range(2000 if FULL else 200):
        content = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(content))
            content[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        try:
            parse_tekken(bytes(content), "tekken.json")
        except DataError:
            continue
