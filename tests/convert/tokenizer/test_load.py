"""A folder's tokenizer files become one vocabulary in which no text can become a control piece."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mistral_common
import pytest

from chat.errors import DataError
from chat.gguf.reader import read_gguf
from convert.draft import ConversionOptions
from convert.pipeline import convert
from convert.tokenizer.load import read_vocabulary
from convert.tokenizer.sentencepiece_file import Piece, PieceType
from tests.chat.vocabulary_files import tekken_json
from tests.convert.samples import V01, V03, Sizes, make_checkpoint

DATA = Path(mistral_common.__file__).parent / "data"
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endfor %}"
INST = "{{ bos_token }}[INST] {{ messages[0].content }} [/INST]"


def folder_with(folder: Path, tokenizer: Path = V01 / "tokenizer.model", **files: Any) -> Path:
    """A tokenizer and JSON files; a name's `__` stands for its dot."""
    folder.mkdir(exist_ok=True)
    shutil.copy(tokenizer, folder / "tokenizer.model")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def unnamed(token: int) -> str:
    return f"no file names row {token} of the embeddings: it is written as `[PAD{token}]`, which no text becomes"


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("tokenizer.model.v1", "v1"),
        ("mistral_instruct_tokenizer_240216.model.v2", "v2"),
        ("mistral_instruct_tokenizer_240323.model.v3", "v3"),
        ("mistral_instruct_tokenizer_241114.model.v7", "v7"),
    ],
)
@pytest.mark.slow
def test_the_prompt_format_is_known_by_pieces(file: str, expected: str, tmp_path: Path) -> None:
    assert read_vocabulary(folder_with(tmp_path, DATA / file), 32768).prompt_format == expected


@pytest.mark.parametrize(
    ("suffix", "expected"), [("v1", "v1"), ("v2", "v2"), ("v3", "v3"), ("v7", "v7"), ("v7m1", "v7")]
)
def test_the_prompt_format_is_known_by_name(suffix: str, expected: str, tmp_path: Path) -> None:
    shutil.copy(V03 / "tokenizer.model", tmp_path / f"tokenizer.model.{suffix}")
    assert read_vocabulary(tmp_path, 520).prompt_format == expected


@pytest.mark.slow
def test_a_versioned_copy_of_the_same_file_names_its_format(tmp_path: Path) -> None:
    """The v0.3 folder of the hub has both; the tiny one's pieces alone could also be v2's."""
    assert read_vocabulary(V03, 520).prompt_format == "v3"
    folder = folder_with(tmp_path / "model", DATA / "mistral_instruct_tokenizer_240323.model.v3")
    shutil.copy(DATA / "mistral_instruct_tokenizer_240323.model.v3", folder / "tokenizer.model.v2")
    assert read_vocabulary(folder, 32768).prompt_format == "v2"


@pytest.mark.slow
def test_markers_that_the_file_calls_user_defined_become_control(tmp_path: Path) -> None:
    pieces = read_vocabulary(
        folder_with(tmp_path / "x", DATA / "mistral_instruct_tokenizer_241114.model.v7"), 32768
    ).pieces
    assert {piece.type for piece in pieces if piece.text.startswith((b"[REF", b"[/REF", b"[INST", b"[control"))} == {
        PieceType.CONTROL
    }
    assert not [piece for piece in pieces if piece.type is PieceType.USER_DEFINED]


@pytest.mark.parametrize(
    ("template", "expected"), [(None, "v1"), (INST, "v1"), (CHATML, None), ("<|user|>\n{{ content }}", None)]
)
def test_a_foreign_template_leaves_the_format_to_the_template(
    template: str | None, expected: str | None, tmp_path: Path
) -> None:
    config = {} if template is None else {"chat_template": template}
    vocabulary = read_vocabulary(folder_with(tmp_path / "x", tokenizer_config__json=config), 512)
    assert vocabulary.prompt_format == expected
    assert dict(vocabulary.chat_templates) == ({} if template is None else {"default": template})


def test_templates_are_found_wherever_they_are_kept(tmp_path: Path) -> None:
    one = folder_with(tmp_path / "jinja", chat_template__jinja=INST)
    assert dict(read_vocabulary(one, 512).chat_templates) == {"default": INST}
    old = folder_with(tmp_path / "json", chat_template__json={"chat_template": CHATML})
    assert dict(read_vocabulary(old, 512).chat_templates) == {"default": CHATML}
    listed = [{"name": "default", "template": INST}, {"name": "tool_use", "template": CHATML}, {"name": 5}]
    many = folder_with(tmp_path / "many", tokenizer_config__json={"chat_template": listed})
    assert dict(read_vocabulary(many, 512).chat_templates) == {"default": INST, "tool_use": CHATML}


