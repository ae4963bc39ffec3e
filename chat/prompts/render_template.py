"""Render prompts with a model's own chat template, which is run and gets what transformers gives it.

Three ways were considered to keep what a user, a file or a tool writes from being read as control tokens. Placeholders
for the texts change what a template sees that trims, splits, compares or measures them. Marks inside the texts around
names of control pieces, which transformers offers, change it too where the texts have such names, and miss names that
a template joins out of several texts. So the texts go in as they are, and every character of the result knows who wrote
it (`TracedText`): only a name of which the template wrote each character becomes a control piece. An operation that is
not traced makes data, never markup.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chat.core.conversation import Message
from chat.errors import ChatError, DataError, ModelError
from chat.prompts.segments import BEGIN_THINK_TEXT, ChatTemplate, Ids, Markup, PromptMessages, Segment, Text, texts_of
from chat.prompts.tools_json import loads, tools_text
from chat.prompts.traced_text import DATA, FIRST_PART, TEMPLATE, TracedText
from chat.prompts.validate import check_ending, check_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chat.core.conversation import ToolCall

_HINT = "choose another format with `--prompt-format`"


@dataclass(frozen=True)
class _Shape:
    """How messages are put into the dictionaries that a template reads.

    Attributes:
        empty_content: the content of an answer that has calls but no text.
        has_parts: a content is a list of parts, each with its type.
        parses_arguments: the arguments of a call are a dictionary, else JSON text.
    """

    empty_content: Literal["text", "absent", "null"] = "text"
    has_parts: bool = False
    parses_arguments: bool = True


# The first is that of transformers' documentation. The others are for templates that can read only these, which shows
# in an error, or in a text that is missing in the prompt.
_SHAPES = (_Shape(), _Shape(has_parts=True))
_SHAPES_WITH_CALLS = (
    _Shape(),
    _Shape("absent"),
    _Shape("null"),
    _Shape(has_parts=True),
    _Shape(parses_arguments=False),
    _Shape("null", parses_arguments=False),
)


def render(prompt: PromptMessages) -> tuple[Segment, ...]:
    """The segments of a conversation in the model's own chat template.

    Raises:
        DataError: an end that asks for no answer, an empty answer, a message that the template leaves out, or a
            conversation that it refuses.
        ModelError: the model has no template, or it cannot be run.
    """
    check_values(prompt.messages)
    check_ending(prompt.messages, prompt.continues)
    for number, message in enumerate(prompt.messages, 1):
        if message.role == "assistant" and not (
            message.content or message.reasoning or message.ids or message.tool_calls
        ):
            raise DataError(f"message {number}: an empty answer", hint="leave the message out")
    if prompt.tools:
        tools_text(prompt.tools)  # refuses faulty ones
    return tuple(_segments(_readable(prompt), prompt.messages))


def written(messages: Sequence[Message], template: ChatTemplate) -> str:
    """What a template makes of messages, whether all of them are in it or not.

    Raises:
        TemplateFailedError: the template cannot be run, or refuses the messages.
    """
    return _apply(template.text, PromptMessages(messages, template=template), _Shape())


def takes_tools(template: ChatTemplate) -> bool:
    """Whether a template has a place for the functions on offer."""
    from chat.prompts.jinja_sandbox import variables_of

    return "tools" in variables_of(template.for_tools(True))


def stop_texts(template: ChatTemplate, special_names: re.Pattern[str]) -> tuple[str, ...]:
    """The texts that end an answer where the template writes no control piece after it.

    Args:
        template: the model's.
        special_names: finds names of control pieces.
    """
    try:
        parts = render(
            PromptMessages((Message("user", "U"), Message("assistant", "A"), Message("user", "V")), template=template)
        )
    except ChatError:  # the first prompt reports it
        return ()
    texts = texts_of(parts)
    if texts.count("A") != 1 or "V" not in texts[texts.index("A") :]:
        return ()
    between = "".join(texts[texts.index("A") + 1 : texts.index("V")])
    between = between.removeprefix(template.tokens.get("eos_token") or "\0")
    lines = between.split() and between.strip().splitlines()
    if not lines or special_names.search(between) or len(lines[0]) < 3 or lines[0].isalnum():
        return ()
    return (lines[0],)


def _readable(prompt: PromptMessages) -> TracedText:
    """The prompt in the first shape that the template can read."""
    from chat.prompts.jinja_sandbox import TemplateFailedError

    assert prompt.template is not None
    text = prompt.template.for_tools(bool(prompt.tools))
    if not text:
        raise ModelError("the model has no chat template", hint=_HINT)
    missing: str | None = None
    first: TemplateFailedError | None = None
    has_calls = any(message.tool_calls for message in prompt.messages)
    for shape in _SHAPES_WITH_CALLS if has_calls else _SHAPES:
        try:
            written = _apply(text, prompt, shape)
        except TemplateFailedError as fault:
            first = first or fault
            if fault.is_final:
                break
            continue
        lost = _left_out(written, prompt)
        if lost is None:
            return written
        missing = missing or lost
    if missing is not None:
        raise DataError(missing)
    assert first is not None
    if first.refuses:
        reason = f": {first}" if str(first) else ""
        raise DataError(f"the model's chat template refuses this conversation{reason}", hint=_HINT) from first
    raise ModelError(f"the model's chat template cannot be used: {first}", hint=_HINT) from first


def _apply(text: str, prompt: PromptMessages, shape: _Shape) -> TracedText:
    from chat.prompts.jinja_sandbox import render as render_jinja

    assert prompt.template is not None
    tag = f"\ue0f0{secrets.token_hex(8)}\ue0f1 " if prompt.continues else ""
    messages = [
        _message(message, index, shape, tag if index == len(prompt.messages) - 1 else "")
        for index, message in enumerate(prompt.messages)
    ]
    variables = {
        **{name: TracedText(token, TEMPLATE * len(token)) for name, token in prompt.template.tokens.items()},
        "messages": messages,
        "tools": [_traced(_wrapped(tool)) for tool in prompt.tools] or None,
        "documents": None,
        **{name: _setting(value) for name, value in prompt.settings.items()},
        "add_generation_prompt": not prompt.continues,
    }
    written = render_jinja(text, variables)
    return _cut(written, tag, len(messages)) if tag else written


def _cut(written: TracedText, tag: str, number: int) -> TracedText:
    """The prompt up to the end of the answer that is continued, where `tag` stands."""
    at = written.rfind(tag.strip())
    if at < 0:
        raise DataError(f"message {number}: the model's chat template has no place for an answer to be continued")
    before = TracedText(written[:at])
    return before if written[at : at + len(tag)] == tag else TracedText(before.rstrip())


def _message(message: Message, index: int, shape: _Shape, tag: str) -> dict[str, Any]:
    """A message as transformers gives it to a template."""
    content = _of_part(message.content + tag, index)
    is_open = bool(tag) and message.is_unfinished_reasoning  # a template would close it
    if is_open:
        begin, thought = f"{BEGIN_THINK_TEXT}\n", message.reasoning + tag
        origins = TEMPLATE * len(begin) + chr(FIRST_PART + index) * len(thought)
        content = TracedText(begin + thought, origins)
    plain: dict[str, Any] = {"role": TracedText(message.role, TEMPLATE * len(message.role))}
    if content or not message.tool_calls or shape.empty_content == "text":
        plain["content"] = [{"type": "text", "text": content}] if shape.has_parts else content
    elif shape.empty_content == "null":
        plain["content"] = None
    if message.tool_calls:
        plain["tool_calls"] = [_call(call, index, shape) for call in message.tool_calls]
    if message.reasoning and not is_open:
        plain["reasoning_content"] = _of_part(message.reasoning, index)
    if message.name:
        plain["name"] = TracedText(message.name)
    if message.tool_call_id:
        plain["tool_call_id"] = TracedText(message.tool_call_id)
    return plain


def _call(call: ToolCall, index: int, shape: _Shape) -> dict[str, Any]:
    arguments = loads(call.arguments, f"arguments of {call.name}") if shape.parses_arguments else call.arguments
    function = {"name": _of_part(call.name, index), "arguments": _traced(arguments)}
    return {**({"id": TracedText(call.id)} if call.id else {}), "type": "function", "function": function}


def _setting(value: str | bool) -> TracedText | bool:
    return value if isinstance(value, bool) else TracedText(value, TEMPLATE * len(value))


def _wrapped(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    return tool if "function" in tool else {"type": "function", "function": tool}


def _of_part(text: str, index: int) -> TracedText:
    return TracedText(text, chr(FIRST_PART + index) * len(text))


def _traced(value: Any) -> Any:
    """Values of JSON whose texts are traced as data."""
    if isinstance(value, str):
        return TracedText(value)
    if isinstance(value, list | tuple):
        return [_traced(item) for item in value]
    if isinstance(value, dict):
        return {_traced(key): _traced(item) for key, item in value.items()}
    return value


def _left_out(written: TracedText, prompt: PromptMessages) -> str | None:
    """What the prompt lacks of the conversation, as a sentence; None if everything is there.

    A template may drop calls and results of earlier turns, and answers, but not what a user or a system prompt says.
    """
    origins = set(written._origins)
    last_user = max((index for index, each in enumerate(prompt.messages) if each.role == "user"), default=-1)
    for index, message in enumerate(prompt.messages):
        has_origin = chr(FIRST_PART + index) in origins
        if message.role == "assistant" and message.tool_calls and index > last_user:
            names = [call.name for call in message.tool_calls]
            if not has_origin and not all(_is_in(name, written) for name in names):
                return f"message {index + 1}: the model's chat template has no place for tool calls"
        is_needed = message.role in ("system", "user") or (message.role == "tool" and index > last_user)
        if is_needed and message.content.strip() and not has_origin and not _is_in(message.content, written):
            return f"message {index + 1}: the model's chat template has no place for a {message.role} message"
    return None


def _is_in(text: str, written: str) -> bool:
    escaped = (json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))
    return text.strip() in written or any(each in written for each in escaped)


def _segments(written: TracedText, messages: Sequence[Message]) -> Iterator[Segment]:
    """The parts that the template wrote as markup, the others as text, and whole answers as their ids."""
    for origin, start, end in _runs(written._origins):
        text = str.__getitem__(written, slice(start, end))
        if origin == TEMPLATE:
            yield Markup(text)
            continue
        message = messages[ord(origin) - FIRST_PART] if origin != DATA else None
        plain = Text(text, joined=True)
        is_whole = message is not None and bool(message.ids) and text == message.content
        yield Ids(message.ids, (text,), (plain,), is_whole=True) if message is not None and is_whole else plain


def _runs(text: str) -> Iterator[tuple[str, int, int]]:
    """The runs of one character: (it, where the run starts, where it ends)."""
    end = 0
    while end < len(text):
        start, character = end, text[end]
        other = re.compile(f"[^{re.escape(character)}]", re.DOTALL).search(text, start)
        end = other.start() if other else len(text)
        yield character, start, end
