"""What the user asked to convert, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ConversionOptions:
    """The options of one conversion; names have been resolved to files and folders of this machine."""

    source: Path
    output: Path | None = None  # None: a name made of the source's and the type, in the current folder
    type: str | None = None  # None: Q4_K_M for a checkpoint, F32 for an adapter, a GGUF keeps its own types
    window: str = "auto"  # auto | off | a number of tokens
    overwrite: bool = False
    verify: bool = True
    show_progress: bool = True
    adapters: tuple[tuple[Path, float], ...] = ()  # with the scale of each, merged in this order
    base: Path | None = None  # `source` is an adapter to write for this model
    imatrix: Path | None = None
    tensor_types: tuple[str, ...] = ()  # REGEX=TYPE; the first that matches a tensor counts
