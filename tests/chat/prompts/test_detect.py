"""Prompt formats are told from metadata: our key, else the chat template and the vocabulary's control pieces."""

from __future__ import annotations

from typing import Any

import pytest
from mistral_common.integrations.chat_templates.chat_templates import generate_chat_template
from mistral_common.tokens.tokenizers.base import TokenizerVersion

from chat.prompts.detect import Detected, UnknownFormatError, detect_format
from chat.prompts.registry import FORMATS

V2 = ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[control_8]")
V3 = ("<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "[PREFIX]", "[REFERENCE_DOC_0]")
V7 = (*V3, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]")
V11 = (*V7, "[ARGS]", "[CALL_ID]")
V13 = (*V11, "[THINK]", "[/THINK]")
V15 = (*V13, "[MODEL_SETTINGS]", "[/MODEL_SETTINGS]")
CHATML = "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>'}}{% endfor %}"
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}"
)
PHI = "{% if m['role'] == 'user' %}{{ '<|user|>\n' + m['content'] + '<|end|>\n<|assistant|>\n' }}{% endif %}"
LLAMA2 = "{{ bos_token + '[INST] <<SYS>>' + system + '<</SYS>>' + content + ' [/INST]' }}"
GEMMA = "<start_of_turn>user"
V1_OF_0_1 = "{{ bos_token }}{% for m in messages %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endfor %}"


def metadata(
    pieces: tuple[str, ...] = ("<s>", "</s>"), template: str = "", tekken: bool = False, **more: Any
) -> dict[str, Any]:
    tokens = (*pieces, "[INST]ed", "word")
    made: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2" if tekken else "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": (*(3 for _ in pieces), 1, 1),
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return made | ({"tokenizer.chat_template": template} if template else {})


def mistral_template(version: str, spm: bool) -> str:
    """The chat template that mistral-common generates for a version, as newer releases carry it."""
    return generate_chat_template(
        spm=spm,
        tokenizer_version=TokenizerVersion(version),
        image_support=False,
        audio_support=False,
        thinking_support=version in ("v13", "v15"),
        default_system_prompt=None,
        plain_thinking_support=False,
        use_special_token_variables=True,
        model_settings_fields=None,
        reasoning_effort_values=("none", "high") if version == "v15" else None,
        reasoning_effort_default="high" if version == "v15" else None,
    )


@pytest.mark.parametrize("name", FORMATS)
def test_our_own_key_decides(name: str) -> None:
    found = detect_format(metadata(V7, CHATML, mistral_chat__prompt_format=name))
    assert found == Detected(name, "the file names it")


@pytest.mark.parametrize(
    ("name", "version", "pieces", "tekken"),
    [
        ("v1", "v1", ("<s>", "</s>"), False),
        ("v2", "v2", V2, False),
        ("v3", "v3", V3, False),
        ("v7", "v7", V7, False),
        ("v3-tekken", "v3", V7, True),
        ("v7-tekken", "v7", V7, True),
        ("v11", "v11", V11, True),
        ("v13", "v13", V13, True),
        ("v15", "v15", V15, True),
    ],
)
def test_mistrals_own_templates_are_told_by_template_and_vocabulary(
    name: str, version: str, pieces: tuple[str, ...], tekken: bool
) -> None:
    found = detect_format(metadata(pieces, mistral_template(version, not tekken), tekken))
    assert found == Detected(name, f"its chat template and vocabulary are those of {name}")


@pytest.mark.parametrize(
    ("expected", "pieces", "template", "tekken"),
    [
        (Detected("v1", "its chat template and vocabulary are those of v1"), ("<s>",), V1_OF_0_1, False),
        (Detected("template", "its chat template is not one of Mistral's"), V3, CHATML, False),
        (Detected("template", "its chat template is not one of Mistral's"), ("<|im_start|>",), CHATML, True),
        (Detected("template", "its chat template is not one of Mistral's"), ("<s>",), ZEPHYR, False),
        (Detected("template", "its chat template is not one of Mistral's"), ("<|end|>",), PHI, False),
        (Detected("template", "its chat template is not one of Mistral's"), ("<s>",), LLAMA2, False),
        (Detected("template", "its chat template is not one of Mistral's"), ("<bos>",), GEMMA, False),
        (Detected("template", "its chat template is not one of Mistral's"), ("<x>",), V1_OF_0_1, True),
    ],
)
def test_templates_of_fine_tunes_and_other_families(
    expected: Detected, pieces: tuple[str, ...], template: str, tekken: bool
) -> None:
    assert detect_format(metadata(pieces, template, tekken)) == expected


@pytest.mark.parametrize(
    ("name", "pieces", "tekken", "model"),
    [
        ("v2", V2, False, "Mistral 7B"),
        ("v3", V3, False, "Mistral-7B-v0.3"),
        ("v7", V7, False, "Mistral Large 2411"),
        ("v7-tekken", V7, True, "Mistral Small"),
        ("v11", V11, True, "Mistral Small 3.2"),
        ("v13", V13, True, "Magistral"),
        ("v15", V15, True, "Mistral Small 4"),
        ("raw", V3, False, "Mistral Nemo Base 2407"),
        ("raw", ("<s>", "</s>"), False, "mistral-7B-v0.1"),
        ("v1", ("<s>", "</s>"), False, "Mistral-7B-Instruct-v0.1"),
        ("raw", ("<|endoftext|>",), True, "gpt2 instruct"),
        ("raw", ("<s>", "</s>"), False, "italian basement"),
    ],
)
def test_without_a_template_pieces_and_name_decide_and_a_base_model_is_completed(
    name: str, pieces: tuple[str, ...], tekken: bool, model: str
) -> None:
    found = detect_format(metadata(pieces, tekken=tekken, general__name=model))
    assert found.name == name
    assert (found.reason == "it has no chat template") == (name == "raw")


NEWEST = "`--prompt-format v15` prompts it as the newest version that is known"


@pytest.mark.parametrize("key", ["prompt_format", "tokenizer_version"])
def test_a_version_that_is_not_known_is_never_guessed(key: str) -> None:
    """A tokenizer of version v17 was taken for v13, for it has all of v13's pieces."""
    with pytest.raises(UnknownFormatError, match="of version v17, which is not known here") as caught:
        detect_format(metadata(V13, tekken=True, **{f"mistral_chat__{key}": "v17"}))
    assert caught.value.hint == NEWEST
    with pytest.raises(UnknownFormatError) as caught:
        detect_format(metadata(V13, "[INST]", tekken=True, **{f"mistral_chat__{key}": "v17"}))
    assert caught.value.hint == f"`--prompt-format template` follows its chat template, {NEWEST}"


def test_marks_of_two_versions_are_never_guessed() -> None:
    with pytest.raises(UnknownFormatError, match="has the pieces of version v15, and its chat template is one of v13"):
        detect_format(metadata(V15, mistral_template("v13", spm=False), tekken=True))


def test_a_name_that_is_no_text_is_passed_over() -> None:
    assert detect_format(metadata(V3, mistral_chat__prompt_format=7)).name == "v3"


def test_metadata_without_a_vocabulary_or_with_bytes_is_read_too() -> None:
    assert detect_format({}).name == "raw"
    assert (
        detect_format({"tokenizer.ggml.tokens": [b"[INST]", b"\xff"], "tokenizer.ggml.token_type": [3, 1]}).name == "v2"
    )
    assert detect_format({"tokenizer.ggml.tokens": ["[INST]"]}).name == "v2"
