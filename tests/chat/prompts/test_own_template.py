"""A template is Mistral's own if it writes what the format writes; else it is run."""

from __future__ import annotations

from typing import Any

import pytest

from chat.prompts.detect import Detected, detect_format
from chat.prompts.own_template import confirmed
from tests.chat.prompts.test_detect import V1_OF_0_1, V3, V7, V11, V13, metadata, mistral_template
from tests.chat.prompts.test_template_references import references

V1_WITH_SYSTEM = (  # as Mistral-7B-Instruct-v0.1 has it today, without its checks of the roles
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}"
    "{%- set rest = messages[1:] %}{%- else %}{%- set rest = messages %}{%- endif %}{{- bos_token }}"
    "{%- for m in rest %}{%- if m['role'] == 'user' %}{%- if loop.first and system is defined %}"
    "{{- ' [INST] ' + system + '\n\n' + m['content'] + ' [/INST]' }}{%- else %}"
    "{{- ' [INST] ' + m['content'] + ' [/INST]' }}{%- endif %}{%- else %}{{- ' ' + m['content'] + eos_token }}"
    "{%- endif %}{%- endfor %}"
)
V1_WITHOUT_SYSTEM = (  # as it was in 2023
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token + ' ' }}{% endif %}{% endfor %}"
)
LLAMA_2 = V1_WITH_SYSTEM.replace("system + '\n\n'", "'<<SYS>>' + system + '<</SYS>>'")
ALPACA = "{{ bos_token }}{% for m in messages %}### {{ m.role }} [INST]\n{{ m.content }}\n{% endfor %}"


def found(template: str, pieces: tuple[str, ...], tekken: bool) -> str:
    values: dict[str, Any] = metadata(pieces, template, tekken)
    values |= {"tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 1}
    return confirmed(detect_format(values), values).name


@pytest.mark.parametrize(
    ("name", "template", "pieces", "tekken"),
    [
        ("v1", V1_WITH_SYSTEM, ("<s>", "</s>"), False),
        ("v1", V1_WITHOUT_SYSTEM, ("<s>", "</s>"), False),
        ("v3", mistral_template("v3", True), ("<s>", "</s>", *V3), False),
        ("v7", mistral_template("v7", True), ("<s>", "</s>", *V7[2:]), False),
        ("v3-tekken", mistral_template("v3", False), ("<s>", "</s>", *V7[2:]), True),
        ("v7-tekken", mistral_template("v7", False), ("<s>", "</s>", *V7[2:]), True),
        ("v11", mistral_template("v11", False), ("<s>", "</s>", *V11[2:]), True),
        ("v13", mistral_template("v13", False), ("<s>", "</s>", *V13[2:]), True),
        ("template", LLAMA_2, ("<s>", "</s>"), False),
        ("template", ALPACA, ("<s>", "</s>"), False),
        ("template", V1_OF_0_1.replace("[/INST]", "[/INST] Answer:"), ("<s>", "</s>"), False),
        ("template", "{% if [INST] %}", ("<s>", "</s>"), False),
    ],
)
def test_the_template_decides(name: str, template: str, pieces: tuple[str, ...], tekken: bool) -> None:
    assert found(template, pieces, tekken) == name


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("mistralai-Mistral-Nemo-Instruct-2407", "v3-tekken"),
        ("Mistral-Small-3.2-24B-Instruct-2506", "v11"),
        ("unsloth-mistral-Devstral-Small-2507", "v13"),
    ],
)
def test_releases_with_a_default_system_prompt_are_told_too(release: str, name: str) -> None:
    pieces = ("<s>", "</s>", *(V13[2:] if name == "v13" else V11[2:] if name == "v11" else V7[2:]))
    assert found(references()[release]["template"], pieces, True) == name


def test_what_the_file_or_the_user_names_is_not_doubted() -> None:
    values = metadata(("<s>", "</s>"), ALPACA)
    named = Detected("v1", "the file names it", is_named=True)
    assert confirmed(named, values) is named
