"""Draw the README's pictures: `python -m tests.pictures` runs sessions in terminals and writes SVG files.

The program, its keys and its screen are real. In `chat` and `search` the guide answers, which says the same each time;
what the other pictures show is scripted.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from chat.guide import PATH as GUIDE_FILE
from tests.chat.documents.document_makers import pdf
from tests.chat.tui.pseudo_terminal import CTRL_D, ENTER, Terminal, python

HERE = Path(__file__).parent

READY = ("window 4,096", "/ 32,768", "window 256")  # the toolbar, once the model is loaded
MODEL = "mistral-7b-instruct-v0.3.Q4_K_M.gguf"
HUES = [(224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194)]
THEME = TerminalTheme(
    (24, 26, 31), (214, 218, 224),
    [(40, 44, 52), *HUES, (214, 218, 224)],
    [(92, 99, 112), *HUES, (255, 255, 255)],
)  # fmt: skip
NAMES = {"brown": "yellow", "default": None}

TABLE = """| Model | Window | 文脈 |
|:--|--:|--:|
| 7B v0.1 | 4,096 | 32,768 |
| 7B v0.3 | – | 32,768 |
| Mixtral | – | 32,768 |

> 缓存从不增长。 The cache never grows. 🎉
"""


THOUGHTS = "The cache holds keys and values of each layer. Two per token, so 2 · layers · heads · size · bytes. " * 3
THINKING_SECONDS = 3.2
ANSWER = r"""Each token takes $m = 2 \cdot L \cdot h \cdot d \cdot 2$ bytes, and $n$ tokens take $n \cdot m$:

| Model | Layers | Bytes per token | 32,768 tokens |
|:--|--:|--:|--:|
| Mistral 7B | 32 | $2^{17}$ = 131,072 | **4.3 GB** |
| Nemo 12B | 40 | 163,840 | **5.4 GB** |

