"""Byte-level tokenizer.json files of other families give the ids of the library `tokenizers`."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from chat.errors import DataError
from chat.prompts.segments import Text
from convert.tokenizer.load import read_vocabulary
from convert.tokenizer.tokenizer_json import parse_tokenizer_json
from tests.chat.vocabulary_files import load, write_vocabulary
from tests.convert.tokenizer.byte_level_files import (
    DIGITS,
    KINDS,
    LLAMA3,
    byte_level,
    references,
    sequence,
    split,
    texts,
    tokenizer_json,
)

if TYPE_CHECKING:
    from pathlib import Path

    from convert.tokenizer.vocabulary import GgufVocabulary

BEGIN = "<|begin_of_text|>"
TEMPLATE_PROCESSING = {
    "type": "Sequence",
    "processors": [
        byte_level(use_regex=True),
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": BEGIN}}, {"Sequence": {"id": "A"}}]},
    ],
}


def folder_of(path: Path, data: dict[str, Any], **config: Any) -> Path:
    (path / "tokenizer.json").write_text(json.dumps(data))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|eot_id|>"} | config))
    return path


def read(path: Path, data: dict[str, Any], **config: Any) -> GgufVocabulary:
    added = len(data["added_tokens"])
    return read_vocabulary(folder_of(path, data, **config), len(data["model"]["vocab"]) + added)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_equal_those_of_tokenizers(kind: str, tmp_path: Path) -> None:
    known = references()
    made = read(tmp_path, tokenizer_json(kind, known["merges"]))
    assert (made.model, made.pre, made.normal_form) == ("gpt2", kind, "NFC" if kind.startswith("qwen") else "")
    vocabulary, _ = load(write_vocabulary(tmp_path / "v.gguf", made))
    expected = known["ids"][kind]
    assert [vocabulary.encode([Text(text)]) for text in texts(len(expected))] == expected


def test_both_spellings_of_merges_are_read(tmp_path: Path) -> None:
    merges = references()["merges"]
    plain, pairs = (read(tmp_path, tokenizer_json("qwen2", merges, pairs=pairs)) for pairs in (False, True))
    assert plain == pairs


def test_begin_and_end_are_those_that_the_files_name(tmp_path: Path) -> None:
    """They were ids 1 and 2, which mean something else in another family."""
    data = tokenizer_json("llama-bpe", references()["merges"])
    first = len(data["model"]["vocab"])
    made = read(tmp_path, data)
    assert (made.bos, made.eos, made.add_bos, made.prompt_format) == (None, first + 2, False, None)
    assert read(tmp_path, data, bos_token=BEGIN).add_bos is False
    made = read(tmp_path, data | {"post_processor": TEMPLATE_PROCESSING}, bos_token=BEGIN)
    assert (made.bos, made.eos, made.add_bos) == (first, first + 2, True)
    made = read(tmp_path, data, bos_token=BEGIN, add_bos_token=True)
    assert (made.bos, made.add_bos) == (first, True)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [first + 1, first + 2]}))
    made = read(tmp_path, data)
    assert (made.eos, made.further_ends) == (first + 2, (first + 1,))


def test_a_model_whose_end_no_file_names_is_refused(tmp_path: Path) -> None:
    data = tokenizer_json("qwen2", references()["merges"])
    with pytest.raises(DataError, match="no file says which token ends an answer") as caught:
        read(tmp_path, data, eos_token=None)
    assert caught.value.hint == "name it as `eos_token` in tokenizer_config.json"


def changed(kind: str = "llama-bpe", *, model: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    data = deepcopy(tokenizer_json(kind, references()["merges"]))
    return data | values | {"model": data["model"] | (model or {})}


@pytest.mark.parametrize(
    "data",
    [
        changed(pre_tokenizer=sequence(split(LLAMA3.replace("{1,3}", "{1,2}")), byte_level(use_regex=False))),
        changed(pre_tokenizer=sequence(split(LLAMA3, "MergedWithNext"), byte_level(use_regex=False))),
        changed(pre_tokenizer=sequence(split(LLAMA3), byte_level(use_regex=True))),
        changed(pre_tokenizer=sequence(split(LLAMA3))),
        changed("qwen2", model={"ignore_merges": True}),
        changed("gpt-2", pre_tokenizer=byte_level(use_regex=True, add_prefix_space=True)),
        changed("gpt-2", pre_tokenizer={"type": "ByteLevel"}),
        changed("smollm", pre_tokenizer=sequence(DIGITS | {"individual_digits": False}, byte_level(use_regex=True))),
        changed("smollm", pre_tokenizer=sequence(byte_level(use_regex=True), DIGITS)),
        changed(normalizer={"type": "NFKC"}),
        changed(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}),
        changed(model={"type": "Unigram"}),
        changed(model={"dropout": 0.1}),
        changed(model={"end_of_word_suffix": "</w>"}),
        changed(model={"continuing_subword_prefix": "##"}),
    ],
)
def test_rules_that_llama_cpp_lacks_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json is a tokenizer of a kind that is not known here"):
        parse_tokenizer_json(data, "tokenizer.json")


def test_a_merge_with_a_space_is_refused() -> None:
    merges = [["a", " b"]]
    with pytest.raises(DataError, match="a merge of pieces with spaces, which a GGUF cannot hold"):
        parse_tokenizer_json(changed(model={"merges": merges}), "tokenizer.json")


def test_a_sequence_of_no_normalizers_is_none() -> None:
    data = changed(normalizer={"type": "Sequence", "normalizers": []})
    assert parse_tokenizer_json(data, "tokenizer.json").normal_form == ""
