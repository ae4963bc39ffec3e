"""A tokenizer.json, written as transformers writes it, gives the ids of the tokenizer it was made of."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from sentencepiece import SentencePieceProcessor

from chat.errors import DataError
from chat.prompts.detect import detect_format
from chat.prompts.segments import Text
from convert.tokenizer.load import read_vocabulary
from convert.tokenizer.sentencepiece_file import PieceType
from convert.tokenizer.tekken import KNOWN_PATTERN, parse_tekken
from convert.tokenizer.tokenizer_json import load_tokenizer_json
from convert.tokenizer.tokenizer_json import parse_tokenizer_json as parse_loaded
from tests.chat.prompts.mistral_common_reference import ODD, SCRIPTS, text
from tests.chat.vocabulary_files import DATA, SENTENCEPIECE, load, sentencepiece_file, tekken_json, write_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from convert.tokenizer.sentencepiece_file import Piece
    from convert.tokenizer.vocabulary import GgufVocabulary


def parse_tokenizer_json(content: bytes, what: str) -> GgufVocabulary:
    return parse_loaded(load_tokenizer_json(content, what), what)


def of_sentencepiece(pieces: Sequence[Piece], *, pairs: bool = False) -> dict[str, Any]:
    """What transformers' LlamaConverter makes of a SentencePiece file: every way to part a piece, best score first."""
    ids = {piece.text.decode(): token for token, piece in enumerate(pieces)}
    ways = [
        (-piece.score, len(name[:at]), len(name[at:]), place, name[:at], name[at:])
        for place, (name, piece) in enumerate((name, pieces[token]) for name, token in ids.items())
        for at in range(1, len(name))
        if piece.type is PieceType.NORMAL and name[:at] in ids and name[at:] in ids
    ]
    merges = [(left, right) for *_, left, right in sorted(ways)]
    specials = (PieceType.UNKNOWN, PieceType.CONTROL, PieceType.USER_DEFINED)
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": token, "content": piece.text.decode(), "special": True}
            for token, piece in enumerate(pieces)
            if piece.type in specials
        ],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace"}]},
        "pre_tokenizer": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "vocab": ids,
            "merges": [list(merge) if pairs else " ".join(merge) for merge in merges],
        },
    }


def of_tekken(text_pieces: int, version: str = "v3") -> dict[str, Any]:
    made = parse_tekken(tekken_json(version, text_pieces), "tekken.json")
    return {
        "added_tokens": [
            {"id": token, "content": piece.text.decode(), "special": True}
            for token, piece in enumerate(made.pieces)
            if piece.type is PieceType.CONTROL
        ],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Split", "pattern": {"Regex": KNOWN_PATTERN}}, {"type": "ByteLevel"}],
        },
        "model": {
            "type": "BPE",
            "vocab": {piece.text.decode(): token for token, piece in enumerate(made.pieces)},
            "merges": list(made.merges),
        },
    }


@pytest.mark.parametrize(("name", "pairs"), [("v1", False), ("v3", True)])
@pytest.mark.slow
def test_sentencepiece_ids_survive_the_way_through_a_tokenizer_json(name: str, pairs: bool, tmp_path: Path) -> None:
    path = DATA / SENTENCEPIECE[name][0]
    whole = sentencepiece_file(name)
    made = parse_tokenizer_json(json.dumps(of_sentencepiece(whole.pieces, pairs=pairs)).encode(), "tokenizer.json")
    assert [piece.text for piece in made.pieces] == [piece.text for piece in whole.pieces]
    expected = [PieceType.CONTROL if p.type is PieceType.USER_DEFINED else p.type for p in whole.pieces]
    assert [piece.type for piece in made.pieces] == expected
    assert (made.model, made.pre, made.bos, made.eos, made.adds_space) == ("llama", "default", 1, 2, True)
    assert made.prompt_format == name
    vocabulary, _ = load(write_vocabulary(tmp_path / "v.gguf", made))
    reference = SentencePieceProcessor(model_file=str(path))
    dice = random.Random(2)
    for each in [*ODD, *SCRIPTS, *(text(dice, 12) for _ in range(500))]:
        assert vocabulary.encode([Text(each)]) == reference.encode(each), repr(each)


