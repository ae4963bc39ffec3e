"""Our note in a GGUF of the window that its model was made with, whether or not the file applies it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chat.gguf.reader import GgufFile

NOTED_WINDOW = "mistral_chat.sliding_window"  # tokens; 0 for none
NOTED_PATTERN = "mistral_chat.sliding_window_pattern"  # which layers have it; left out where all do
NOTE_KEYS: dict[str, tuple[str, ...]] = {NOTED_WINDOW: ("u32",), NOTED_PATTERN: ("[bool]",)}


def noted_windows(file: GgufFile) -> tuple[int | None, ...] | None:
    """Each layer's window in tokens by the note of a checked file, None for a layer that sees all.

    Returns:
        None where the file says nothing of it, as those of other programs.
    """
    window = file.metadata.get(NOTED_WINDOW)
    if window is None:
        return None
    pattern = file.metadata.get(NOTED_PATTERN, (True,) * file.key("block_count"))
    return tuple((window or None) if has_it else None for has_it in pattern)


def check_note(file: GgufFile) -> None:
    """Refuse a pattern of another model's layers.

    Raises:
        DataError: it is one.
    """
    pattern, layers = file.metadata.get(NOTED_PATTERN), file.key("block_count")
    if pattern is not None and len(pattern) != layers:
        raise file.fault(f"key '{NOTED_PATTERN}' has {len(pattern)} items for {layers} layers")
