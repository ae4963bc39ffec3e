"""What this machine offers a model: devices that compute, free memory, and cores."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chat.llama.library import ggml
from chat.platform import page_bytes
from chat.system.process_limits import NO_LIMIT, ROOT, address_space_limit, group_free_bytes, system_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.request import EngineOptions

DeviceKind = Literal["cpu", "gpu", "integrated", "accelerator", "other"]
KINDS: dict[int, DeviceKind] = {0: "cpu", 1: "gpu", 2: "integrated", 3: "accelerator"}  # ggml_backend_dev_type
GPU_KINDS: tuple[DeviceKind, ...] = ("gpu", "integrated")
SYS = Path("/sys")
SMALL_MODEL_BYTES = 16 << 20  # up to which threads wait for each other longer than they compute


@dataclass(frozen=True)
class Device:
    """One device of ggml's list; bytes are 0 where it has no memory of its own."""

    name: str
    description: str
    kind: DeviceKind
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class HostResources:
    """Free memory of the host and of each GPU, and threads to compute with."""

    free_bytes: int
    gpu_free_bytes: tuple[int, ...] = ()
    threads: int = 1
    is_shared: bool = False  # the GPUs' memory is the host's own


def machine(options: EngineOptions, model_bytes: int) -> HostResources:
    """What there is for a model with these options; GPUs are not initialised where none is wanted."""
    threads = options.threads or (1 if model_bytes <= SMALL_MODEL_BYTES else None)
    return host_with(devices() if options.wants_gpus else (), host_free_bytes(), threads)


def host_with(found: Sequence[Device], free_bytes: int, threads: int | None) -> HostResources:
    """The host with those of its devices that llama.cpp uses as GPUs.

    Args:
        found: all devices.
        free_bytes: of the host's memory; a GPU that reports none of its own has this.
        threads: as requested; None counts cores.
    """
    gpus = usable_gpus(found)
    return HostResources(
        free_bytes=free_bytes,
        gpu_free_bytes=tuple(gpu.free_bytes if gpu.total_bytes else free_bytes for gpu in gpus),
        threads=threads or worker_threads(),
        is_shared=bool(gpus) and all(is_host_memory(gpu) for gpu in gpus),
    )


# --- devices


def devices() -> tuple[Device, ...]:
    """All devices of this build of llama.cpp, in ggml's order; CUDA, Metal, Vulkan and CPU alike."""
    library = _device_functions()
    count = library.ggml_backend_dev_count()
    return tuple(_device(library, library.ggml_backend_dev_get(index)) for index in range(count))


def usable_gpus(found: Sequence[Device]) -> tuple[Device, ...]:
    """The devices that llama.cpp places layers on: integrated GPUs only where there is no other."""
    for kind in GPU_KINDS:
        if gpus := tuple(device for device in found if device.kind == kind):
            return gpus
    return ()


def is_host_memory(gpu: Device) -> bool:
    """Whether a GPU uses the host's memory, as on Apple Silicon, or where it reports none of its own."""
    on_apple_silicon = platform.system() == "Darwin" and platform.machine() == "arm64"
    return gpu.kind == "integrated" or on_apple_silicon or gpu.total_bytes == 0


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


def _device_functions() -> Any:
    """ggml's library with the signatures of its device functions."""
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


# --- memory


def host_free_bytes(root: Path = ROOT, otherwise: int | None = None) -> int:
    """Memory that a new process could use: what the system calls available, within the limits of group and process.

    Args:
        root: of the file system.
        otherwise: the result where the system reports nothing; by default the CPU's free memory as ggml sees it.
    """
    available = _available_bytes(root)
    if available is None:
        available = otherwise if otherwise is not None else _cpu_free_bytes()
    return min(available, group_free_bytes(root), _free_address_space(root))


def _available_bytes(root: Path) -> int | None:
    for line in system_text(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return None


def _free_address_space(root: Path) -> int:
    """What `ulimit -v` leaves of this process's address space; a number beyond any memory where there is no limit."""
    limit = address_space_limit()
    pages = system_text(root / "proc/self/statm").partition(" ")[0]
    return limit if limit == NO_LIMIT or not pages else max(0, limit - int(pages) * page_bytes())


def _cpu_free_bytes() -> int:
    return max((device.free_bytes for device in devices() if device.kind == "cpu"), default=0)


# --- cores


def worker_threads(root: Path = SYS) -> int:
    """Threads for decoding: one a core, since sibling hyperthreads share its arithmetic units and slow each other."""
    cpus = allowed_cpus()
    return max(1, min(physical_cores(cpus, root), quota_cores(root, len(cpus))))


def allowed_cpus() -> frozenset[int]:
    """The processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def physical_cores(cpus: frozenset[int], root: Path = SYS) -> int:
    """How many different cores the processors belong to; as many as processors where the system reports nothing."""
    cores = set()
    for cpu in cpus:
        siblings = system_text(root / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings or str(cpu))
    return len(cores)


def quota_cores(root: Path = SYS, otherwise: int = 1) -> int:
    """Whole cores of the control group's quota (cgroup v2, then v1); `otherwise` where there is none."""
    quota, _, period = system_text(root / "fs/cgroup/cpu.max").partition(" ")
    if not period:
        quota = system_text(root / "fs/cgroup/cpu/cpu.cfs_quota_us")
        period = system_text(root / "fs/cgroup/cpu/cpu.cfs_period_us")
    if not (quota.isdigit() and period.isdigit() and int(period) > 0):  # "max", "-1" or absent: no quota
        return otherwise
    return max(1, int(quota) // int(period))
