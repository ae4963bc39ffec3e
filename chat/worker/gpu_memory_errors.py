"""What to give up where the memory of a GPU ran out while it computed. Knows words and layers, no processes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from chat.errors import EngineError

if TYPE_CHECKING:
    from chat.core.backend import ModelInfo
    from chat.core.request import EngineOptions

# what the backends for CUDA and HIP, for Vulkan and for Metal say before they end the process
RAN_OUT = re.compile(r"(CUDA|ROCm|HIP) error: out of memory|ErrorOutOfDeviceMemory|ErrorOutOfMemory")


class GpuMemoryError(EngineError):
    """The engine ended because a GPU had no memory left."""


def gpu_memory_error() -> GpuMemoryError:
    """The error in its words."""
    return GpuMemoryError(
        "the engine stopped: the GPU's memory ran out",
        hint="use fewer `--gpu-layers`, a smaller `--context`, or `--kv-type q8_0`",
    )


def fewer_layers(info: ModelInfo | None) -> int | None:
    """How many layers to have on the GPU instead; None where there are none on it."""
    layers = int(info.details.get("gpu_layers", 0)) if info is not None else 0
    return layers * 3 // 4 if layers else None


def with_layers(options: EngineOptions, layers: int) -> tuple[EngineOptions, str]:
    """The options with so many layers on the GPU at most, and what a person is told of it."""
    words = f"the GPU's memory ran out: at most {layers} layers are on it now, the others on the processor"
    return replace(options, most_gpu_layers=layers), words
