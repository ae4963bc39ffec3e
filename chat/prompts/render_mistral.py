"""Render prompts in Mistral's own formats, v1 to v15, as mistral-common does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.core.conversation import Picture
from chat.errors import DataError
from chat.prompts import tools_json
from chat.prompts.normalize import NormalizedTurn, Thought, normalize, sendable
from chat.prompts.segments import (
    BEGIN_THINK,
    END_THINK,
    PICTURE_END,
    Control,
    Ids,
    IfPieces,
    PictureChunk,
    Segment,
    Text,
)
from chat.prompts.validate import check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chat.prompts.mistral_versions import MistralVersion
    from chat.prompts.segments import PromptMessages

_BOS = Control("<s>")
_EOS = Control("</s>")


@dataclass(frozen=True)
class _Rendering:
    """What the rendering of each turn depends on.

    Attributes:
        system: the system prompt for a user message, "" for none.
        tools: on offer.
        settings: what the model is told, by name.
        first_user: index of the first user turn, -1 for none.
        last_user: index of the last user turn, -1 for none.
    """

    version: MistralVersion
    system: str
    tools: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    first_user: int
    last_user: int


def render(version: MistralVersion, prompt: PromptMessages) -> tuple[Segment, ...]:
    """The segments of a conversation, BOS first.

    Raises:
        DataError: mistral-common refuses such a conversation.
    """
    messages = sendable(prompt.messages, version)
    check(messages, version, prompt.continues)
    system, turns = normalize(messages, version)
    users = [index for index, turn in enumerate(turns) if turn.role == "user"]
    first, last = (users[0], users[-1]) if users else (-1, -1)
    rendering = _Rendering(version, system, prompt.tools, prompt.settings, first, last)
    if prompt.tools and version.tools != "none":
        tools_json.tools_text(prompt.tools)  # refuses faulty tools also where no user message carries them
    _check_single_results(rendering, turns)
    segments: list[Segment] = [_BOS]
    for index, turn in enumerate(turns):
        segments += _RENDER[turn.role](rendering, turn, index)
        if turn.role == "assistant" and not _is_left_out(rendering, turn, index):
            segments += [] if prompt.continues and index == len(turns) - 1 else [_EOS]
    return tuple(segments)


def _check_single_results(rendering: _Rendering, turns: tuple[NormalizedTurn, ...]) -> None:
    """Refuse several results per turn in formats that can write only one."""
    pairs = zip(turns[rendering.last_user :], turns[rendering.last_user + 1 :], strict=False)
    called = False
    for before, turn in pairs:
        called = bool(before.calls) if before.role == "assistant" else called and before.role == "tool"
        if rendering.version.one_result and called and before.role == turn.role == "tool":
            raise DataError(f"the prompt format {rendering.version.name} has room for one tool result per turn")


def _user(rendering: _Rendering, turn: NormalizedTurn, index: int) -> Iterator[Segment]:
    version = rendering.version
    if rendering.tools and version.tools != "none" and index == _user_index(rendering, version.tools):
        yield Control("[AVAILABLE_TOOLS]")
        yield Text(tools_json.tools_text(rendering.tools))
        yield Control("[/AVAILABLE_TOOLS]")
    if rendering.settings and version.settings and index == rendering.first_user:
        yield Control("[MODEL_SETTINGS]")
        yield Text(tools_json.dumps(dict(sorted(rendering.settings.items())), "the model's settings"))
        yield Control("[/MODEL_SETTINGS]")
    carries_system = rendering.system and index == _user_index(rendering, version.system)
    if turn.chunks:  # each is encoded on its own, also the system prompt
        yield Control("[INST]")
        if carries_system:
            yield Text(f"{rendering.system}\n\n")
        yield from _chunks(turn)
        yield Control("[/INST]")
        return
    content = f"{rendering.system}\n\n{turn.content}" if carries_system else turn.content
    if not version.control_tokens:
        yield Text(f"[INST] {content} [/INST]")
        return
    yield Control("[INST]")
    yield Text(content)
    yield Control("[/INST]")


def _user_index(rendering: _Rendering, which: str) -> int:
    return {"first": rendering.first_user, "last": rendering.last_user}[which]


def _system(rendering: _Rendering, turn: NormalizedTurn, index: int) -> Iterator[Segment]:
    yield Control("[SYSTEM_PROMPT]")
    if turn.chunks:
        yield IfPieces(tuple(_chunks(turn)), (Text(turn.content),))
    else:
        yield Text(turn.content)
    yield Control("[/SYSTEM_PROMPT]")


def _is_left_out(rendering: _Rendering, turn: NormalizedTurn, index: int) -> bool:
    """Whether a turn has calls or results that the format leaves out after the next user message."""
    uses_tools = turn.role == "tool" or bool(turn.calls)
    return rendering.version.forgets_tools and uses_tools and index < rendering.last_user


def _answer(rendering: _Rendering, turn: NormalizedTurn, index: int) -> Iterator[Segment]:
    version = rendering.version
    if turn.calls and turn.content and not version.answer_and_calls:
        raise DataError("an answer cannot hold both text and tool calls")
    if not (turn.calls or turn.content or turn.chunks or turn.ids):
        raise DataError("an empty answer", hint="leave the message out")
    if _is_left_out(rendering, turn, index):
        return
    written = tuple(_written(rendering, turn))
    if turn.ids:
        call_ids = (call.id for call in turn.calls if version.writes_call_ids)
        thoughts = () if turn.content else (chunk.text for chunk in turn.chunks if isinstance(chunk, Thought))
        says = (turn.content, *thoughts, *(call.name for call in turn.calls), *call_ids)
        yield Ids(turn.ids, says, written)
    else:
        yield from written


def _written(rendering: _Rendering, turn: NormalizedTurn) -> Iterator[Segment]:
    """An answer's reasoning, text and calls, for answers without ids."""
    if turn.chunks:
        for chunk in turn.chunks:
            yield from (IfPieces(tuple(_thought(chunk))),) if isinstance(chunk, Thought) else _chunk(chunk)
    elif turn.content:
        yield Text(turn.content.rstrip(" ") if rendering.version.strips_answers else turn.content)
    if turn.calls:
        yield from _calls(rendering, turn)


