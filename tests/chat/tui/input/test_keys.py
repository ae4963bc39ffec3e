"""No key makes text disappear that was typed before or after it, unless deleting is its purpose."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import DummyOutput

from chat.tui.input.keys import editing_keys
from chat.tui.input.line_editor import LineEditor
from tests.grids import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prompt_toolkit.document import Document

# What deletes (Backspace, Ctrl+U, Ctrl+W, and Escape, since it makes Alt+D of the next key), ends the line or the
# program, undoes, searches, marks a paste that does not end, or is the beginning of another key
KNOWN = {
    *(
        "\x03",
        "\x08",
        "\r",
        "\x12",
        "\x13",
        "\x15",
        "\x17",
        "\x1a",
        "\x1b",
        "\x1c",
        "\x1f",
        "\x7f",
        "\x1b[200~",
        "\x1bO",
    ),
    *(sequence for sequence, key in ANSI_SEQUENCES.items() if key == Keys.ControlM),
}
ALT = {f"\x1b{chr(code)}" for code in range(32, 127)}
FUNCTION = set({keys: sequence for sequence, keys in ANSI_SEQUENCES.items()}.values())  # one sequence for each key
KEYS = sorted((ALT | FUNCTION | {chr(code) for code in range(256)}) - KNOWN)
PLANES = [chr(plane << 16 | point) for plane in range(17) for point in (0x41, 0x2028, 0xE000) if plane or point > 0x41]


def sent(typed: str) -> str:
    """What the editor gives for keys that come at once, and Enter; twice, since Ctrl+Q takes the next key as it is."""
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        editor = LineEditor(complete=lambda _: (), toolbar=str, past_messages=tuple)
        keys.send_text(typed + "\r\r")
        return editor.read()


# Once they began a selection, in which typing replaces or does nothing, or swallowed the next key, or sent the text
ONCE = ("\x00", "\x0f", "\x1d", "\x1b#", "\x1b-", "\x1b0", "\x1b7", "\x1b[1;2D", "\x1b[1;2H", "\x1b[1;6D", "\x1b[1;6H")
# Keys that delete a word or a part of the line, turn letters around, change their case, or yank
DELETING = {
    *(
        "\x04",
        "\x0b",
        "\x14",
        "\x19",
        "\x18",
        "\x1b\x7f",
        "\x1bd",
        "\x1bu",
        "\x1bl",
        "\x1bc",
        "\x1bt",
        "\x1by",
        "\x1bk",
    ),
    "\x1b\\",
    *(sequence for sequence, key in ANSI_SEQUENCES.items() if "Delete" in str(key)),
}


@pytest.mark.slow
def test_no_key_loses_typed_text() -> None:
    pressed = KEYS if FULL else {*ONCE, *KEYS[::24]}
    lost = {key: text for key in pressed if not set("abcdef") <= set(text := sent(f"abc{key}def"))}
    assert lost == {}


@pytest.mark.slow
def test_no_burst_of_keys_and_characters_of_any_plane_loses_letters() -> None:
    dice = random.Random(3)
    keys = sorted(set(KEYS) - DELETING)
    for _ in range(300 if FULL else 8):
        burst = [dice.choice([*keys, *PLANES, *"abc"]) for _ in range(20)]
        for letter, place in zip("RSTUVW", sorted(dice.sample(range(20), 6)), strict=True):
            burst.insert(place, letter)
        text = "".join(burst)
        assert set("RSTUVW") <= set(sent(text)), repr(text)


def test_tab_looks_for_completions_once() -> None:
    """It looked for them again after it had added what they share, which searches all folders of models."""
    searches: list[str] = []

    class Models(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            searches.append(document.text)
            for name in ("mistral-7b", "mistral-small"):
                yield Completion(name, -len(document.text))

    buffer = Buffer(completer=Models())
    buffer.insert_text("mi")
    (tab,) = editing_keys().get_bindings_for_keys((Keys.Tab,))
    event: Any = SimpleNamespace(current_buffer=buffer)
    texts = []
    for _ in range(4):
        tab.handler(event)
        texts.append(buffer.text)
    assert texts == ["mistral-", "mistral-7b", "mistral-small", "mistral-"]
    assert searches == ["mi"]
