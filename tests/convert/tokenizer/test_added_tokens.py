"""Added tokens, end tokens and templates are those of all files of a folder, in the order of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chat.errors import DataError
from chat.gguf.reader import read_gguf
from chat.gguf.validate_vocabulary import check_vocabulary
from convert.draft import ConversionOptions
from convert.pipeline import convert
from convert.tokenizer.load import read_vocabulary
from convert.tokenizer.sentencepiece_file import PieceType
from tests.chat.vocabulary_files import load, write_vocabulary
from tests.convert.samples import V01, Sizes, make_checkpoint
from tests.convert.tokenizer.saved_folders import STEPS, tokenizer_json
from tests.convert.tokenizer.test_load import CHATML, INST, folder_with


def added(token: int, text: str, **more: Any) -> dict[str, Any]:
    return {"id": token, "content": text, "special": True, **more}


def fast_json(*tokens: dict[str, Any], source: Path = V01, **more: Any) -> dict[str, Any]:
    """The tokenizer.json of a checkpoint with further added tokens."""
    made = tokenizer_json(source, *STEPS["prepend"])
    return {**made, "added_tokens": [*made["added_tokens"], *tokens], **more}


def without_id(text: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in added(0, text, **more).items() if key != "id"}


CONTROL, USER_DEFINED = PieceType.CONTROL, PieceType.USER_DEFINED


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer__json": fast_json(added(512, "<a>"), added(513, "note", special=False))},
        {"tokenizer_config__json": {"added_tokens_decoder": {"512": without_id("<a>"), "513": {"content": "note"}}}},
        {"added_tokens__json": {"<a>": 512, "note": 513}, "special_tokens_map__json": {"eos_token": "<a>"}},
        {
            "tokenizer__json": fast_json(added(512, "<a>")),
            "tokenizer_config__json": {"added_tokens_decoder": {"513": {"content": "note"}}},
        },
        {
            "tokenizer__json": fast_json(added(512, "<a>", special=False)),
            "special_tokens_map__json": {"additional_special_tokens": [{"content": "<a>"}]},
            "added_tokens__json": {"note": 513},
        },
        {
            "tokenizer__json": fast_json(added(512, "<a>", special=False)),
            "tokenizer_config__json": {"extra_special_tokens": {"image_token": "<a>"}},
            "added_tokens__json": {"note": 513},
        },
    ],
    ids=lambda files: "+".join(name.partition("__")[0] for name in files),
)
def test_added_tokens_are_those_of_all_files(files: dict[str, Any], tmp_path: Path) -> None:
    """Tokens that only tokenizer.json names became `[PADn]` where tokenizer.model lay beside it, without a word."""
    vocabulary = read_vocabulary(folder_with(tmp_path / "x", **files), 514)
    assert [(piece.text, piece.type) for piece in vocabulary.pieces[512:]] == [
        (b"<a>", CONTROL),
        (b"note", USER_DEFINED),
    ]
    assert vocabulary.warnings == ()


def test_a_token_that_transformers_finds_only_after_a_space_is_said(tmp_path: Path) -> None:
    """`add_tokens` marks tokens so; with the space before a text as a normalizer, `x<note>` is spelled out there."""
    note, plain = (added(token, f"<{token}>", special=False, normalized=token == 512) for token in (512, 513))
    (warning,) = read_vocabulary(folder_with(tmp_path / "x", tokenizer__json=fast_json(note, plain)), 514).warnings
    assert warning == (
        "`<512>` is marked as normalized in tokenizer.json: in the middle of a text, transformers can give other ids "
        "there than this program"
    )
    two = fast_json(note, {**plain, "normalized": True})
    (warning,) = read_vocabulary(folder_with(tmp_path / "x", tokenizer__json=two), 514).warnings
    assert warning.startswith("2 added tokens, the first is `<512>`, are marked as normalized")
    metaspace = fast_json(note, plain, normalizer=None, pre_tokenizer=STEPS["metaspace-first"][1])
    assert read_vocabulary(folder_with(tmp_path / "x", tokenizer__json=metaspace), 514).warnings == ()


def test_special_tokens_without_an_id_take_the_next_rows(tmp_path: Path) -> None:
    """transformers adds them after the last piece: those with a use first, then the listed ones."""
    names = {"additional_special_tokens": ["<b>", "</s>"], "pad_token": "<c>", "eos_token": "<a>"}
    vocabulary = read_vocabulary(folder_with(tmp_path / "x", special_tokens_map__json=names), 515)
    assert [piece.text for piece in vocabulary.pieces[512:]] == [b"<a>", b"<c>", b"<b>"]
    assert (vocabulary.eos, vocabulary.warnings) == (512, ())
    fewer = read_vocabulary(folder_with(tmp_path / "x", special_tokens_map__json=names), 512)
    assert (fewer.eos, fewer.warnings) == (
        2,
        ("added token `<a>` has id 512, but the model has rows for 512: left out",),
    )


@pytest.mark.parametrize(
    ("files", "expected", "warning"),
    [
        (
            {
                "tokenizer__json": fast_json(added(512, "<a>")),
                "tokenizer_config__json": {"added_tokens_decoder": {"512": without_id("<b>")}},
            },
            b"<a>",
            "id 512 is `<a>` in tokenizer.json, but `<b>` in tokenizer_config.json: tokenizer.json is followed",
        ),
        (
            {
                "tokenizer_config__json": {"added_tokens_decoder": {"512": without_id("<b>")}},
                "added_tokens__json": {"<c>": 512},
            },
            b"<b>",
            "id 512 is `<b>` in tokenizer_config.json, but `<c>` in added_tokens.json: tokenizer_config.json is "
            "followed",
        ),
        (
            {"tokenizer__json": fast_json(added(512, "<a>")), "added_tokens__json": {"<a>": 511}},
            b"<a>",
            "`<a>` has id 512 in tokenizer.json, but 511 in added_tokens.json: tokenizer.json is followed",
        ),
    ],
)
def test_files_that_disagree_are_warned_of(
    files: dict[str, Any], expected: bytes, warning: str, tmp_path: Path
) -> None:
    vocabulary = read_vocabulary(folder_with(tmp_path / "x", **files), 513)
    assert (vocabulary.pieces[512].text, vocabulary.warnings) == (expected, (warning,))


def test_a_reserved_piece_is_renamed_in_silence_and_another_one_with_a_word(tmp_path: Path) -> None:
    """Fine-tunes of v0.3 give `[control_n]` a name; the tiny vocabulary has none of these, so one is made."""
    decoder = {"400": without_id("<a>")}
    folder = folder_with(tmp_path / "x", tokenizer_config__json={"added_tokens_decoder": decoder})
    old = read_vocabulary(folder_with(tmp_path / "y"), 512).pieces[400].text.decode()
    (warning,) = read_vocabulary(folder, 512).warnings
    assert warning == (
        f"id 400 is `{old}` in tokenizer.model, but `<a>` in tokenizer_config.json: tokenizer_config.json is followed"
    )
    reserved = read_vocabulary(folder_with(tmp_path / "x", tokenizer__json=fast_json(added(512, "[control_9]"))), 513)
    assert reserved.pieces[512].text == b"[control_9]"


def test_tokenizer_json_is_followed_where_its_pieces_are_others(tmp_path: Path) -> None:
    made = fast_json()
    names = list(made["model"]["vocab"])
    swapped = dict(zip(names, [*range(510), 511, 510], strict=True))
    made["model"] |= {"vocab": swapped}
    vocabulary = read_vocabulary(folder_with(tmp_path / "x", tokenizer__json=made), 512)
    assert [piece.text.decode() for piece in vocabulary.pieces[510:]] == [names[511], names[510]]
    assert vocabulary.warnings == (
        "tokenizer.json and tokenizer.model name 2 pieces differently (the first is id 510): tokenizer.json is used, "
        "as transformers does",
    )


def test_a_broken_tokenizer_json_beside_another_tokenizer_is_left_out_with_a_word(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(folder_with(tmp_path / "x", tokenizer__json="{"), 512)
    assert [warning[-10:] for warning in vocabulary.warnings] == [": left out"]


def test_added_tokens_without_rows_are_left_out_of_a_tokenizer_json_too(tmp_path: Path) -> None:
    """A pad token that was added without a row for it, as many fine-tunes have it."""
    folder = folder_with(tmp_path / "x", tokenizer__json=fast_json(added(512, "<pad>")))
    (folder / "tokenizer.model").unlink()
    vocabulary = read_vocabulary(folder, 512)
    assert vocabulary.warnings == ("added token `<pad>` has id 512, but the model has rows for 512: left out",)


@pytest.mark.parametrize("where", ["tokenizer__json", "tokenizer_config__json", "added_tokens__json"])
def test_the_end_token_is_the_one_that_is_named(where: str, tmp_path: Path) -> None:
    """Its id was looked for in tokenizer_config.json alone, and 2 was written."""
    files: dict[str, Any] = {
        "tokenizer__json": fast_json(added(512, "<|im_end|>")),
        "tokenizer_config__json": {"added_tokens_decoder": {"512": without_id("<|im_end|>")}},
        "added_tokens__json": {"<|im_end|>": 512},
    }
    config = {"eos_token": "<|im_end|>", **(files[where] if where == "tokenizer_config__json" else {})}
    kept = {where: files[where], "tokenizer_config__json": config, "config__json": {"eos_token_id": 2}}
    vocabulary = read_vocabulary(folder_with(tmp_path / "x", **kept), 513)
    assert (vocabulary.eos, vocabulary.further_ends) == (512, (2,))


def test_a_name_in_the_vocabulary_itself_is_found_too(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "x", special_tokens_map__json={"eos_token": "<s>", "bos_token": "</s>"})
    vocabulary = read_vocabulary(folder, 512)
    assert (vocabulary.eos, vocabulary.bos) == (1, 2)


def test_the_names_of_the_two_files_are_followed_in_the_order_of_transformers(tmp_path: Path) -> None:
    names = {"special_tokens_map__json": {"eos_token": "<s>"}, "tokenizer_config__json": {"eos_token": "</s>"}}
    vocabulary = read_vocabulary(folder_with(tmp_path / "old", **names), 512)
    assert (vocabulary.eos, vocabulary.warnings) == (
        1,
        (
            "`eos_token` is `</s>` in tokenizer_config.json, but `<s>` in special_tokens_map.json: "
            "special_tokens_map.json is followed",
        ),
    )
    names["tokenizer_config__json"]["added_tokens_decoder"] = {}
    assert read_vocabulary(folder_with(tmp_path / "new", **names), 512).eos == 2


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_every_end_token_ends_an_answer(count: int, tmp_path: Path) -> None:
    """llama.cpp's keys have room for three; the third was dropped."""
    names = [f"<e{number}>" for number in range(count - 1)]
    folder = make_checkpoint(tmp_path / "model", Sizes(layers=1, width=64, heads=2, hidden=64, vocabulary=520))
    (folder / "tokenizer.json").write_text(
        json.dumps(fast_json(*(added(512 + n, name) for n, name in enumerate(names))))
    )
    ends = [2, *range(512, 511 + count)]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    convert(ConversionOptions(folder, tmp_path / "out.gguf", "F32", show_progress=False))
    vocabulary, metadata = load(tmp_path / "out.gguf")
    keys = ("eos", "eot", "eom")
    found = [metadata.get(f"tokenizer.ggml.{key}_token_id") for key in keys]
    assert found == [*ends, None, None][:3]
    assert metadata.get("mistral_chat.end_token_ids") == (tuple(ends) if count > 3 else None)
    assert vocabulary.ends == set(ends)
    assert [token for token in range(vocabulary.size) if vocabulary.is_end(token)] == ends


