"""The properties in which Mistral's prompt formats differ; mistral-common is the source of each value."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


@dataclass(frozen=True)
class MistralVersion:
    """The properties of one format.

    Attributes:
        name: the value of `--prompt-format`.
        system: the place of the system prompt: before the text of the first or last user message, or on its own.
        control_tokens: `[INST]` and the like are control pieces; else they are text.
        tools: the user message before which the tools on offer are written.
        forgets_tools: calls and results before the last user message are left out.
        one_result: at most one tool result per turn.
        results: a list of one JSON object, one JSON object, text after its call id, or text alone.
        calls: a JSON list, or one block per call with or without its id.
        call_ids: unchecked, nine letters or digits, or any that is not empty.
        pairs_results: results have to name calls that have none yet, and are put in the order of the calls.
        answer_and_calls: one answer may hold text and calls.
        strips_answers: spaces at the end of an answer's text are removed.
        thinks: answers hold reasoning, between control pieces of its own.
        system_thinks: so may system prompts, which then show how to think.
        settings: the model is told settings before the first user message.
        pictures: questions may hold pictures.
    """

    name: str
    system: Literal["first", "last", "apart"] = "last"
    control_tokens: bool = True
    tools: Literal["none", "first", "last"] = "last"
    forgets_tools: bool = False
    one_result: bool = False
    results: Literal["none", "json list", "json", "id and text", "text"] = "json"
    calls: Literal["none", "json", "blocks with id", "blocks"] = "json"
    call_ids: Literal["unchecked", "nine", "any"] = "nine"
    pairs_results: bool = False
    answer_and_calls: bool = False
    strips_answers: bool = True
    thinks: bool = False
    system_thinks: bool = False
    settings: bool = False
    pictures: bool = True

    @property
    def writes_call_ids(self) -> bool:
        """Whether calls are written with their ids."""
        return self.calls == "blocks with id" or (self.calls == "json" and self.call_ids != "unchecked")


def _v7_family(name: str, **changes: object) -> MistralVersion:
    values: dict[str, object] = {"system": "apart", "results": "id and text", "answer_and_calls": True, **changes}
    return MistralVersion(name, **values)  # type: ignore[arg-type]


_V13: Mapping[str, Any] = MappingProxyType(
    {"calls": "blocks", "pairs_results": True, "tools": "first", "results": "text", "call_ids": "any", "thinks": True}
)
_ALL = (
    MistralVersion(
        "v1",
        system="first",
        control_tokens=False,
        tools="none",
        results="none",
        calls="none",
        call_ids="unchecked",
        strips_answers=False,
        pictures=False,
    ),
    MistralVersion(
        "v2", forgets_tools=True, one_result=True, results="json list", call_ids="unchecked", pictures=False
    ),
    MistralVersion("v3"),
    MistralVersion("v3-tekken"),
    _v7_family("v7"),
    _v7_family("v7-tekken"),
    _v7_family("v11", calls="blocks with id", pairs_results=True),
    _v7_family("v13", **_V13, system_thinks=True),
    _v7_family("v15", **_V13, settings=True),
)
MISTRAL_VERSIONS: Mapping[str, MistralVersion] = MappingProxyType({version.name: version for version in _ALL})
