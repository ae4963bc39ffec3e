"""Render conversations in Mistral's own formats, v1 to v13, as mistral-common does. Knows no vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from chat.prompts import tools_json as json_text
from chat.prompts.normalize import NormalizedTurn, turns_of
from chat.prompts.segments import Control, Ids, Segment, Text
from chat.prompts.validate import check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chat.core.conversation import Message
    from chat.prompts.mistral_versions import MistralVersion

_BOS = Control("<s>")
_EOS = Control("</s>")


@dataclass(frozen=True)
class _Scene:
    """What a turn's rendering depends on besides the turn."""

    dialect: MistralVersion
    system: str
    tools: Sequence[Mapping[str, Any]]
    first_user: int
    last_user: int


def render(
    dialect: MistralVersion, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], continues: bool
) -> tuple[Segment, ...]:
    """The segments of a conversation, BOS first.

    Raises:
        DataError: mistral-common refuses such a conversation.
    """
    check(messages, dialect, continues)
    system, turns = turns_of(messages, dialect)
    users = [index for index, turn in enumerate(turns) if turn.role == "user"]
    scene = _Scene(dialect, system, tools, users[0] if users else -1, users[-1] if users else -1)
    if tools and dialect.tools != "none":
        json_text.tools_text(tools)  # refused also where no user message would carry them
    _check_single_results(scene, turns)
    segments: list[Segment] = [_BOS]
    for index, turn in enumerate(turns):
        segments += _RENDER[turn.role](scene, turn, index)
        if turn.role == "assistant" and not _is_left_out(scene, turn, index):
            segments += [] if continues and index == len(turns) - 1 else [_EOS]
    return tuple(segments)


def _check_single_results(scene: _Scene, turns: tuple[NormalizedTurn, ...]) -> None:
    """One result per turn, in formats that can only write one."""
    pairs = zip(turns[scene.last_user :], turns[scene.last_user + 1 :], strict=False)
    called = False
    for before, turn in pairs:
        called = bool(before.calls) if before.role == "assistant" else called and before.role == "tool"
        if scene.dialect.one_result and called and before.role == turn.role == "tool":
            raise DataError(f"the prompt format {scene.dialect.name} has room for one tool result per turn")


def _user(scene: _Scene, turn: NormalizedTurn, index: int) -> Iterator[Segment]:
    dialect = scene.dialect
    if scene.tools and dialect.tools != "none" and index == _place(scene, dialect.tools):
        yield Control("[AVAILABLE_TOOLS]")
        yield Text(json_text.tools_text(scene.tools))
        yield Control("[/AVAILABLE_TOOLS]")
    carries_system = scene.system and index == _place(scene, dialect.system)
    content = f"{scene.system}\n\n{turn.content}" if carries_system else turn.content
    if not dialect.control_tokens:
        yield Text(f"[INST] {content} [/INST]")
        return
    yield Control("[INST]")
    yield Text(content)
    yield Control("[/INST]")


def _place(scene: _Scene, which: str) -> int:
    return {"first": scene.first_user, "last": scene.last_user}[which]


def _system(scene: _Scene, turn: NormalizedTurn, index: int) -> Iterator[Segment]:
    yield Control("[SYSTEM_PROMPT]")
    yield Text(turn.content)
    yield Control("[/SYSTEM_PROMPT]")


def _is_left_out(scene: _Scene, turn: NormalizedTurn, index: int) -> bool:
    """Whether it is a call or a result that the format forgets once the user goes on."""
    is_tool_talk = turn.role == "tool" or bool(turn.calls)
    return scene.dialect.forgets_tools and is_tool_talk and index < scene.last_user


def _answer(scene: _Scene, turn: NormalizedTurn, index: int) -> Iterator[Segment]:
    dialect = scene.dialect
    if turn.calls and turn.content and not dialect.answer_and_calls:
        raise DataError("an answer cannot hold both text and tool calls")
    if not (turn.calls or turn.content or turn.ids):
        raise DataError("an empty answer", hint="leave the message out")
    if _is_left_out(scene, turn, index):
        return
    written = tuple(_written(scene, turn))
    if turn.ids:
        call_ids = (call.id for call in turn.calls if dialect.writes_call_ids)
        yield Ids(turn.ids, (turn.content, *(call.name for call in turn.calls), *call_ids), written)
    else:
        yield from written


def _written(scene: _Scene, turn: NormalizedTurn) -> Iterator[Segment]:
    """An answer's text and calls, as they are when nobody knows the ids."""
    if turn.content:
        yield Text(turn.content.rstrip(" ") if scene.dialect.strips_answers else turn.content)
    if turn.calls:
        yield from _calls(scene, turn)


def _calls(scene: _Scene, turn: NormalizedTurn) -> Iterator[Segment]:
    if scene.dialect.calls == "json":
        yield Control("[TOOL_CALLS]")
        yield Text(json_text.calls_text(turn.calls, with_ids=scene.dialect.writes_call_ids))
        return
    for call in turn.calls:
        yield Control("[TOOL_CALLS]")
        yield Text(call.name)
        if scene.dialect.calls == "blocks with id":
            yield Control("[CALL_ID]")
            yield Text(call.id)
        yield Control("[ARGS]")
        yield Text(json_text.arguments_text(call))


def _result(scene: _Scene, turn: NormalizedTurn, index: int) -> Iterator[Segment]:
    if _is_left_out(scene, turn, index):
        return
    kind = scene.dialect.results
    yield Control("[TOOL_RESULTS]")
    if kind == "id and text":
        yield Text(turn.call_id)
        yield Control("[TOOL_CONTENT]")
    is_json = kind in ("json", "json list")
    yield Text(json_text.result_text(turn, kind == "json list") if is_json else turn.content)
    yield Control("[/TOOL_RESULTS]")


_RENDER = {"user": _user, "system": _system, "assistant": _answer, "tool": _result}
