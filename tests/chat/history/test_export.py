"""Each format has the whole text; JSON comes back equal; a damaged export is refused with the field that is wrong."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import pytest

from chat.core.answer_details import AnswerDetails
from chat.core.conversation import Conversation, Message, ToolCall
from chat.core.events import Seconds, TokenCounts
from chat.errors import DataError, UsageError
from chat.history.export import ExportFormat, export_text, format_of_suffix
from chat.history.records import SessionRecord
from chat.history.session_json import from_json, to_json

RECORD = SessionRecord(
    id="0123456789abcdef",
    name="buffers",
    title="What is it?",
    model="v0.3",
    system="Be brief.",
    settings={"temperature": 0.2, "stop": ["x"]},
    created=1_700_000_000.0,
    updated=1_700_000_060.0,
)
MESSAGES = (
    ("q1", Message("user", "What is it?\n# no heading of mine")),
    ("a1", Message("assistant", "", (7,), "stop", (ToolCall("look_up", '{"word": "it"}', "abc123xyz"),))),
    ("t1", Message("tool", '{"found": true}', tool_call_id="abc123xyz", name="look_up")),
    ("a2", Message("assistant", "Code:\n\n```python\nk[i % W] < 3\n```\nand so", (1, 2), "length")),
    ("q2", Message("user", "More!")),
    ("a3", Message("assistant", "It kee", (3,), "interrupted")),
)


def tree() -> Conversation:
    """A conversation with one branch beside the current path."""
    conversation = Conversation("Be brief.")
    for node_id, message in MESSAGES:
        conversation = conversation.add(message, node_id)
    other = conversation.with_leaf("a2").add(Message("user", "another way"), "q3")
    return other.with_leaf(conversation.leaf)


def test_markdown_has_a_heading_for_each_message() -> None:
    assert export_text(RECORD, tree(), "markdown") == (
        "# buffers\n\nv0.3 · 6 messages · 2023-11-14T22:14:20Z\n\n"
        "## System\n\nBe brief.\n\n"
        "## You\n\nWhat is it?\n# no heading of mine\n\n"
        '## Assistant\n\n```json\n{"name": "look_up", "arguments": {"word": "it"}}\n```\n\n'
        '## Tool `look_up`\n\n{"found": true}\n\n'
        "## Assistant\n\nCode:\n\n```python\nk[i % W] < 3\n```\nand so\n\n*(cut off at the limit)*\n\n"
        "## You\n\nMore!\n\n"
        "## Assistant\n\nIt kee\n\n*(interrupted)*\n"
    )


def test_sharegpt_is_one_line_with_every_message_of_the_path() -> None:
    text = export_text(RECORD, tree(), "sharegpt")
    assert text.count("\n") == 1 and text.endswith("\n")
    assert json.loads(text) == {
        "id": "0123456789abcdef",
        "model": "v0.3",
        "title": "What is it?",
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "What is it?\n# no heading of mine"},
            {"from": "function_call", "value": '{"name": "look_up", "arguments": {"word": "it"}}'},
            {"from": "observation", "value": '{"found": true}'},
            {"from": "gpt", "value": "Code:\n\n```python\nk[i % W] < 3\n```\nand so"},
            {"from": "human", "value": "More!"},
            {"from": "gpt", "value": "It kee"},
        ],
    }


def test_no_character_of_a_text_ends_a_line_of_json_lines() -> None:
    """Python and other programs split lines at characters that JSON allows in strings."""
    text = "one\u2028two\u2029three\x85four\nfive"
    (line,) = export_text(RECORD, Conversation().add(Message("user", text)), "sharegpt").splitlines()
    assert json.loads(line)["conversations"] == [{"from": "human", "value": text}]


def test_json_has_the_whole_tree_and_comes_back_equal() -> None:
    record, conversation = from_json(export_text(RECORD, tree(), "json"))
    assert conversation == tree()
    assert list(conversation.nodes) == list(tree().nodes)  # the order of branches too
    assert record == replace(RECORD, id="", leaf="a3")


def test_every_format_has_the_reasoning_apart_from_the_answer() -> None:
    thought = Message("assistant", "Yes.", (1,), "stop", reasoning="Is it?\n\n<b>")
    conversation = Conversation().add(Message("user", "So?"), "q").add(thought, "a")
    texts = {kind: export_text(RECORD, conversation, kind) for kind in get_args(ExportFormat)}
    assert texts["markdown"].endswith(
        "## Assistant\n\n<details>\n<summary>Reasoning</summary>\n\nIs it?\n\n<b>\n\n</details>\n\nYes.\n"
    )
    folded = '<details><summary>Reasoning</summary><div class="text" dir="auto">Is it?\n\n&lt;b&gt;</div></details>'
    assert f'{folded}\n<p dir="auto">Yes.</p>' in texts["html"]
    assert texts["text"].endswith("Assistant\n---------\n\n  | Is it?\n  |\n  | <b>\n\nYes.\n")
    said = {"from": "gpt", "value": "Yes.", "reasoning": "Is it?\n\n<b>"}
    assert json.loads(texts["sharegpt"])["conversations"][-1] == said
    assert from_json(texts["json"])[1] == from_json(texts["jsonl"])[1] == conversation


@pytest.mark.parametrize("arguments", ["{broken", "[" * 100_000, "```", ""])
def test_invalid_arguments_of_a_call_are_exported_unchanged(arguments: str) -> None:
    conversation = Conversation().add(Message("assistant", "", tool_calls=(ToolCall("f", arguments),)))
    for kind in get_args(ExportFormat):
        assert "f" in export_text(RECORD, conversation, kind)
    assert from_json(to_json(RECORD, conversation))[1] == conversation


def test_the_fence_of_a_call_is_longer_than_any_in_it() -> None:
    conversation = Conversation().add(Message("assistant", "", tool_calls=(ToolCall("f", "a````"),)))
    block = '`````json\n{"name": "f", "arguments": "a````"}\n`````'
    assert all(f"\n{block}\n" in export_text(RECORD, conversation, kind) for kind in ("markdown", "text"))


def test_plain_text_is_what_the_screen_shows() -> None:
    text = (
        "# Head\n\n- a\n  - [b](https://b.example)\n\n| x | y |\n|--|-:|\n| **1** | 2 |\n\n```sh\nls\x1b\n```\n"
        + "so " * 40
    )
    shown = export_text(RECORD, Conversation().add(Message("user", "*x*\n")).add(Message("assistant", text)), "text")
    assert shown == (
        "buffers\nv0.3 · 2 messages · 2023-11-14T22:14:20Z\n\nYou\n---\n\n*x*\n\nAssistant\n---------\n\n"
        "Head\n\n• a\n  ◦ b (https://b.example)\n\nx  y\n─  ─\n1  2\n\n```sh\nls␛\n```\n\n"
        f"{'so ' * 26}so\n{'so ' * 12}so\n"
    )


def with_details(conversation: Conversation, **details: AnswerDetails) -> Conversation:
    nodes = {**conversation.nodes, **{key: replace(conversation.nodes[key], details=details[key]) for key in details}}
    return replace(conversation, nodes=MappingProxyType(nodes))


def test_every_format_names_the_model_of_each_answer() -> None:
    local = AnswerDetails("7B-Q4_K_M", "", "Q4_K_M", {"seed": 7}, TokenCounts(5, 0, 3), Seconds(0.0, 0.5, 1.0), 9.0)
    conversation = with_details(tree(), a1=local, a3=AnswerDetails("small", "api.example.org"))
    texts = {kind: export_text(RECORD, conversation, kind) for kind in get_args(ExportFormat)}
    about = "7B-Q4_K_M, small on api.example.org · 6 messages · 2023-11-14T22:14:20Z"
    assert all(about in texts[kind] for kind in ("markdown", "text", "html"))
    headings = [line for line in texts["markdown"].splitlines() if line.startswith("## Assistant")]
    assert headings == ["## Assistant (7B-Q4_K_M)", "## Assistant", "## Assistant (small on api.example.org)"]
    assert "Assistant (small on api.example.org)\n---------" in texts["text"]
    assert "<h2>Assistant <span>small on api.example.org</span></h2>" in texts["html"]
    turns = json.loads(texts["sharegpt"])["conversations"]
    assert [turn.get("model") for turn in turns] == [None] * 6 + ["small on api.example.org"]
    assert from_json(texts["json"])[1] == from_json(texts["jsonl"])[1] == conversation
    assert json.loads(texts["json"])["nodes"][1]["details"] == {
        "model": "7B-Q4_K_M",
        "type": "Q4_K_M",
        "sampling": {"seed": 7},
        "tokens": {**asdict(TokenCounts()), "prompt": 5, "generated": 3},
        "seconds": {"load": 0.0, "prompt": 0.5, "generate": 1.0},
        "finished": 9.0,
    }


def test_the_title_is_that_of_the_branch_shown() -> None:
    conversation = tree().with_leaf(None).add(Message("user", "Another\nquestion"), "z")
    record = replace(RECORD, name=None)
    assert export_text(record, conversation, "markdown").startswith("# Another\n\nv0.3 · 1 message · ")
    assert json.loads(export_text(record, conversation, "sharegpt"))["title"] == "Another"
    assert export_text(record, tree(), "markdown").startswith("# What is it?\n")


PATHS = {
    "lora": ["/home/me/a.gguf:0.5", "b.gguf"],
    "schema": r"C:\me\s.json",
    "stop": ["/home/me"],
    "grammar": "root ::= x",
}


@pytest.mark.parametrize("kind", get_args(ExportFormat))
def test_no_format_has_absolute_paths_unless_asked(kind: ExportFormat) -> None:
    record = replace(RECORD, model="/home/me/7B.gguf", model_path="/home/me/7B.gguf", settings=PATHS)
    text = export_text(record, Conversation().add(Message("user", "/etc/hosts")), kind)
    assert "7B.gguf" in text and "/etc/hosts" in text  # what was said stays
    assert "home/me/" not in text and "C:" not in text
    assert "/home/me/7B.gguf" in export_text(record, Conversation(), kind, with_paths=True)
    if kind in ("json", "jsonl"):
        assert from_json(text)[0].settings == {
            "lora": ["a.gguf:0.5", "b.gguf"], "schema": "s.json", "stop": ["/home/me"], "grammar": "root ::= x"
        }  # fmt: skip
        kept = json.loads(export_text(record, Conversation(), kind, with_paths=True))
        assert (kept["model_path"], kept["settings"]) == ("/home/me/7B.gguf", PATHS)


def test_the_suffix_of_a_name_gives_the_format() -> None:
    names = {
        "a.md": "markdown", "a.MARKDOWN": "markdown", "a.json": "json", "a.HTML": "html", "a.txt": "text",
        "a.jsonl": "sharegpt",
    }  # fmt: skip
    assert {name: format_of_suffix(Path(name)) for name in names} == names
    for name, shown in (("chat.pdf", ".pdf"), ("chat", "chat")):
        with pytest.raises(UsageError, match=rf"^there is no export format for `{shown}`$") as caught:
            format_of_suffix(Path(name))
        assert caught.value.hint == "use one of .md, .markdown, .txt, .json, .html, .htm, .jsonl"


def exported(**changes: Any) -> dict[str, Any]:
    return {**json.loads(to_json(RECORD, tree())), **changes}


def node(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": "a", "parent": None, "role": "user", "content": "x", **changes}]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "^this is not JSON: Expecting value"),
        ("[" * 100_000, "^this is not JSON: "),
        ("9" * 10_000, "^this is not JSON: "),
        ([], "^this is JSON, but not an exported session$"),
        ({"format": "other"}, "^this is JSON, but not an exported session$"),
        (exported(version=2), "^version 2 of the session format is not known; this program reads 1$"),
        (exported(version=None), "^version None of the session format is not known; this program reads 1$"),
        (exported(nodes={}), "^nodes: not a list$"),
        (exported(nodes=["x"]), r"^nodes\[0\]: not an object$"),
        (exported(nodes=node(id=""), leaf=None), r"^nodes\[0\]\.id: `` is empty or used twice$"),
        (exported(nodes=node(id=5), leaf=None), r"^nodes\[0\]\.id: not a text$"),
        (exported(nodes=node() + node(), leaf=None), r"^nodes\[1\]\.id: `a` is empty or used twice$"),
        (exported(nodes=node(parent="a"), leaf=None), r"^nodes\[0\]\.parent: no earlier node is `a`$"),
        (exported(nodes=node(parent="\x1b"), leaf=None), r"^nodes\[0\]\.parent: no earlier node is `␛`$"),
        (exported(nodes=node(role="root"), leaf=None), r"^nodes\[0\]\.role: 'root' is not one of system, user"),
        (exported(nodes=node(role=[]), leaf=None), r"^nodes\[0\]\.role: \[\] is not one of"),
        (exported(nodes=node(content=None), leaf=None), r"^nodes\[0\]\.content: not a text$"),
        (
            exported(nodes=node(finish_reason="x"), leaf=None),
            r"^nodes\[0\]\.finish_reason: 'x' is not one of stop",
        ),
        (exported(nodes=node(ids=[True]), leaf=None), r"^nodes\[0\]\.ids: not a list of token ids$"),
        (exported(nodes=node(ids=[2**31]), leaf=None), r"^nodes\[0\]\.ids: not a list of token ids$"),
        (exported(nodes=node(ids="12"), leaf=None), r"^nodes\[0\]\.ids: not a list$"),
        (exported(nodes=node(tool_calls=["x"]), leaf=None), r"^nodes\[0\]\.tool_calls: not a list of objects$"),
        (exported(nodes=node(tool_calls=[{"name": 1}]), leaf=None), r"^nodes\[0\]\.tool_calls\.name: not a text$"),
        (exported(nodes=node(details=3), leaf=None), r"^nodes\[0\]\.details: not an object$"),
        (exported(nodes=node(details={"model": 3}), leaf=None), r"^nodes\[0\]\.details: model is not a text$"),
        (
            exported(nodes=node(details={"tokens": {"prompt": 0.5}}), leaf=None),
            r"^nodes\[0\]\.details: prompt is not a number from 0 on$",
        ),
        (
            exported(nodes=node(details={"finished": float("nan")}), leaf=None),
            r"^nodes\[0\]\.details: finished is not a number from 0 on$",
        ),
        (exported(nodes=node(name=3), leaf=None), r"^nodes\[0\]\.name: not a text$"),
        (exported(leaf="zz"), "^leaf: there is no node `zz`$"),
        (exported(settings=[1]), "^settings: not an object$"),
        (exported(system=1), "^system: not a text$"),
        (exported(title=[]), "^title: not a text$"),
    ],
)
def test_a_damaged_export_is_refused_with_its_field(value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_json(value if isinstance(value, str) else json.dumps(value))


def test_lone_surrogates_in_json_are_replaced() -> None:
    text = json.dumps(exported(nodes=node(id="\ud800", content="\udfff"), leaf="\ud800", name="\ud800"))
    record, conversation = from_json(text)
    assert (record.name, conversation.leaf, conversation.messages()[-1].content) == ("\ufffd", "\ufffd", "\ufffd")
