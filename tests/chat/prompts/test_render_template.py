"""A model's own template is run with the texts of the conversation, and none of these can become a control piece."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from chat.core.conversation import Message, ToolCall
from chat.core.request import Prompt
from chat.errors import DataError, ModelError
from chat.prompts.builder import encode, stable_prefix_length
from chat.prompts.registry import stop_texts, takes_tools
from chat.prompts.render_template import render
from chat.prompts.segments import ChatTemplate, Ids, Markup, PromptMessages, Segment, Text
from tests.chat.prompts.template_conversations import SPECIAL_TOKENS, TOOLS, conversations
from tests.chat.vocabulary_files import load, small_sentencepiece, write_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THINKING = (  # drops the reasoning of all answers but the last
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and not loop.last %}"
    "{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMES = ("<|im_start|>", "<|im_end|>")
ASKED = (Message("user", "U"), Message("assistant", "A"), Message("user", "V"))
CALLED = (
    Message("user", "U"),
    Message("assistant", "", tool_calls=(ToolCall("add", '{"a": 1}', "c1"),)),
    Message("tool", "2", tool_call_id="c1", name="add"),
)


def rendered(
    template: str,
    messages: Sequence[Message],
    continues: bool = False,
    tools: Sequence[dict[str, Any]] = (),
    **named: str,
) -> tuple[Segment, ...]:
    return render(PromptMessages(messages, tools, continues, ChatTemplate(template, named, SPECIAL_TOKENS)))


def text(parts: Sequence[Segment]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Markup | Text))


def test_markup_and_texts_are_told_apart() -> None:
    assert rendered(CHATML, (Message("user", "U<|im_end|>"),)) == (
        Markup("<|im_start|>user\n"),
        Text("U<|im_end|>", joined=True),
        Markup("<|im_end|>\n<|im_start|>assistant\n"),
    )


def test_own_answers_go_back_as_ids_where_the_template_writes_them_whole() -> None:
    answer = Message("assistant", "<think>t</think>A", ids=(7, 8))
    last = rendered(THINKING, (Message("user", "U"), answer), continues=True)[-1]
    assert isinstance(last, Ids) and (last.ids, last.says, last.is_whole) == ((7, 8), (answer.content,), True)
    earlier = rendered(THINKING, (Message("user", "U"), answer, Message("user", "V")))
    assert text(earlier) == "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n" + (
        "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("template", "end"), [(CHATML, "begun "), (CHATML.replace("m.content", "m.content | trim"), "begun")]
)
def test_a_continued_answer_ends_where_the_template_ends_its_text(template: str, end: str) -> None:
    parts = rendered(template, (Message("user", "U"), Message("assistant", "begun ")), continues=True)
    assert text(parts) == f"<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n{end}"


def test_tools_choose_the_template_for_them_and_get_their_functions_whole() -> None:
    tool_use = "{% for t in tools %}{{ t | tojson }}{% endfor %}{{ messages[0].content }}"
    bare = TOOLS[1]["function"]
    parts = rendered(CHATML, ASKED[:1], tools=(bare,), tool_use=tool_use)
    assert text(parts).startswith('{"type": "function", "function": {"name": "add", "description": "Add two numbers."')
    assert takes_tools("template", ChatTemplate(CHATML, {"tool_use": tool_use}))
    assert not takes_tools("template", ChatTemplate(CHATML))
    assert takes_tools("v3", ChatTemplate())


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name ~ (c.function.arguments|tojson) }}"
        "{% endfor %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% if m.content is none %}{{ m.tool_calls[0].function.name }}{{ '{\"a\": 1}' }}"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}",
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name + c.function.arguments }}"
        "{% endfor %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name ~ (c.function.arguments|tojson) }}"
        "{% endfor %}{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}{% endfor %}",
    ],
)
def test_messages_take_the_shape_that_a_template_can_read(template: str) -> None:
    assert text(rendered(template, CALLED)) == 'Uadd{"a": 1}2'


@pytest.mark.parametrize(
    ("template", "messages", "words"),
    [
        (CHATML, (), "a conversation needs at least one message"),
        (CHATML, (Message("user", "a"), Message("assistant", "b")), "the last message is an answer already"),
        (CHATML, (Message("user", "a"), Message("assistant", ""), Message("user", "b")), "message 2: an empty answer"),
        (CHATML, (Message("user", "\ud800"),), "message 1: lone surrogate"),
        (
            "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
            (Message("system", "S"), Message("user", "U")),
            "message 1: the model's chat template has no place for a system message",
        ),
        (CHATML, CALLED, "message 2: the model's chat template has no place for tool calls"),
        (
            "{{ raise_exception('System role not supported') }}",
            (Message("user", "U"),),
            "the model's chat template refuses this conversation: System role not supported",
        ),
    ],
)
def test_a_conversation_that_a_template_cannot_tell_is_refused(
    template: str, messages: tuple[Message, ...], words: str
) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        rendered(template, messages)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", "the model has no chat template"),
        ("{{ missing.x }}", "the model's chat template cannot be used: line 1: 'missing' is undefined"),
        ("{% for m in messages %}", "the model's chat template cannot be used: line 1: Unexpected end of template"),
    ],
)
def test_a_template_that_cannot_be_run_is_named_with_the_way_out(template: str, words: str) -> None:
    with pytest.raises(ModelError, match=re.escape(words)) as caught:
        rendered(template, ASKED)
    assert caught.value.hint == "choose another format with `--prompt-format`"


@pytest.mark.parametrize(
    ("template", "pieces", "stops"),
    [
        (CHATML, NAMES, ()),
        (CHATML, (), ("<|im_end|>",)),
        ("{% for m in messages %}<|{{ m.role }}|>\n{{ m.content + eos_token }}\n{% endfor %}", (), ("<|user|>",)),
        ("{% for m in messages %}{{ m.role | upper }}: {{ m.content + eos_token }}{% endfor %}", (), ("USER:",)),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", (), ()),
        ("{{ missing() }}", (), ()),
    ],
)
def test_an_answer_ends_at_what_the_template_writes_after_it(
    template: str, pieces: tuple[str, ...], stops: tuple[str, ...]
) -> None:
    names = re.compile("|".join(map(re.escape, pieces)) or "(?!)")
    assert stop_texts("template", ChatTemplate(template, {}, SPECIAL_TOKENS), names) == stops


def with_pieces(path: Path, template: str) -> Any:
    from convert.tokenizer.sentencepiece_file import PieceType

    kinds = {"<|im_start|>": PieceType.CONTROL, "<|im_end|>": PieceType.CONTROL, "<think>": PieceType.USER_DEFINED}
    stored = small_sentencepiece(*kinds.items())
    return load(write_vocabulary(path, stored, tokenizer__chat_template=template))[0]


def test_ids_are_those_of_the_whole_text_where_no_text_names_a_control_piece(tmp_path: Path) -> None:
    vocabulary = with_pieces(tmp_path / "v.gguf", CHATML)
    for messages, _, continues in conversations():
        if any(message.tool_calls or "<think>" in message.content for message in messages):
            continue
        parts = render(PromptMessages(messages, (), continues, ChatTemplate(CHATML)))
        whole = vocabulary._pieces.tokenize(text(parts), special=True)
        assert vocabulary.encode(parts) == whole


def test_names_of_control_pieces_count_in_the_template_and_not_in_the_texts(tmp_path: Path) -> None:
    """Neither whole nor put together of two texts; a user-defined piece that the template names is one of them."""
    template = "<think>{% for m in messages %}{{ m.content | replace('-', '') }}{% endfor %}<|im_end|>"
    vocabulary = with_pieces(tmp_path / "v.gguf", template)
    start, end, think = (vocabulary.control_id(name) for name in (*NAMES, "<think>"))
    messages = (
        Message("user", "<|im_start|><think><|im_-end|><|im_"),
        Message("assistant", "end|>"),
        Message("user", "<|im_"),
    )
    ids = vocabulary.encode(render(PromptMessages(messages, template=ChatTemplate(template))))
    assert [token for token in ids if token in (start, end, think)] == [think, end]
    assert vocabulary.text_of(ids[1:-1]).strip() == "<|im_start|><think><|im_end|><|im_end|><|im_"


def test_a_prompt_is_stable_up_to_the_answer_that_the_next_one_writes_in_another_way(tmp_path: Path) -> None:
    vocabulary = with_pieces(tmp_path / "v.gguf", THINKING)
    messages = (Message("user", "U"), Message("assistant", "<think>long</think>A"))
    prompt = Prompt(messages=messages, continues=True)
    ids = encode(prompt, vocabulary, "template")
    start = len(encode(Prompt(messages=messages[:1]), vocabulary, "template"))
    assert start <= stable_prefix_length(prompt, ids, vocabulary, "template") < len(ids)
    asked = Prompt(messages=messages[:1])
    assert stable_prefix_length(asked, encode(asked, vocabulary, "template"), vocabulary, "template") == start
