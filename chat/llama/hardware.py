"""Say what this machine offers a model: memory of the host and of its GPUs, and threads. Knows no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.llama.devices import devices, host_free_bytes, is_host_memory, usable_gpus
from chat.llama.memory_plan import HostResources
from chat.llama.threads import worker_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.request import EngineOptions
    from chat.llama.devices import Device


def machine(options: EngineOptions) -> HostResources:
    """What there is for a model with these options; GPUs are not woken where none is wanted."""
    return host_with(devices() if options.wants_gpus else (), host_free_bytes(), options.threads)


def host_with(found: Sequence[Device], free_bytes: int, threads: int | None) -> HostResources:
    """The host with the GPUs that llama.cpp would use of all devices found.

    Args:
        free_bytes: of the host's memory; a GPU that tells of none of its own has this.
        threads: as asked for; None counts cores.
    """
    gpus = usable_gpus(found)
    return HostResources(
        free_bytes=free_bytes,
        gpu_free_bytes=tuple(gpu.free_bytes if gpu.total_bytes else free_bytes for gpu in gpus),
        threads=threads or worker_threads(),
        is_shared=bool(gpus) and all(is_host_memory(gpu) for gpu in gpus),
    )
