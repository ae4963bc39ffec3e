"""Decide how far back a token sees and whether old cells are given back. Knows metadata, not memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.errors import UsageError

if TYPE_CHECKING:
    from chat.gguf.reader import GgufFile

CARRIER = "granite_swa"  # the architecture of llama.cpp whose graph is Mistral's, window included
WIDEST = 1 << 30  # a window wider than any context is none
CELL_PADDING = 256  # llama.cpp pads caches to it
# Where a file gives no flag by layer, one layer of so many sees everything: the last, or the first. From llama.cpp's
# models/*.cpp, `load_swa_pattern`; other architectures have no window there, or name their layers.
FULL_ONE_OF = {
    "afmoe": 4,
    "cohere2": 4,
    "exaone-moe": 4,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "llama4": 4,
    "mellum": 4,
    "muse-glimmer": 4,
    "olmo2": 4,
    "plamo3": 8,
}
FULL_FIRST_OF = {"cohere2moe": 4, "laguna": 4, "smallthinker": 4}


@dataclass(frozen=True)
class Window:
    """What the engine does about the sliding window.

    `size` is None where every token sees all; `override` replaces the file's own value when it is loaded; `rolling`
    says that every layer has the window, so that a cache of constant size serves any length.
    """

    size: int | None = None
    override: int | None = None
    rolling: bool = False


def choose_window(file: GgufFile, wanted: str) -> Window:
    """The window of a file as `wanted`: auto, off, or a number of tokens no larger than the file's own.

    Raises:
        UsageError: the number is larger, is no number, or the file has no window that could change.
    """
    own = file.window
    if wanted == "auto":
        return Window(own, None, own is not None and _is_everywhere(file))
    if wanted == "off":
        return Window(None, WIDEST if file.architecture == CARRIER else None) if own else Window()
    if not (wanted.isascii() and wanted.isdigit() and int(wanted) > 0):
        raise UsageError(f"`--window {wanted}` is neither auto, off nor a number of tokens")
    size = int(wanted)
    if own is None or file.architecture != CARRIER:
        raise UsageError(
            f"{file.path} has no sliding window, so it cannot be run with one of {size:,}",
            hint=f"`mistral-chat convert {file.path} --window {size}` makes a file that has",
        )
    if size > own:
        raise UsageError(f"`--window {size}` is more than the {own:,} tokens the model was trained with")
    return Window(size, size, _is_everywhere(file))


def windowed_layers(file: GgufFile, layers: int) -> tuple[bool, ...]:
    """Which layers hold no more than the window's cells."""
    if file.window is None:
        return (False,) * layers
    pattern = file.key("attention.sliding_window_pattern")
    if isinstance(pattern, tuple):
        return tuple(bool(flag) for flag in pattern[:layers])
    if file.architecture in FULL_FIRST_OF:
        period, full = FULL_FIRST_OF[file.architecture], 0
    else:
        period, full = FULL_ONE_OF.get(file.architecture, 1), -1
    if period > 1 and isinstance(pattern, int):
        period = pattern
    return tuple(period == 0 or layer % period != full % period for layer in range(layers))


def padded(cells: int) -> int:
    """Cells as llama.cpp rounds them up."""
    return -(-cells // CELL_PADDING) * CELL_PADDING


def rolling_cells(window: int, batch: int) -> int:
    """Cells that a rolling cache needs: the window and the batch that is being read."""
    return padded(window + batch)


def _is_everywhere(file: GgufFile) -> bool:
    pattern = file.key("attention.sliding_window_pattern")
    return file.architecture == CARRIER and isinstance(pattern, tuple) and all(pattern)
