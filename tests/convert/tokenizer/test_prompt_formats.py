"""The name of a model decides whether it answers or only continues text, if nothing else does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from chat.gguf.reader import read_gguf
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from convert.pipeline import convert
from convert.tokenizer.prompt_formats import is_base_model
from tests.convert.samples import V01, V03, copy_checkpoint

BASE = [
    "Mistral-7B-v0.1",
    "mistralai/Mistral-7B-v0.3",
    "mistral-7B-v0.1",  # the torrent
    "mistralai/Mixtral-8x7B-v0.1",
    "mixtral-8x7b-32kseqlen",  # the torrent
    "mistral-community/Mixtral-8x22B-v0.1",
    "mistralai/Mistral-Nemo-Base-2407",
    "mistralai/Mistral-Small-24B-Base-2501",
]
TAUGHT = [
    "mistral-v0.1",
    "mistral-v0.3",
    "mixtral",
    "model",
    "",
    "Mistral-7B-Instruct-v0.1",
    "mistral-7B-v0.1-instruct",
    "mistralai/Ministral-8B-Instruct-2410",
    "zephyr-7b-beta",
    "Mistral-7B-v0.1-finetuned",
    "someone/my-base-chat",
    "baseball-mistral",
    "database-7b",
]


def test_official_base_models_are_known_by_name_and_no_others() -> None:
    assert [name for name in BASE + TAUGHT if is_base_model(name)] == BASE


@pytest.mark.parametrize(("source", "taught"), [(V01, "v1"), (V03, "v3")])
def test_a_base_model_continues_text_and_the_report_says_how_to_ask_it(
    source: Path, taught: str, tmp_path: Path
) -> None:
    folder = copy_checkpoint(source, tmp_path / "Mistral-7B-v0.1")
    report = convert(ConversionOptions(folder, tmp_path / "out.gguf", "Q8_0"))
    assert report.to_json()["prompt_format"] == "raw"
    assert report.warnings == (
        "Mistral-7B-v0.1 is a base model, which continues text and was not taught to answer; "
        f"`--prompt-format {taught}` at chat time asks it as if it were",
    )
    assert read_gguf(tmp_path / "out.gguf").metadata["mistral_chat.prompt_format"] == "raw"


def test_a_template_tells_more_than_a_name(tmp_path: Path) -> None:
    folder = copy_checkpoint(V01, tmp_path / "Mistral-7B-v0.1")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "[INST] {{ x }} [/INST]"}))
    draft = make_draft(ConversionOptions(folder, tmp_path / "out.gguf"))
    assert (draft.report().to_json()["prompt_format"], draft.warnings) == ("v1", ())


@pytest.mark.parametrize(("source", "expected"), [(V01, "v1"), (V03, "v3")])
def test_where_nothing_is_said_the_vocabularys_format_stays(source: Path, expected: str, tmp_path: Path) -> None:
    for name in ("mistral-7B-Instruct-v0.1", "anything"):
        folder = copy_checkpoint(source, tmp_path / name)
        draft = make_draft(ConversionOptions(folder, tmp_path / "out.gguf"))
        assert (draft.report().to_json()["prompt_format"], draft.warnings) == (expected, ())
        shutil.rmtree(folder)