def test_tekken_pieces_and_merges_survive_it_too(tmp_path: Path) -> None:
    made = parse_tokenizer_json(json.dumps(of_tekken(3000)).encode(), "tokenizer.json")
    whole = parse_tekken(tekken_json("v3", 3000), "tekken.json")
    assert (made.pieces, made.merges, made.model, made.pre) == (whole.pieces, whole.merges, "gpt2", "tekken")
    assert (made.prompt_format, made.adds_space) == (None, False), "the chat tells it from template and pieces"
    vocabulary, _ = load(write_vocabulary(tmp_path / "v.gguf", made))
    assert vocabulary.decode(vocabulary.encode([Text("Grüße สวัสดี")])) == "Grüße สวัสดี"


OLD_PATTERN = (  # of Small 3.1's tokenizer.json and its relatives
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": OLD_PATTERN}}, BYTE_LEVEL]},
        {"type": "Split", "pattern": {"Regex": OLD_PATTERN}, "behavior": "Isolated"},
        {"type": "ByteLevel", "use_regex": True},
        None,
    ],
)
def test_a_tekken_vocabulary_with_another_pattern_is_mended_with_a_word(step: Any, tmp_path: Path) -> None:
    """transformers' `fix_mistral_regex` puts the same pattern in its place."""
    data = of_tekken(3000) | {"pre_tokenizer": step}
    made = parse_tokenizer_json(json.dumps(data).encode(), "tokenizer.json")
    plain = parse_tokenizer_json(json.dumps(of_tekken(3000)).encode(), "tokenizer.json")
    (warning,) = made.warnings
    assert warning.startswith("tokenizer.json splits text by another pattern than Tekken")
    assert (made.pieces, made.merges, made.pre) == (plain.pieces, plain.merges, "tekken")
    vocabulary, _ = load(write_vocabulary(tmp_path / "v.gguf", made))
    reference, _ = load(write_vocabulary(tmp_path / "w.gguf", parse_tekken(tekken_json("v3", 3000), "tekken.json")))
    for each in (*SCRIPTS, "I'll pay 12345 euros", "don't"):
        assert vocabulary.encode([Text(each)]) == reference.encode([Text(each)])


@pytest.mark.parametrize("names", [{}, {"<s>": 1, "</s>": 2, "[INST]": 3}])
def test_another_vocabulary_of_bytes_is_not_taken_for_tekken(names: dict[str, int]) -> None:
    data = of_tekken(600) | {"pre_tokenizer": BYTE_LEVEL}
    data["added_tokens"] = [{"id": token, "content": name, "special": True} for name, token in names.items()]
    with pytest.raises(DataError, match="is a tokenizer of a kind that is not known here") as caught:
        parse_tokenizer_json(json.dumps(data).encode(), "tokenizer.json")
    hint = "put the `tokenizer.model` or `tekken.json` of the model's release into the folder, if it has one"
    assert caught.value.hint == hint


def test_a_folder_of_small_3_1_with_tokenizer_json_alone_speaks_its_format(tmp_path: Path) -> None:
    """It was refused, and the hint asked for a `tokenizer.model` that no release of it has."""
    data = of_tekken(3000, "v7")
    data["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": OLD_PATTERN}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    template = "{{ bos_token }}[SYSTEM_PROMPT]x[/SYSTEM_PROMPT][INST]{{ messages[0].content }}[/INST]"
    (tmp_path / "chat_template.jinja").write_text(template)
    made = read_vocabulary(tmp_path, len(data["model"]["vocab"]))
    _, metadata = load(write_vocabulary(tmp_path / "v.gguf", made, tokenizer__chat_template=template))
    assert detect_format(metadata).name == "v7-tekken"