def test_end_tokens_that_the_vocabulary_lacks_are_refused(tmp_path: Path) -> None:
    stored = read_vocabulary(folder_with(tmp_path / "x"), 512)
    path = write_vocabulary(tmp_path / "v.gguf", stored, mistral_chat__end_token_ids="2")
    with pytest.raises(DataError, match=r"key .mistral_chat.end_token_ids. is str, but must be \[u32\]"):
        check_vocabulary(read_gguf(path), strict=True)


def test_a_file_with_the_template_replaces_what_the_configuration_says(tmp_path: Path) -> None:
    config = {"chat_template": [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": CHATML}]}
    folder = folder_with(tmp_path / "x", tokenizer_config__json=config, chat_template__jinja=INST)
    vocabulary = read_vocabulary(folder, 512)
    assert (dict(vocabulary.chat_templates), vocabulary.prompt_format) == ({"default": INST}, "v1")
    assert vocabulary.warnings == (
        "the chat template in chat_template.jinja is another one than in tokenizer_config.json: chat_template.jinja is "
        "followed",
    )
    more = folder / "additional_chat_templates"
    more.mkdir()
    (more / "rag.jinja").write_text("r")
    assert dict(read_vocabulary(folder, 512).chat_templates) == {"default": INST, "rag": "r"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": INST}))
    assert read_vocabulary(folder, 512).warnings == ()


@pytest.mark.parametrize(
    ("first", "stated", "expected"),
    [
        (True, None, None),
        (True, True, True),
        (True, False, True),
        (False, None, False),
        (False, True, False),
        (None, True, True),
        (None, False, False),
    ],
)
def test_transformers_asks_tokenizer_json_first_whether_texts_begin_with_bos(
    first: bool | None, stated: bool | None, expected: bool | None, tmp_path: Path
) -> None:
    made = fast_json()
    if first is None:
        made["post_processor"] = None
    elif not first:
        made["post_processor"]["single"].pop(0)
    config = {} if stated is None else {"add_bos_token": stated}
    folder = folder_with(tmp_path / "x", tokenizer__json=made, tokenizer_config__json=config)
    assert read_vocabulary(folder, 512).add_bos is expected
