"""Recognise a plain GGUF whose model was trained with a sliding window that the file does not apply. Pure.

llama.cpp's converter never writes the window of Mistral 7B v0.1, so every such file lets each token see the whole
context. Up to the window that is the same; past it the model sees distances that it never saw in training.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chat.ground.gguf_reader import GgufFile

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


def lost_window(file: GgufFile) -> int | None:
    """The window in tokens that the model was trained with where the file lost it, else None."""
    if file.architecture != "llama" or file.vocabulary_size not in V01_PIECES:
        return None
    alike = all(_same(file.key(key, default), value) for key, (value, default) in V01_KEYS.items())
    return V01_WINDOW if alike else None


def _same(found: Any, value: Any) -> bool:
    """Whether a key, one number or one for each layer, is `value` throughout."""
    return set(found) == {value} if isinstance(found, tuple) else bool(found == value)


def known_context(file: GgufFile, trained: int) -> int:
    """How many tokens may be in the context: those it was trained with, but no more than a lost window."""
    return min(trained, lost_window(file) or trained)


def lost_window_notice(file: GgufFile) -> str | None:
    """What to tell the person about it, or None."""
    window = lost_window(file)
    if window is None:
        return None
    command = f"mistral-chat convert {shlex.quote(str(file.path))} --window {window}"
    return (
        f"this looks like Mistral 7B v0.1, whose sliding window of {window:,} tokens the file lacks: "
        f"the context is kept to {window:,}; `{command}` gives it its window"
    )
