"""Each format has the whole text; JSON comes back equal; a damaged export is refused with the field that is wrong."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from chat.core.conversation import Conversation, Message, ToolCall
from chat.errors import DataError, UsageError
from chat.history.export import export_text, format_of_suffix
from chat.history.records import SessionRecord
from chat.history.session_json import from_json, to_json
from chat.system.terminal_text import escape_control_characters
from tests.chat.code_answers import ANSWERS

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
        "# buffers\n\nv0.3 · 2023-11-14T22:14:20Z\n\n"
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
    texts = {kind: export_text(RECORD, conversation, kind) for kind in ("markdown", "json", "html", "sharegpt")}  # type: ignore[arg-type]
    assert texts["markdown"].endswith(
        "## Assistant\n\n<details>\n<summary>Reasoning</summary>\n\nIs it?\n\n<b>\n\n</details>\n\nYes.\n"
    )
    folded = '<details><summary>Reasoning</summary><div class="text" dir="auto">Is it?\n\n&lt;b&gt;</div></details>'
    assert f'{folded}<div class="text" dir="auto">Yes.</div>' in texts["html"]
    said = {"from": "gpt", "value": "Yes.", "reasoning": "Is it?\n\n<b>"}
    assert json.loads(texts["sharegpt"])["conversations"][-1] == said
    assert from_json(texts["json"])[1] == conversation


class Reader(HTMLParser):
    """The page as a browser reads it: its tags, and the text of each kind of element."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.setdefault(self.tags[-1], []).append(data)


def test_html_has_every_message_and_separate_code_blocks() -> None:
    reader = Reader()
    reader.feed(export_text(RECORD, tree(), "html"))
    assert reader.texts["h2"] == ["System", "You", "Assistant", "Tool `look_up`", "Assistant", "You", "Assistant"]
    assert reader.texts["code"] == ['{"name": "look_up", "arguments": {"word": "it"}}', "k[i % W] < 3"]
    assert reader.texts["div"] == [
        "Be brief.", "What is it?\n# no heading of mine", '{"found": true}', "Code:", "and so", "More!", "It kee",
    ]  # fmt: skip
    assert reader.texts["p"] == ["v0.3 · 2023-11-14T22:14:20Z", "(cut off at the limit)", "(interrupted)"]


HOSTILE = '</div><script>alert(1)</script><img src=x onerror=alert(1)>&lt;"\'\x1b[31m\u202e\0`````\n```"><b>\n```'


@pytest.mark.parametrize("field", ["content", "title", "name", "model", "system", "tool"])
def test_html_escapes_every_text(field: str) -> None:
    """A page with hostile texts has no other tags and attributes than a harmless one."""
    fields: dict[str, Any] = {field: HOSTILE} if field in ("title", "name", "model") else {}
    record = replace(RECORD, **{"name": None, **fields})
    conversation = Conversation(HOSTILE if field == "system" else "x").add(
        Message("user", HOSTILE if field == "content" else "x")
    )
    conversation = conversation.add(Message("tool", "x", name=HOSTILE if field == "tool" else "x"))
    text = export_text(record, conversation, "html")
    reader = Reader()
    reader.feed(text)
    allowed = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "h1",
        "h2",
        "p",
        "section",
        "div",
        "pre",
        "code",
    }
    assert set(reader.tags) <= allowed
    assert {name for name, _ in reader.attributes} <= {
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "dir",
    }
    assert "default-src 'none'" in text
    assert not {"\x1b", "\u202e", "\0"} & set(text)


def test_an_open_or_longer_fence_keeps_its_code() -> None:
    code = "````md\n```\ninner\n```\n````\nafter\n~~~\nopen"
    reader = Reader()
    reader.feed(export_text(RECORD, Conversation().add(Message("assistant", code)), "html"))
    assert (reader.texts["code"], reader.texts["div"]) == (["```\ninner\n```", "open"], ["after"])


@pytest.mark.parametrize("name", ANSWERS)
def test_code_on_a_page_is_what_is_copied(name: str) -> None:
    """The page had rules of its own for fences, and missed those in lists and quotes."""
    text, blocks = ANSWERS[name]
    page = export_text(RECORD, Conversation().add(Message("assistant", text)), "html")
    shown = [escape(escape_control_characters(block.removesuffix("\n"))) for block in blocks]
    assert re.findall("<code>(.*?)</code>", page, re.DOTALL) == shown


def test_text_around_code_stays_on_a_page() -> None:
    text = "Do\n\n1. this:\n   ```sh\n   ls\n   ```\n2. ~~~\n   that\n   ~~~\n   and\n> ```\n> quoted\n\nend"
    reader = Reader()
    reader.feed(export_text(RECORD, Conversation().add(Message("assistant", text)), "html"))
    assert reader.texts["code"] == ["ls", "that", "quoted"]
    assert reader.texts["div"] == ["Do\n\n1. this:", "2. ", "   and\n> ", "end"]


@pytest.mark.parametrize("arguments", ["{broken", "[" * 100_000, "```", ""])
def test_invalid_arguments_of_a_call_are_exported_unchanged(arguments: str) -> None:
    conversation = Conversation().add(Message("assistant", "", tool_calls=(ToolCall("f", arguments),)))
    for kind in ("markdown", "json", "html", "sharegpt"):
        assert "f" in export_text(RECORD, conversation, kind)
    assert from_json(to_json(RECORD, conversation))[1] == conversation


def test_the_suffix_of_a_name_gives_the_format() -> None:
    names = {"a.md": "markdown", "a.MARKDOWN": "markdown", "a.json": "json", "a.HTML": "html", "a.jsonl": "sharegpt"}
    assert {name: format_of_suffix(Path(name)) for name in names} == names
    for name, shown in (("chat.pdf", ".pdf"), ("chat", "chat")):
        with pytest.raises(UsageError, match=rf"^`{shown}` is not the suffix of a format$") as caught:
            format_of_suffix(Path(name))
        assert caught.value.hint == "use one of .md, .markdown, .json, .html, .htm, .jsonl"


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
        (exported(version=2), "^version 2 of the session format is not 1$"),
        (exported(version=None), "^version None of the session format is not 1$"),
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
