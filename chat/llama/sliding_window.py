"""Decide how far back a token attends: by the window in the file, by `--window`, or by a window that the file lacks.

llama.cpp's converter never writes the window of Mistral 7B v0.1, and ours leaves it out with `--window off`; then every
token attends to the whole context. Up to the window that is the same; past it the model meets distances that were not
in its training. A file that our converter wrote notes its window; Mistral 7B v0.1 is recognised by its sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat import platform
from chat.errors import UsageError
from chat.gguf.keys import PLAIN_ARCHITECTURE, WINDOWED_ARCHITECTURE, ModelKey

if TYPE_CHECKING:
    from chat.gguf.reader import GgufFile

AUTO = "auto"
OFF = "off"
NO_WINDOW = 1 << 30  # tokens; wider than any context
CELL_PADDING = 256  # llama.cpp rounds caches up to it
# Where a file has no flag by layer, one layer of so many attends to everything: the last, or the first. From
# llama.cpp's models/*.cpp, `load_swa_pattern`; other architectures have no window there, or name their layers.
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

V01_WINDOW = 4096  # tokens
V01_PIECES = range(32_000, 32_128)  # fine-tunes add a few
# What Mistral 7B v0.1 and its fine-tunes have in common, and v0.2 (theta 1e6), v0.3 (32,768 pieces), Llama 2 (32
# key-value heads), Llama 3 (theta 5e5) and Mixtral (experts) have not; the second value is llama.cpp's default.
V01_KEYS: dict[str, tuple[Any, Any]] = {
    ModelKey.BLOCK_COUNT: (32, None),
    ModelKey.EMBEDDING_LENGTH: (4096, None),
    ModelKey.HEAD_COUNT_KV: (8, None),
    ModelKey.ROPE_FREQ_BASE: (10_000.0, 10_000.0),
    ModelKey.EXPERT_COUNT: (0, 0),
}


@dataclass(frozen=True)
class Window:
    """How a model is run with its sliding window.

    Attributes:
        size: in tokens; None where every token attends to all before it.
        override: replaces the value in the file when it is loaded.
        rolling: every layer has the window, so a cache of constant size serves any length.
    """

    size: int | None = None
    override: int | None = None
    rolling: bool = False


def choose_window(file: GgufFile, wanted: str) -> Window:
    """The window to run a file with.

    Args:
        file: checked.
        wanted: the value of `--window`: auto, off, or a number of tokens no larger than the file's own.

    Raises:
        UsageError: the number is larger, is no number, or the file has no window that can change.
    """
    own = file.window
    if wanted == AUTO:
        return Window(own, None, own is not None and _is_in_every_layer(file))
    if wanted == OFF:
        return Window(None, NO_WINDOW if file.architecture == WINDOWED_ARCHITECTURE else None) if own else Window()
    if not (wanted.isascii() and wanted.isdigit() and int(wanted) > 0):
        raise UsageError(f"`--window` must be auto, off or a number of tokens, not `{wanted}`")
    size = int(wanted)
    if own is None or file.architecture != WINDOWED_ARCHITECTURE:
        makes_one = f", or make a file with one: `mistral-chat convert {file.path} --window {size}`"
        other_file = makes_one if file.architecture == PLAIN_ARCHITECTURE else ""
        raise UsageError(
            f"{file.path} has no sliding window, so it cannot be run with one of {size:,} tokens",
            hint=f"leave out `--window`{other_file}",
        )
    if size > own:
        raise UsageError(f"`--window {size}` is more than the {own:,} tokens the model was trained with")
    return Window(size, size, _is_in_every_layer(file))


def windowed_layers(file: GgufFile, layers: int) -> tuple[bool, ...]:
    """For each layer whether its cache holds no more than the window."""
    if file.window is None:
        return (False,) * layers
    pattern = file.key(ModelKey.SLIDING_WINDOW_PATTERN)
    if isinstance(pattern, tuple):
        return tuple(bool(flag) for flag in pattern[:layers])
    if file.architecture in FULL_FIRST_OF:
        period, full = FULL_FIRST_OF[file.architecture], 0
    else:
        period, full = FULL_ONE_OF.get(file.architecture, 1), -1
    if period > 1 and isinstance(pattern, int):
        period = pattern
    return tuple(period == 0 or layer % period != full % period for layer in range(layers))


def _is_in_every_layer(file: GgufFile) -> bool:
    pattern = file.key(ModelKey.SLIDING_WINDOW_PATTERN)
    return file.architecture == WINDOWED_ARCHITECTURE and isinstance(pattern, tuple) and all(pattern)


def padded(cells: int) -> int:
    """Cells as llama.cpp rounds them up."""
    return -(-cells // CELL_PADDING) * CELL_PADDING


def rolling_cells(window: int, batch: int) -> int:
    """Cells that a rolling cache needs: for the window and the batch that is being read."""
    return padded(window + batch)


# --- windows that a file lacks


def missing_window(file: GgufFile) -> int | None:
    """The window in tokens that the model was trained with where the file lacks it, else None."""
    if file.architecture != PLAIN_ARCHITECTURE:
        return None
    noted = file.noted_windows
    if noted is not None:
        window = next((window for window in noted if window is not None), None)
        return window if window is not None and window < file.key(ModelKey.CONTEXT_LENGTH) else None
    if file.vocabulary_size not in V01_PIECES:
        return None
    is_v01 = all(_is_value(file.key(key, default), value) for key, (value, default) in V01_KEYS.items())
    return V01_WINDOW if is_v01 else None


def _is_value(found: Any, value: Any) -> bool:
    """Whether a key, one number or one for each layer, is `value` throughout."""
    return set(found) == {value} if isinstance(found, tuple) else bool(found == value)


def known_context(file: GgufFile, wanted: str = AUTO) -> int:
    """How many tokens the context may have: as many as in training, but no more than a missing window.

    Args:
        file: checked.
        wanted: the value of `--window`; with off the user accepts what lies past a missing window.
    """
    trained = int(file.key(ModelKey.CONTEXT_LENGTH))
    return trained if wanted == OFF else min(trained, missing_window(file) or trained)


def missing_window_notice(file: GgufFile, wanted: str = AUTO, cells: int = 0) -> str | None:
    """A notice for the user about a missing window, or None.

    Args:
        file: checked.
        wanted: the value of `--window`.
        cells: tokens that the context holds.
    """
    window = missing_window(file)
    if window is None or (wanted == OFF and cells <= window):
        return None
    fault = (
        f"this model's sliding window of {window:,} tokens was left out of the file"
        if file.noted_windows
        else f"this looks like Mistral 7B v0.1, whose sliding window of {window:,} tokens the file lacks"
    )
    if wanted == OFF:
        return f"{fault}: beyond {window:,} tokens it looks further back than in training, and answers may get worse"
    return f"{fault}: the context is kept to {window:,}; {missing_window_remedy(file)}"


def missing_window_remedy(file: GgufFile) -> str:
    """The command that writes the missing window into the file, as a clause for the user."""
    window = AUTO if file.noted_windows else V01_WINDOW
    return f"`mistral-chat convert {platform.quoted(str(file.path))} --window {window}` gives it its window"
