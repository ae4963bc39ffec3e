"""Which GPU the system shows, whatever this build of llama.cpp can use."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chat.system.process_limits import ROOT, system_text

if TYPE_CHECKING:
    from collections.abc import Iterator

# PCI vendors whose GPUs llama.cpp uses by Vulkan; those of virtual machines compute nothing
VULKAN_VENDORS = {"0x1002": "AMD", "0x8086": "Intel"}


@dataclass(frozen=True)
class SystemGpu:
    """A GPU of the system.

    Attributes:
        name: with its article, for a sentence.
        backend: of ggml that uses it, as CMake names it.
    """

    name: str
    backend: str


def system_gpu(root: Path = ROOT) -> SystemGpu | None:
    """The GPU with the fastest back end; None where the system shows none.

    Args:
        root: of the file system.
    """
    nvidia = root / "proc/driver/nvidia"
    if (nvidia / "version").exists() or shutil.which("nvidia-smi"):
        return SystemGpu(next(_nvidia_models(nvidia), "an NVIDIA GPU"), "CUDA")
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return SystemGpu("Apple's GPU", "METAL")
    for node in sorted((root / "sys/class/drm").glob("renderD*")):
        if vendor := VULKAN_VENDORS.get(system_text(node / "device/vendor")):
            return SystemGpu(f"an {vendor} GPU", "VULKAN")
    return None


def _nvidia_models(folder: Path) -> Iterator[str]:
    """What the driver calls its GPUs, such as `an NVIDIA H200`."""
    for file in sorted(folder.glob("gpus/*/information")):
        for line in system_text(file).splitlines():
            name, _, model = line.partition(":")
            if name == "Model" and model.strip():
                yield f"an {model.strip()}"
