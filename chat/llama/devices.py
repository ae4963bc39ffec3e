"""See what can compute and how much memory is free, through ggml's own device list. Knows no model."""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chat.llama.library import ggml

if TYPE_CHECKING:
    from collections.abc import Sequence

DeviceKind = Literal["cpu", "gpu", "integrated", "accelerator", "other"]
KINDS: dict[int, DeviceKind] = {0: "cpu", 1: "gpu", 2: "integrated", 3: "accelerator"}  # ggml_backend_dev_type
GPU_KINDS: tuple[DeviceKind, ...] = ("gpu", "integrated")
SYSTEM = Path("/")


@dataclass(frozen=True)
class Device:
    """One device of ggml's list; bytes are 0 where it has no memory of its own."""

    name: str
    description: str
    kind: DeviceKind
    free_bytes: int
    total_bytes: int


def devices() -> tuple[Device, ...]:
    """All devices of this build, in ggml's order: CUDA, Metal, Vulkan and the CPU through one path."""
    library = _bound()
    return tuple(_device(library, library.ggml_backend_dev_get(at)) for at in range(library.ggml_backend_dev_count()))


def usable_gpus(found: Sequence[Device]) -> tuple[Device, ...]:
    """The devices that llama.cpp places layers on: integrated GPUs only where there is no other."""
    return next(filter(None, (tuple(each for each in found if each.kind == kind) for kind in GPU_KINDS)), ())


def is_host_memory(gpu: Device) -> bool:
    """Whether a GPU's memory is the host's own: so it is on Apple Silicon, or where a GPU tells of none."""
    on_apple_silicon = platform.system() == "Darwin" and platform.machine() == "arm64"
    return gpu.kind == "integrated" or on_apple_silicon or gpu.total_bytes == 0


def host_free_bytes(root: Path = SYSTEM, otherwise: int | None = None) -> int:
    """Memory that a new process could use: what the system calls available, within the control group's limit.

    Args:
        otherwise: taken where the system does not tell.
    """
    available = _meminfo(root, "MemAvailable")
    if available is None:
        available = otherwise if otherwise is not None else _cpu_free_bytes()
    return min(available, *_group_limits(root))


def _meminfo(root: Path, key: str) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == key:
            return int(rest.split()[0]) * 1024
    return None


def _group_limits(root: Path) -> tuple[int, ...]:
    """What the memory limits of control groups leave, version 2 then 1; file pages in use could be given back."""
    left = [1 << 62]
    places = (
        ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    for folder, limit_name, used_name, cached_name in places:
        limit, used = _read(root / folder / limit_name), _read(root / folder / used_name)
        if limit.isdigit() and used.isdigit():
            lines = dict(line.split() for line in _read(root / folder / "memory.stat").splitlines())
            left.append(max(0, int(limit) - int(used) + int(lines.get(cached_name, 0))))
    return tuple(left)


def _cpu_free_bytes() -> int:
    return max((device.free_bytes for device in devices() if device.kind == "cpu"), default=0)


def _device(library: Any, pointer: int) -> Device:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    library.ggml_backend_dev_memory(pointer, ctypes.byref(free), ctypes.byref(total))
    return Device(
        name=library.ggml_backend_dev_name(pointer).decode("utf-8", "replace"),
        description=library.ggml_backend_dev_description(pointer).decode("utf-8", "replace"),
        kind=KINDS.get(library.ggml_backend_dev_type(pointer), "other"),
        free_bytes=free.value,
        total_bytes=total.value,
    )


def _bound() -> Any:
    library: Any = ggml()
    size_pointer = ctypes.POINTER(ctypes.c_size_t)
    signatures = {
        "ggml_backend_dev_count": (ctypes.c_size_t, []),
        "ggml_backend_dev_get": (ctypes.c_void_p, [ctypes.c_size_t]),
        "ggml_backend_dev_name": (ctypes.c_char_p, [ctypes.c_void_p]),
        "ggml_backend_dev_description": (ctypes.c_char_p, [ctypes.c_void_p]),
        "ggml_backend_dev_type": (ctypes.c_int, [ctypes.c_void_p]),
        "ggml_backend_dev_memory": (None, [ctypes.c_void_p, size_pointer, size_pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
