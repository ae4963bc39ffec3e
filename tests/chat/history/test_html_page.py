"""The page shows what the screen shows, lets no text become a tag, and is read by a real browser as it was written."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from chat.core.conversation import Conversation, Message, ToolCall
from chat.history.export import export_text
from chat.history.records import SessionRecord
from chat.rendering.markdown_html import markdown_html
from chat.system.terminal_text import escape_control_characters
from tests.chat.code_answers import ANSWERS
from tests.grids import FULL

RECORD = SessionRecord(
    id="0123456789abcdef", name="buffers", title="What is it?", model="v0.3", updated=1_700_000_060.0
)
VOID = {"meta", "br", "hr"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TOUR = """# One

A *b* **c** ~~d~~ `e<f` [g](https://g.example/?a=1&b=2 "t") <mailto:h@i.example>
next line

- a
  1. b
     > c
- [x] done
- [ ] not done

3. three

   more

| l | r |
|:--|--:|
| <i> | `|` |

```python
if x < 1: "&"  # c
```

![p](https://p.example/p.png) [q](javascript:x) [r](../r) \\(\\frac{1}{2}*3*\\)

***

    poem
"""


class Reader(HTMLParser):
    """The page as a browser reads it: its tags and attributes, and the text of each kind of element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag] = self.texts.get(tag, "") + data


def page_of(*messages: Message, system: str | None = None, **fields: Any) -> str:
    conversation = Conversation(system)
    for message in messages:
        conversation = conversation.add(message)
    return export_text(replace(RECORD, **fields), conversation, "html")


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a\nb  \nc", '<p dir="auto">a<br>\nb<br>\nc</p>'),
        ("# a\n#### b", '<h3 dir="auto">a</h3><h6 dir="auto">b</h6>'),
        ("***a*** ~~b~~ `<`", '<p dir="auto"><em><strong>a</strong></em> <s>b</s> <code>&lt;</code></p>'),
        (
            "[a](https://b.example/?c&d) <http://e.example>",
            '<p dir="auto"><a class="named" href="https://b.example/?c&amp;d" rel="noopener noreferrer nofollow">a</a> '
            '<a href="http://e.example" rel="noopener noreferrer nofollow">http://e.example</a></p>',
        ),
        ("[a](../b) [c](ftp://d)", '<p dir="auto">a (../b) c (ftp://d)</p>'),
        ("![a](https://b.example/c.png)", '<p dir="auto">[a](https://b.example/c.png)</p>'),
        (
            "- a\n\t1. b\n- [x] c\n- [ ] d\n- [y] e",
            '<ul><li dir="auto">a<ol><li dir="auto">b</li></ol></li><li class="task" dir="auto">☑ c</li>'
            '<li class="task" dir="auto">☐ d</li><li dir="auto">[y] e</li></ul>',
        ),
        (
            "- [x] a\n\n  b",
            '<ul><li class="task" dir="auto"><p dir="auto">☑ a</p><p dir="auto">b</p></li></ul>',
        ),
        ("> a\n> > b", '<blockquote><p dir="auto">a</p><blockquote><p dir="auto">b</p></blockquote></blockquote>'),
        (
            "|a|b|\n|:-:|-|\n|*c*|",
            '<div class="table"><table><tr><th class="center" dir="auto">a</th><th dir="auto">b</th></tr><tr>'
            '<td class="center" dir="auto"><em>c</em></td><td dir="auto"></td></tr></table></div>',
        ),
        (
            "```py\nif 1:  # <\n```",
            '<div class="code"><span class="language">py</span><pre><code><span class="magenta">if</span> '
            '<span class="cyan">1</span>:  <span class="dim italic"># &lt;</span></code></pre></div>',
        ),
        (
            '```"><b>\nx\n```',
            '<div class="code"><span class="language">&quot;&gt;&lt;b&gt;</span><pre><code>x</code></pre></div>',
        ),
        ("$E = mc^2$ <b>&amp;", '<p dir="auto">E = mc² &lt;b&gt;&amp;</p>'),
        ("    a\n      b", '<div class="text" dir="auto">    a\n      b</div>'),
        ("---", "<hr>"),
        ("3. a", '<ol start="3"><li dir="auto">a</li></ol>'),
        (">" * 80 + "a", f'<div class="text" dir="auto">{"&gt;" * 80}a</div>'),  # too deep to be parsed
        ("", ""),
    ],
)  # fmt: skip
def test_markdown_is_rendered_by_the_rules_of_the_screen(text: str, html: str) -> None:
    assert markdown_html(text) == html


