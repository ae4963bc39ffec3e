"""Count the cores worth using: physical ones, within affinity and the container's quota. Knows no model."""

from __future__ import annotations

import os
from pathlib import Path

SYSTEM = Path("/sys")


def worker_threads(root: Path = SYSTEM) -> int:
    """Threads for decoding: sibling hyperthreads share their arithmetic units and slow each other down."""
    cpus = allowed_cpus()
    return max(1, min(physical_cores(cpus, root), quota_cores(root, len(cpus))))


def allowed_cpus() -> frozenset[int]:
    """The processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def physical_cores(cpus: frozenset[int], root: Path = SYSTEM) -> int:
    """How many different cores the processors belong to; all of them where the system does not tell."""
    cores = set()
    for cpu in cpus:
        siblings = _read(root / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings or str(cpu))
    return len(cores)


def quota_cores(root: Path = SYSTEM, otherwise: int = 1) -> int:
    """Whole cores of the control group's quota (cgroup v2, then v1); `otherwise` where there is none."""
    quota, _, period = _read(root / "fs/cgroup/cpu.max").partition(" ")
    if not period:
        quota = _read(root / "fs/cgroup/cpu/cpu.cfs_quota_us")
        period = _read(root / "fs/cgroup/cpu/cpu.cfs_period_us")
    if not (quota.isdigit() and period.isdigit() and int(period) > 0):  # "max", "-1" or absent: no quota
        return otherwise
    return max(1, int(quota) // int(period))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