def test_a_fine_tunes_tokens_ends_and_template_reach_the_gguf(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "hermes", Sizes(vocabulary=516), eos_token_id=513)
    added = {
        "512": {"content": "<|im_start|>", "special": False},
        "513": {"content": "<|im_end|>", "special": True},
        "514": {"content": "▁tool", "special": False},
    }
    config = {"added_tokens_decoder": added, "chat_template": CHATML, "eos_token": "<|im_end|>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [513, 2]}))
    report = convert(ConversionOptions(folder, tmp_path / "out.gguf", "Q8_0"))
    made = read_gguf(tmp_path / "out.gguf").metadata
    assert list(made["tokenizer.ggml.tokens"])[512:] == ["<|im_start|>", "<|im_end|>", " tool", "[PAD515]"]
    assert made["tokenizer.ggml.token_type"][512:] == (3, 3, 4, 5)
    assert made["tokenizer.ggml.scores"][512:] == (-1000.0, -1000.0, -1000.0, -10000.0)
    assert (made["tokenizer.ggml.eos_token_id"], made["tokenizer.ggml.eot_token_id"]) == (513, 2)
    assert made["tokenizer.ggml.add_bos_token"] is True
    assert made["tokenizer.chat_template"] == CHATML
    assert "mistral_chat.prompt_format" not in made
    assert (report.to_json()["prompt_format"], report.warnings) == (None, (unnamed(515),))


def test_a_release_that_repeats_its_own_tokens_as_added_ones_changes_nothing(tmp_path: Path) -> None:
    """The hub's v0.1 lists <unk>, <s> and </s> as added special tokens."""
    plain = read_vocabulary(folder_with(tmp_path / "plain"), 512)
    decoder = {str(i): {"content": text, "special": True} for i, text in enumerate(["<unk>", "<s>", "</s>"])}
    added = {"<unk>": 0, "<s>": 1, "</s>": 2}
    noted = folder_with(
        tmp_path / "noted", tokenizer_config__json={"added_tokens_decoder": decoder}, added_tokens__json=added
    )
    assert read_vocabulary(noted, 512).pieces == plain.pieces


def test_an_added_token_that_exists_elsewhere_is_left_out_with_a_word(tmp_path: Path) -> None:
    """llama.cpp aborts on a vocabulary that holds a piece twice."""
    vocabulary = read_vocabulary(folder_with(tmp_path / "x", added_tokens__json={"<s>": 512}), 513)
    assert vocabulary.warnings == ("added token `<s>` exists already as id 1: left out", unnamed(512))
    assert vocabulary.pieces[512] == Piece(b"[PAD512]", -10000.0, PieceType.UNUSED)
    assert len({piece.text for piece in vocabulary.pieces}) == 513


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"tokenizer__json": {"added_tokens": 7}}, "`added_tokens` must be a list"),
        ({"tokenizer__json": {"added_tokens": [{"id": "x", "content": "a"}]}}, "the added token 0 must have a whole"),
        ({"added_tokens__json": {"a": -1}}, "the id of `a` is -1, but must be a whole number from 0"),
        ({"added_tokens__json": {"a": 1.5}}, "the id of `a` is 1.5"),
        ({"added_tokens__json": "[]"}, "added_tokens.json is not a JSON object"),
        ({"tokenizer_config__json": {"added_tokens_decoder": []}}, None),
        ({"tokenizer_config__json": {"added_tokens_decoder": [1]}}, "`added_tokens_decoder` must be an object"),
        ({"tokenizer_config__json": {"added_tokens_decoder": {"x": {}}}}, "the added token `x` must have a number"),
        ({"tokenizer_config__json": {"added_tokens_decoder": {"²": {"content": "a"}}}}, "must have a number"),
        ({"tokenizer_config__json": {"added_tokens_decoder": {"5": {}}}}, "the added token `5` must have a number"),
        ({"tokenizer_config__json": "{"}, "tokenizer_config.json is not JSON"),
        ({"generation_config__json": {"eos_token_id": "x"}}, None),
    ],
)
def test_malformed_notes_are_refused_or_ignored(files: dict[str, Any], words: str | None, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "x", **files)
    if words is None:
        assert read_vocabulary(folder, 512).eos == 2
        return
    with pytest.raises(DataError, match=words):
        read_vocabulary(folder, 512)


def test_a_folder_without_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tokenizer") as caught:
        read_vocabulary(tmp_path, 512)
    assert caught.value.hint is not None
    assert "`tokenizer.model`" in caught.value.hint


def test_a_tekken_file_is_read_where_there_is_one(tmp_path: Path) -> None:
    tmp_path.joinpath("tekken.json").write_bytes(tekken_json("v3", 1900))
    vocabulary = read_vocabulary(tmp_path, 2000)
    assert (vocabulary.model, vocabulary.pre, vocabulary.prompt_format) == ("gpt2", "tekken", "v3-tekken")
    assert len(vocabulary.pieces) == 2000
    with pytest.raises(DataError, match=r"tekken.json: 2000 pieces, but the model has rows for 1999"):
        read_vocabulary(tmp_path, 1999)