def test_added_tokens_of_a_fine_tune_keep_their_kind_and_gaps_are_unused() -> None:
    data = small()
    data["added_tokens"] += [
        {"id": 8, "content": "<|im_end|>", "special": True},
        {"id": 9, "content": "▁▁note", "special": False},
    ]
    made = parse_tokenizer_json(json.dumps(data).encode(), "tokenizer.json")
    assert [(piece.text, piece.type) for piece in made.pieces[6:]] == [
        *((b"ab", PieceType.NORMAL), (b"[PAD7]", PieceType.UNUSED), (b"<|im_end|>", PieceType.CONTROL)),
        (b"  note", PieceType.USER_DEFINED),
    ]


def test_a_space_is_put_before_texts_where_the_file_says_so() -> None:
    for step, prefix in (
        ({"type": "Metaspace", "prepend_scheme": "first"}, "first"),
        ({"type": "Metaspace", "prepend_scheme": "always"}, "missing"),
        ({"type": "Metaspace"}, "missing"),
        ({"type": "Metaspace", "prepend_scheme": "never"}, "never"),
        ({"type": "Metaspace", "add_prefix_space": False}, "never"),
        ({"type": "Sequence", "pretokenizers": [{"type": "Metaspace", "prepend_scheme": "first"}]}, "first"),
        (None, "never"),
    ):
        made = parse_tokenizer_json(json.dumps(small() | {"normalizer": None, "pre_tokenizer": step}).encode(), "x")
        assert made.space_prefix == prefix


def small() -> dict[str, Any]:
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x00>": 3, "a": 4, "b": 5, "ab": 6}
    return {
        "added_tokens": [{"id": id_, "content": name, "special": True} for name, id_ in list(vocab.items())[:3]],
        "normalizer": {"type": "Prepend", "prepend": "▁"},
        "pre_tokenizer": None,
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "vocab": vocab, "merges": ["a b"]},
    }


def changed(**model: Any) -> bytes:
    data = small()
    data["model"] |= model
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "tokenizer.json is not a tokenizer of byte pairs"),
        (b"\xff", "is not a tokenizer of byte pairs"),
        (b"[]", "is not a tokenizer of byte pairs"),
        (b"{}", "it has no 'model'"),
        (b"[" * 10**5, "is not a tokenizer of byte pairs"),
        (changed(merges=["a"]), "a merge that is not of two pieces"),
        (changed(merges=[["a", 1]]), "a merge that is not of two pieces"),
        (changed(merges=7), "is not a tokenizer of byte pairs"),
        (changed(vocab={"a": 10**9}), "ids that are not whole numbers below 1,000,000"),
        (changed(vocab={"a": -1}), "ids that are not whole numbers below 1,000,000"),
        (changed(vocab={"a": "b"}), "ids that are not whole numbers below 1,000,000"),
        (changed(vocab=["a"]), "is not a tokenizer of byte pairs"),
        (changed(vocab={"\ud800": 7}), "is not a tokenizer of byte pairs"),
        (changed(merges=[["\ud800", "b"]]), "is not a tokenizer of byte pairs"),
        (changed(byte_fallback=False), "is a tokenizer of a kind that is not known here"),
    ],
)
def test_other_files_are_refused_in_one_sentence(content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        parse_tokenizer_json(content, "tokenizer.json")
    assert "\n" not in caught.value.message


def test_mutated_files_never_crash() -> None:
    dice = random.Random(9)
    whole = json.dumps(small()).encode()
    for _ in range(1000):
        content = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(content))
            content[at : at + dice.randrange(4)] = dice.choice(
                (b"", b"7", b'"', b"null", b"{", b"]", dice.randbytes(2))
            )
        try:
            parse_tokenizer_json(bytes(content), "tokenizer.json")
        except DataError:
            continue


def test_a_folder_with_nothing_else_is_read_by_its_tokenizer_json(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(small()))
    made = read_vocabulary(tmp_path, 10)
    assert [piece.text for piece in made.pieces[5:]] == [b"b", b"ab", b"[PAD7]", b"[PAD8]", b"[PAD9]"]
    assert made.prompt_format == "v1"