def test_a_page_has_every_message_with_its_calls_and_notes() -> None:
    call = ToolCall("look_up", '{"word": "it"}', "abc123xyz")
    page = Reader(
        page_of(
            Message("user", "What is it?\n# no heading\n```\nx\n```\nand"),
            Message("assistant", "", (7,), "stop", (call,)),
            Message("tool", '{"found": true}', tool_call_id="abc123xyz", name="look_up"),
            Message("assistant", "It kee", (3,), "interrupted", reasoning="So <it>?"),
            system="Be *brief*.",
        )
    )
    assert page.texts["h2"] == "SystemYouAssistantTool `look_up`Assistant"
    assert page.texts["code"] == 'x{"name": "look_up", "arguments": {"word": "it"}}'
    assert page.texts["div"] == (
        "Be *brief*.What is it?\n# no headingxand" + "json" + '{"name": "look_up", "arguments": {"word": "it"}}'
        '{"found": true}So <it>?'
    )
    assert page.texts["details"] == "ReasoningSo <it>?"
    assert page.texts["p"] == "v0.3 · 4 messages · 2023-11-14T22:14:20ZIt kee(interrupted)"


HOSTILE = (
    '</div></style><script>alert(1)</script><img src=x onerror=alert(1)>&lt;"\'\x1b[31m\u202e\0`````\n```"><b>\n```\n'
    '[a](javascript:alert(1)) <javascript:x> [b](data:text/html,x) [c](https://"onclick=x) ![d](x "y")\n\n'
    "|<b>|\n|-|\n|<script>|\n\n- [x] <i>\n\n[e]: https://f.example\n"
)
TAGS = re.compile(
    "html|head|meta|title|style|body|header|h[1-6]|p|section|div|pre|code|span|details|summary|a|br|hr|ul|ol|li"
    "|blockquote|table|tr|th|td|strong|em|s"
)
ATTRIBUTES = re.compile("lang|charset|http-equiv|content|name|class|dir|href|rel|start")


@pytest.mark.parametrize(
    "field", ["user", "assistant", "reasoning", "call", "title", "name", "model", "system", "tool"]
)
def test_no_text_becomes_a_tag_or_an_attribute(field: str) -> None:
    text = {key: HOSTILE if key == field else "x" for key in ("user", "assistant", "reasoning", "call", "tool")}
    fields: dict[str, Any] = {"name": None, **({field: HOSTILE} if field in ("title", "name", "model") else {})}
    page = page_of(
        Message("user", text["user"]),
        Message("assistant", text["assistant"], tool_calls=(ToolCall(text["call"], text["call"]),)),
        Message("tool", "x", name=text["tool"]),
        Message("assistant", "x", reasoning=text["reasoning"]),
        system=HOSTILE if field == "system" else "x",
        **fields,
    )
    reader = Reader(page)
    assert [tag for tag in reader.tags if not TAGS.fullmatch(tag)] == []
    assert [name for name, _ in reader.attributes if not ATTRIBUTES.fullmatch(name)] == []
    addresses = [value or "" for name, value in reader.attributes if name == "href"]
    assert all(re.match("https?://|mailto:", address) for address in addresses)
    assert "default-src 'none'" in page
    assert not {"\x1b", "\u202e", "\0"} & set(page)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_code_on_a_page_is_what_is_copied(name: str, role: Any) -> None:
    """The page had rules of its own for fences, and missed those in lists and quotes."""
    text, blocks = ANSWERS[name]
    page = page_of(Message(role, text))
    shown = [
        Reader(code).texts.get("code", "") for code in re.findall("<pre>(<code>.*?</code>)</pre>", page, re.DOTALL)
    ]
    assert shown == [escape_control_characters(block.removesuffix("\n")) for block in blocks]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_a_browser_reads_a_page_as_it_was_written_and_runs_nothing(tmp_path: Path) -> None:
    """It moves misplaced tags and reports what the policy of the page forbids."""
    page = page_of(Message("user", HOSTILE), Message("assistant", TOUR + HOSTILE, reasoning="x"), system="x")
    seen, complaints = browse(tmp_path, page)
    read = Reader(seen.partition("<html")[1] + seen.partition("<html")[2])
    assert [tag for tag in read.tags if tag != "tbody"] == Reader(page).tags
    assert complaints == []
    if not FULL:
        return
    seen, complaints = browse(tmp_path, page.replace("</body>", "<script>document.title = 1</script></body>"))
    assert "<title>buffers</title>" in seen
    assert len(complaints) == 1 and "Content Security Policy" in complaints[0]


def browse(folder: Path, page: str) -> tuple[str, list[str]]:
    """Open a page in the browser; the tree that it built, and what it wrote to its console."""
    assert BROWSER
    (folder / "page.html").write_text(page, encoding="utf-8")
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile",
        "--enable-logging=stderr", "--dump-dom", (folder / "page.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
