"""Recognise a plain GGUF whose model was trained with a sliding window that the file does not apply. Pure.

llama.cpp's converter never writes the window of Mistral 7B v0.1, and ours leaves it out where it is told to; then each
token sees the whole context. Up to the window that is the same; past it the model sees distances that it never saw in
training. A file that our converter wrote notes the window; others are known by their shape.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from chat.gguf.keys import noted_windows

if TYPE_CHECKING:
    from chat.gguf.reader import GgufFile

OFF = "off"
V01_WINDOW = 4096  # tokens
V01_PIECES = range(32_000, 32_128)  # fine-tunes add a few
# What Mistral 7B v0.1 and its fine-tunes have in common, and v0.2 (theta 1e6), v0.3 (32,768 pieces), Llama 2 (32
# key-value heads), Llama 3 (theta 5e5) and Mixtral (experts) have not; the second value is llama.cpp's default.
V01_KEYS: dict[str, tuple[Any, Any]] = {
    "block_count": (32, None),
    "embedding_length": (4096, None),
    "attention.head_count_kv": (8, None),
    "rope.freq_base": (10_000.0, 10_000.0),
    "expert_count": (0, 0),
}


def missing_window(file: GgufFile) -> int | None:
    """The window in tokens that the model was made with where the file lost it, else None."""
    if file.architecture != "llama":
        return None
    noted = noted_windows(file)
    if noted is not None:
        window = next((window for window in noted if window is not None), None)
        return window if window is not None and window < file.key("context_length") else None
    if file.vocabulary_size not in V01_PIECES:
        return None
    alike = all(_same(file.key(key, default), value) for key, (value, default) in V01_KEYS.items())
    return V01_WINDOW if alike else None


def _same(found: Any, value: Any) -> bool:
    """Whether a key, one number or one for each layer, is `value` throughout."""
    return set(found) == {value} if isinstance(found, tuple) else bool(found == value)


def known_context(file: GgufFile, wanted: str = "auto") -> int:
    """How many tokens may be in the context: those it was trained with, but no more than a lost window.

    Args:
        wanted: as `--window` says it; `off` is a person's word that the window does not matter.
    """
    trained = int(file.key("context_length"))
    return trained if wanted == OFF else min(trained, missing_window(file) or trained)


def missing_window_notice(file: GgufFile, wanted: str = "auto", cells: int = 0) -> str | None:
    """What to tell the person about it, or None.

    Args:
        cells: tokens that the context holds.
    """
    window = missing_window(file)
    if window is None or (wanted == OFF and cells <= window):
        return None
    what = (
        f"this model's sliding window of {window:,} tokens was left out of the file"
        if noted_windows(file)
        else f"this looks like Mistral 7B v0.1, whose sliding window of {window:,} tokens the file lacks"
    )
    if wanted == OFF:
        return f"{what}: past {window:,} tokens it sees further back than it was taught, and answers may go astray"
    return f"{what}: the context is kept to {window:,}; {way_out(file)}"


def way_out(file: GgufFile) -> str:
    """How the file gets its window, in words."""
    asked = "auto" if noted_windows(file) else V01_WINDOW
    return f"`mistral-chat convert {shlex.quote(str(file.path))} --window {asked}` gives it its window"
