"""Templates get reasoning, efforts and a refused system prompt as transformers gives them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chat.core.conversation import Message
from chat.core.request import Prompt
from chat.errors import UsageError
from chat.prompts.builder import encode
from tests.chat.vocabulary_files import load, small_sentencepiece, write_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from chat.llama.tokenizer.tokenizer import Tokenizer

# As those of Qwen 3 and DeepSeek: reasoning of the last turn alone, a default system prompt, an effort on request
TEMPLATE = """{% if messages[0].role != 'system' %}(S own){% endif %}
{%- if reasoning_effort is defined %}
  {%- if reasoning_effort not in ['low', 'high'] %}{{ raise_exception('no such effort') }}{% endif %}
  {{- '(E ' + reasoning_effort + ')' }}
{%- endif %}
{%- for m in messages %}
  {%- if m.role == 'system' %}{% if m.content %}(S {{ m.content }}){% endif %}
  {%- elif m.role == 'user' %}(U {{ m.content }})
  {%- else %}(A {% if loop.last and m.reasoning_content %}<think>
{{ m.reasoning_content }}
</think>

{% endif %}{{ m.content }}){% endif %}
{%- endfor %}
{%- if add_generation_prompt %}(A {% endif %}"""
USER = Message("user", "U")
THOUGHT = Message("assistant", "Yes.", finish_reason="length", reasoning="Hm")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("vocabulary") / "v.gguf"
    return load(write_vocabulary(path, small_sentencepiece(), tokenizer__chat_template=TEMPLATE))[0]


def text(vocabulary: Tokenizer, prompt: Prompt) -> str:
    return vocabulary.text_of(encode(prompt, vocabulary, "template")).removeprefix("<s>").strip()


def test_the_template_decides_which_reasoning_is_sent_back(vocabulary: Tokenizer) -> None:
    earlier = Prompt((USER, THOUGHT, USER), default_system=True)
    assert text(vocabulary, earlier) == "(S own)(U U)(A Yes.)(U U)(A"
    cut = Prompt((USER, THOUGHT), continues=True, default_system=True)
    assert text(vocabulary, cut) == "(S own)(U U)(A <think>\nHm\n</think>\n\nYes."


def test_reasoning_that_was_cut_off_stays_open_when_it_is_gone_on_with(vocabulary: Tokenizer) -> None:
    """A template closes the reasoning that it writes, so the answer would have begun."""
    cut = replace(THOUGHT, content="")
    assert text(vocabulary, Prompt((USER, cut), continues=True)) == "(S own)(U U)(A <think>\nHm"


def test_a_template_is_kept_from_its_own_system_prompt(vocabulary: Tokenizer) -> None:
    assert text(vocabulary, Prompt((USER,))) == "(S own)(U U)(A"
    assert text(vocabulary, Prompt((USER,), default_system=False)) == "(U U)(A"
    assert text(vocabulary, Prompt((Message("system", "x"), USER), default_system=False)) == "(S x)(U U)(A"


def test_whether_to_think_is_a_variable_of_the_template(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if enable_thinking is defined %}"
        "{% if enable_thinking %} on{% else %} off{% endif %}{% endif %}{% if thinking is sameas false %}!{% endif %}"
    )
    file = write_vocabulary(tmp_path / "v.gguf", small_sentencepiece(), tokenizer__chat_template=template)
    vocabulary = load(file)[0]
    for thinks, expected in ((None, "U"), (True, "U on"), (False, "U off!")):
        assert text(vocabulary, Prompt((USER,), thinks=thinks)) == expected


def test_an_effort_is_a_variable_of_the_template(vocabulary: Tokenizer) -> None:
    assert text(vocabulary, Prompt((USER,), effort="high")) == "(S own)(E high)(U U)(A"
    with pytest.raises(UsageError, match="the model has no reasoning effort 'max'"):
        text(vocabulary, Prompt((USER,), effort="max"))
