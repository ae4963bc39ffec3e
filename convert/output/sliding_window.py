"""Decide the sliding window that a new file applies, and write it as keys.

Only `granite_swa` applies one; `llama` computes the same model without it. Either file also notes the window that the
model was made with, so that a later conversion can put it back. Other graphs have no window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.errors import ModelError, UsageError
from chat.gguf.keys import (
    LATENT_ARCHITECTURES,
    QWEN_ARCHITECTURES,
    WINDOWED_ARCHITECTURE,
    MistralChatKey,
    ModelKey,
)
from chat.gguf.writer import KeyValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convert.architecture.hyperparameters import Hyperparameters

Windows = tuple[int | None, ...]  # per layer, in tokens; None where a layer sees the whole context


@dataclass(frozen=True)
class TargetModel:
    """What the new file computes."""

    sizes: Hyperparameters  # `windows` as the file applies them
    architecture: str
    noted_windows: Windows  # as the model was made, whatever the file applies

    @property
    def is_windowed(self) -> bool:
        """Whether the file applies a window."""
        return self.architecture == WINDOWED_ARCHITECTURE


def apply_window_option(sizes: Hyperparameters, wanted: str) -> Hyperparameters:
    """The sizes with the window that `--window` asks for.

    Raises:
        UsageError: it is neither auto, off nor a number of tokens.
    """
    if wanted == "auto":
        return sizes
    if wanted == "off":
        return sizes.with_window(None)
    if wanted.isascii() and wanted.isdigit() and 0 < int(wanted) < 1 << 31:
        return sizes.with_window(int(wanted))
    raise UsageError(f"`--window` must be `auto`, `off` or a number of tokens, not `{wanted}`")


def no_window_error(wanted: str, architecture: str) -> UsageError:
    """The error for a window that a model cannot get, whatever its weights."""
    return UsageError(f"`--window {wanted}`: llama.cpp runs {architecture} without a sliding window")


def choose_target(own: Hyperparameters, wanted: str) -> TargetModel:
    """Decide what the new file computes; a window as long as the context is none.

    Args:
        own: The sizes of the source.
        wanted: The value of `--window`.

    Raises:
        UsageError: `wanted` is neither auto, off nor a number of tokens, or the model's graph has no window.
        ModelError: the model has a window, which its graph has not.
    """
    sizes = apply_window_option(own, wanted)
    noted = own.windows if sizes.window is None else sizes.windows
    if sizes.window is None or sizes.window >= sizes.context:
        return TargetModel(sizes.with_window(None), own.architecture, noted)
    if own.needs_yarn_architecture or own.architecture in (*LATENT_ARCHITECTURES, *QWEN_ARCHITECTURES):
        if own.window is None:
            raise no_window_error(wanted, own.architecture)
        what = (
            "a model of Qwen"
            if own.architecture in QWEN_ARCHITECTURES
            else "a model whose attention grows with the position"
        )
        raise ModelError(
            f"{what} cannot be converted with its window of {own.window:,}",
            hint="`--window off` converts it without the window",
        )
    return TargetModel(sizes, WINDOWED_ARCHITECTURE, noted)


def window_keys(target: TargetModel) -> tuple[KeyValue, ...]:
    """The keys by which the file applies its window; none for a plain model."""
    if not target.is_windowed:
        return ()
    prefix = target.architecture
    pattern = tuple(window is not None for window in target.sizes.windows)
    return (
        KeyValue(f"{prefix}.{ModelKey.LOGIT_SCALE}", "f32", 1.0),
        KeyValue(f"{prefix}.{ModelKey.SLIDING_WINDOW}", "u32", target.sizes.window or 0),
        KeyValue(f"{prefix}.{ModelKey.SLIDING_WINDOW_PATTERN}", "bool", pattern),
    )


def window_note(windows: Sequence[int | None]) -> tuple[KeyValue, ...]:
    """The keys that note the windows a model was made with."""
    window = next((window for window in windows if window is not None), 0)
    noted = KeyValue(MistralChatKey.SLIDING_WINDOW, "u32", window)
    if window == 0 or None not in windows:
        return (noted,)
    pattern = tuple(window is not None for window in windows)
    return (noted, KeyValue(MistralChatKey.SLIDING_WINDOW_PATTERN, "bool", pattern))