- [x] a cache in `q8_0` takes about half
- [x] with a window of $W$ tokens it never exceeds $W \cdot m$
"""


class Scene:
    """A session in a terminal; a scripted model answers, or the guide if nothing is scripted."""

    def __init__(self, home: Path, *scripts: Any, columns: int = 80, lines: int = 24, **facts: Any) -> None:
        (home / MODEL).touch()
        script = json.dumps({"scripts": scripts, "model": MODEL, **facts})
        scripted = python(HERE / "chat" / "tui" / "program.py", script)
        command = scripted if scripts else [sys.executable, "-m", "chat", "-m", "guide"]
        environment = {"MISTRAL_CHAT_HOME": str(home / "home")}
        self.terminal = Terminal(command, columns=columns, lines=lines, environment=environment, folder=home)
        self.ready()

    def ready(self) -> None:
        """Wait for an empty prompt."""
        self.terminal.wait_for_prompt()
        self.terminal.wait(lambda: any(sign in self.terminal.text() for sign in READY))

    def do(self, line: str) -> None:
        """Type a line, and wait for the next prompt."""
        self.terminal.say(line)
        self.ready()

    def leave(self) -> None:
        """End the session."""
        self.terminal.send(CTRL_D)
        self.terminal.end()

    def draw(self, name: str, title: str) -> None:
        """Write the screen as a picture."""
        screen = self.terminal.screen
        console = Console(width=screen.columns, record=True, file=io.StringIO(), force_terminal=True)
        for y in range(screen.lines):
            console.print(_line(screen, y), no_wrap=True, overflow="ignore", crop=False)
        console.print()  # else the descenders of the last line are cut
        svg = console.export_svg(title=title, theme=THEME, unique_id=name)
        folder = HERE / "pictures"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.svg").write_text(svg + "\n", encoding="utf-8")
        print(f"tests/pictures/{name}.svg")


def _line(screen: Any, y: int) -> Text:
    text = Text()
    for x in range(screen.columns):
        cell = screen.buffer[y][x]
        if cell.data:  # empty behind a wide character
            cursor = (screen.cursor.x, screen.cursor.y) == (x, y)
            style = Style(
                color=_colour(cell.fg), bold=cell.bold, italic=cell.italics, underline=cell.underscore,
                strike=cell.strikethrough, dim=cell.blink, reverse=cell.reverse or cursor,
            )  # fmt: skip
            text.append(cell.data, style)
    return text


def _colour(name: str) -> str | None:
    return NAMES.get(name, name)


def chat(home: Path) -> None:
    """Questions to the guide."""
    scene = Scene(home)
    scene.do("How do I convert a checkpoint?")
    scene.do("and in 8 bit?")
    scene.do("What is the sliding window?")
    scene.terminal.send("Who won the world cup?")
    scene.terminal.wait(lambda: scene.terminal.before_cursor().endswith("the world cup?"))
    scene.draw("chat", "mistral-chat")


def branches(home: Path) -> None:
    """A second answer, an edited question, and their branches."""
    scene = Scene(
        home,
        [["text", "A library hums at night; the books are dreaming of rain."], ["figures", 14, 0, 15, 1.6, 5.6]],
        [["text", "At closing time the last page sighed and turned itself."], ["figures", 14, 13, 13, 0.4, 4.8]],
        [["text", "The ship's cat kept the log, and the log was mostly about fish."], ["figures", 15, 9, 16, 0.9, 6.0]],
        lines=30,
    )
    scene.do("One line for a story about a library")
    scene.do("/regen")
    scene.terminal.send("/edit", ENTER)
    scene.terminal.wait(lambda: scene.terminal.before_cursor().endswith("about a library"))
    scene.terminal.send("\x7f" * len("library"), "ship", ENTER)
    scene.terminal.wait("The ship's cat")
    scene.ready()
    scene.do("/branches")
    scene.draw("branches", "mistral-chat: every edit and new answer is kept")


def search(home: Path) -> None:
    """A search in earlier sessions, and a session opened at a hit."""
    for question in (
        "What is the sliding window?",
        "How do I convert a checkpoint?",
        "How many tokens fit in the context?",
    ):
        scene = Scene(home)
        scene.do(question)
        scene.leave()
    scene = Scene(home)
    scene.do("/search tokens")
    scene.do("/load 1")
    scene.draw("search", "mistral-chat: search in everything that was said")


def narrow(home: Path) -> None:
    """Forty columns, a table, wide characters."""
    scene = Scene(home, [["text", TABLE], ["figures", 19, 0, 74, 2.1, 27.0]], columns=40, lines=24, window=4096)
    scene.do("Compare the windows")
    scene.draw("narrow", "40 columns")


def reasoning(home: Path) -> None:
    """Reasoning folded to one line, formulas, a table and task boxes."""
    answered = home / "answered"
    thoughts = [["think", THOUGHTS], ["until", str(answered)], ["text", ANSWER], ["figures", 24, 0, 180, 1.1, 9.0]]
    scene = Scene(home, thoughts, lines=20)
    scene.terminal.say("How much memory does the cache take?")
    time.sleep(THINKING_SECONDS)
    answered.touch()
    scene.terminal.wait("180 tokens ·")
    scene.ready()
    scene.draw("reasoning", "mistral-chat: reasoning, formulas and tables")


def tools(home: Path) -> None:
    """Calls of functions: one after a yes, one that the answer allows for good, and the answer."""
    (home / "README.md").write_text("# harbour\n\nTimes of the tides.\n\nThe ferry waits for high water.\n" + "\n" * 40)
    (home / "tides.py").write_text("HIGH_WATER = 4.2  # metres\n")
    scene = Scene(
        home,
        [["text", "I look at what is here."], ["call", "read_file", '{"path": "README.md"}', "abcdefgh1"]],
        [["call", "search_files", '{"text": "high_water", "pattern": "*.py"}', "abcdefgh2"]],
        [["text", "The ferry waits for **high water**, but no code asks for it: `tides.py` only has the height."]],
        flags={"run_tools": True, "stats": False},
    )
    scene.terminal.say("When does the ferry leave, and which code knows?")
    scene.terminal.wait("Run it?")
    scene.terminal.send("y", ENTER)
    scene.terminal.wait(lambda: scene.terminal.text().count("Run it?") == 2)
    scene.terminal.send("s", ENTER)
    scene.ready()
    scene.draw("tools", "mistral-chat: a call is shown, and runs after a yes")


def documents(home: Path) -> None:
    """A PDF of which only the passages that match the question are sent, and an answer that names the page."""
    pages = [f"Chapter {number}\n" + "The harbour is wide, and boats lie in it.\n" * 30 for number in range(1, 40)]
    pages[26] = "Chapter 27\nThe ferry waits for high water: 4.2 metres at the outer pier."
    (home / "harbour.pdf").write_bytes(pdf(pages))
    shutil.copyfile(GUIDE_FILE, home / MODEL)  # whose table of embeddings finds passages, too
    answer = "It waits for **high water**, 4.2 metres at the outer pier (page 27)."
    scene = Scene(home, [["text", answer], ["figures", 812, 0, 19, 3.4, 2.6]], lines=20)
    scene.do("/file harbour.pdf")
    scene.do("/set find on")
    scene.do("What does the ferry wait for?")
    scene.draw("documents", "mistral-chat: the passages of a document that matter")


def seeing(home: Path) -> None:
    """A picture attached to a question, and another one dropped into the next."""
    from PIL import Image

    seer = "mistral-small-3.2-24b-instruct.Q4_K_M.gguf"
    (home / seer).touch()
    for name, size in (("harbour.jpg", (1600, 1200)), ("timetable.png", (1024, 768))):
        Image.new("RGB", size).save(home / name)
    first = "A wooden ferry at a stone quay. The clock on the tower says **ten past four**, and the tide is low."
    second = "No. The board lists the 16:10 for *high water* only, and on your photo the steps of the quay are dry."
    scene = Scene(
        home,
        [["text", first], ["figures", 2370, 0, 24, 9.0, 6.0]],
        [["text", second], ["figures", 3470, 2394, 30, 5.0, 7.0]],
        lines=20,
        model=seer,
        flags={"stats": False},
    )
    scene.do("/file harbour.jpg")
    scene.do("What is on this photo, and what time is it there?")
    scene.do("/file timetable.png")
    scene.do("Does the ferry leave now?")
    scene.draw("seeing", "mistral-chat: pictures beside a question")


def main() -> None:
    """Draw all pictures, or those that the arguments name."""
    for scene in (chat, reasoning, branches, search, narrow, documents, tools, seeing):
        if not sys.argv[1:] or scene.__name__ in sys.argv[1:]:
            with tempfile.TemporaryDirectory() as home:
                scene(Path(home))


if __name__ == "__main__":
    main()
