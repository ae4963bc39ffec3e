"""Keys that edit the line: they complete, break or move in it, or are ignored."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prompt_toolkit.buffer import CompletionState
from prompt_toolkit.completion import CompleteEvent, get_common_complete_suffix
from prompt_toolkit.filters import emacs_mode, is_searching
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyPressEvent

# Keys of emacs after which what is typed is lost, or sent too early: a selection that typing replaces, a search for one
# character, numbers that repeat a key (0 times, say), a comment, and sending to get the next message
IGNORED_KEYS = (("c-@",), ("c-]",), ("escape", "c-]"), ("c-o",), ("escape", "#"), ("escape", "-"),
                *(("escape", digit) for digit in "0123456789"))  # fmt: skip
# Keys that select while they move, with those that only move
MOVING_KEYS = {
    "s-left": Keys.Left, "s-right": Keys.Right, "s-up": Keys.Up, "s-down": Keys.Down, "s-home": Keys.Home,
    "s-end": Keys.End, "c-s-left": Keys.ControlLeft, "c-s-right": Keys.ControlRight, "c-s-home": Keys.ControlHome,
    "c-s-end": Keys.ControlEnd,
}  # fmt: skip


def editing_keys() -> KeyBindings:
    """The bindings of these keys."""
    keys = KeyBindings()
    keys.add("c-j", filter=~is_searching)(_insert_newline)
    keys.add("escape", "enter", filter=~is_searching)(_insert_newline)
    keys.add("tab", filter=~is_searching)(_complete)
    for pressed in IGNORED_KEYS:
        keys.add(*pressed, filter=emacs_mode, eager=True)(lambda _: None)
    for selecting, moving in MOVING_KEYS.items():
        keys.add(selecting, filter=emacs_mode)(partial(_press, moving))
    return keys


def _complete(event: KeyPressEvent) -> None:
    """Take the only completion, so that the next Tab continues after it, in a folder; else select the next one.

    Where none is shown yet they are found now: the next keys may be there already, and would change the text first.
    """
    buffer = event.current_buffer
    state = buffer.complete_state
    if state is not None and len(state.completions) > 1:
        return buffer.complete_next()
    found = list(buffer.completer.get_completions(buffer.document, CompleteEvent(completion_requested=True)))
    if len(found) == 1:
        return buffer.apply_completion(found[0])
    if common := get_common_complete_suffix(buffer.document, found):
        buffer.insert_text(common)
        found = [completion.new_completion_from_position(len(common)) for completion in found]
    if found:
        buffer.complete_state = CompletionState(buffer.document, found)
        buffer.on_completions_changed.fire()
    return None


def _press(key: Keys, event: KeyPressEvent) -> None:
    event.key_processor.feed(KeyPress(key), first=True)


def _insert_newline(event: KeyPressEvent) -> None:
    event.current_buffer.newline(copy_margin=False)