def _chunks(turn: NormalizedTurn) -> Iterator[Segment]:
    for chunk in turn.chunks:
        yield from _thought(chunk) if isinstance(chunk, Thought) else _chunk(chunk)


def _chunk(chunk: str | Picture) -> tuple[Segment, ...]:
    return (PictureChunk(chunk), PICTURE_END) if isinstance(chunk, Picture) else (Text(chunk),)


def _thought(thought: Thought) -> Iterator[Segment]:
    yield BEGIN_THINK
    yield Text(thought.text)
    if thought.is_closed:
        yield END_THINK


def _calls(rendering: _Rendering, turn: NormalizedTurn) -> Iterator[Segment]:
    if rendering.version.calls == "json":
        yield Control("[TOOL_CALLS]")
        yield Text(tools_json.calls_text(turn.calls, with_ids=rendering.version.writes_call_ids))
        return
    for call in turn.calls:
        yield Control("[TOOL_CALLS]")
        yield Text(call.name)
        if rendering.version.calls == "blocks with id":
            yield Control("[CALL_ID]")
            yield Text(call.id)
        yield Control("[ARGS]")
        yield Text(tools_json.arguments_text(call))


def _result(rendering: _Rendering, turn: NormalizedTurn, index: int) -> Iterator[Segment]:
    if _is_left_out(rendering, turn, index):
        return
    kind = rendering.version.results
    yield Control("[TOOL_RESULTS]")
    if kind == "id and text":
        yield Text(turn.call_id)
        yield Control("[TOOL_CONTENT]")
    is_json = kind in ("json", "json list")
    yield Text(tools_json.result_text(turn, kind == "json list") if is_json else turn.content)
    yield Control("[/TOOL_RESULTS]")


_RENDER = {"user": _user, "system": _system, "assistant": _answer, "tool": _result}
