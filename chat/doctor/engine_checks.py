"""Turn the answers of the engine probe into findings."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.doctor.machine_checks import Finding
from chat.system.installer import install_extra, pip_install
from chat.system.network import is_offline
from chat.system.terminal_text import counted, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chat.doctor.system_gpu import SystemGpu
    from chat.worker.task import Message

TOLERANCE = 2e-3  # of logits as large as 20, in float32; measured 2e-4
GPU_TOLERANCE = 0.5  # the same with cells of float16; measured 0.06, and 14 where the window is one too narrow
SLOW_TOKENS_PER_SECOND = 100  # of the guide, which is tiny
DRIVER_TOOLS = {"CUDA": "nvidia-smi", "ROCm": "rocminfo", "Vulkan": "vulkaninfo --summary"}


def findings_of(message: Message, seen_gpu: SystemGpu | None, version: str) -> list[Finding]:
    """The findings in one answer of the probe.

    Args:
        message: from the probe.
        seen_gpu: a GPU that the system shows.
        version: of llama-cpp-python, for the line that installs it again.
    """
    stage = message["stage"]
    if stage == "network":
        return check_network(message["found"])
    if stage == "devices":
        return check_devices(message["found"], seen_gpu, version)
    if stage == "choice" and "error_of" in message:
        error = message["error_of"]
        return [Finding("choice", "problem", error["message"], error["hint"])]
    return [CHECKS[stage](message["found"])]


def check_network(kernel_lock: str) -> list[Finding]:
    """How the engine is kept from the network, if it is to be.

    Args:
        kernel_lock: what the kernel holds the engine's process with; empty for nothing.
    """
    if not is_offline():
        return []
    if not kernel_lock:
        words = "off in Python only: this kernel offers no way to keep the engine's compiled code from it"
        hint = f"`{install_extra('offline')}` may" if sys.platform == "linux" else None
        return [Finding("network", "note", words, hint)]
    return [Finding("network", "ok", f"off; the kernel keeps the engine from it with {kernel_lock}")]


def check_build(found: Mapping[str, Any]) -> Finding:
    """What this build of llama.cpp was compiled for."""
    name, _, info = str(found["name"]).partition(" ")
    features = re.findall(r"(\w+) = 1", info)
    backends = ", ".join(found["gpu_backends"])
    gpu = f"with GPU support ({backends})" if backends else "without GPU support"
    return Finding("build", "ok", f"llama.cpp {name}, {gpu}; uses {', '.join(features) or 'no extensions'}")


def check_threads(found: Mapping[str, int]) -> Finding:
    """How many threads decode, and why."""
    words = (
        f"{found['chosen']}: {counted(found['physical'], 'physical core')}"
        f" among {counted(found['allowed'], 'allowed processor')}"
    )
    if found["quota"] < found["allowed"]:
        words += f", within the container's quota of {found['quota']}"
    return Finding("threads", "ok", words)


def check_devices(found: Mapping[str, Any], seen_gpu: SystemGpu | None, version: str) -> list[Finding]:
    """Every device of ggml's list; a note where system and build do not agree about a GPU."""
    lines = []
    for device in found["list"]:
        is_cpu = device["kind"] == "cpu"
        free = found["free_bytes"] if is_cpu else device["free_bytes"]
        words = f"{device['name']} ({device['kind']}): {device['description']}, {size_text(free)} free"
        lines.append(Finding("device", "ok", words))
    if not lines:
        return [
            Finding(
                "device",
                "problem",
                "llama.cpp lists no device at all",
                _rebuild("NATIVE", version),
            )
        ]
    if not any(device["kind"] in ("gpu", "integrated") for device in found["list"]):
        lines += _missing_gpu(found["gpu_backends"], seen_gpu, version)
    return lines


def _missing_gpu(backends: Sequence[str], seen_gpu: SystemGpu | None, version: str) -> list[Finding]:
    """Why llama.cpp lists no GPU, where that is no matter of course."""
    if backends:
        here = f"{seen_gpu.name} is here, but" if seen_gpu else "no GPU is used:"
        tools = [f"`{DRIVER_TOOLS[each]}`" for each in backends if each in DRIVER_TOOLS]
        hint = f"check its driver, which {' and '.join(tools)} should list" if tools else "check its driver"
        return [Finding("gpu", "note", f"{here} llama.cpp finds none by {' or '.join(backends)}", hint)]
    if seen_gpu:
        words = f"{seen_gpu.name} is here, but this build of llama.cpp has no GPU support"
        return [Finding("gpu", "note", words, _rebuild(seen_gpu.backend, version))]
    return []


def _rebuild(backend: str, version: str) -> str:
    command = pip_install(f"--force-reinstall --no-cache-dir llama-cpp-python=={version}")
    return f"`CMAKE_ARGS=-DGGML_{backend}=on {command}`"


def check_kernels(found: Mapping[str, Any]) -> Finding:
    """Whether `convert` packs weights with its own kernels, and with llama.cpp's bytes."""
    if found["instruction_set"] is None:
        words = "`convert` packs weights with llama.cpp's own kernels, which take about ten times as long"
        hint = "install a C++ compiler, then this program again"
        return Finding("kernels", "note", words, hint)
    words = f"`convert` packs weights with {found['instruction_set']}, and llama.cpp's bytes"
    if found["slow"]:
        words += f"; but {', '.join(found['slow'])} with llama.cpp's own kernels, as this build of it rounds otherwise"
        return Finding("kernels", "note", words)
    return Finding("kernels", "ok", words)


def check_choice(found: Mapping[str, Any]) -> Finding:
    """How the model would be loaded, by the arithmetic that the engine itself uses."""
    repack = "rows repacked; " if found["repack"] else "rows not repacked unless the prompt is long; "
    if found["gpu_layers"] > found["layers"]:  # no row is on the processor
        repack = ""
    threads = counted(found["threads"], "thread")
    words = (
        f"{Path(found['path']).name} ({found['type']}) with {threads}: {found['reason']}; {repack}"
        f"needs {size_text(found['host_bytes'])} of {size_text(found['free_bytes'])} free"
    )
    if found["gpu_bytes"]:
        words += f", and of the GPU's memory {size_text(found['gpu_bytes'])} of {size_text(found['gpu_free_bytes'])}"
    if found["picture_bytes"]:
        words += f"; the picture encoder needs {size_text(found['picture_bytes'])} more"
    if found["rolling"]:
        words += f"; a text has no end, but the model was trained on {found['trained_context']:,} tokens"
    elif found["cells"] < found["trained_context"]:
        words += f"; the model was trained on {found['trained_context']:,} tokens"
    return Finding("choice", "ok", words)


def check_exactness(found: Mapping[str, Any]) -> Finding:
    """Whether llama.cpp computes the sliding window as Mistral defined it, on the processor or on GPUs."""
    difference, gpus = float(found["difference"]), found.get("gpus")
    limit = GPU_TOLERANCE if gpus else TOLERANCE
    where = f"on {gpus} " if gpus else ""
    words = f"{where}logits of {found['ids']} tokens through a window of 64 differ by {difference:.0e} at most"
    if not difference < limit:  # NaN is refused as well
        hint = (
            "`--gpu-layers 0` does not use the GPU" if gpus else "install the version of llama-cpp-python named above"
        )
        return Finding("exactness", "problem", f"WRONG ANSWERS: {words}, and {limit:g} is the limit", hint)
    return Finding("exactness", "ok", f"{words} from the definition")


def check_guide(found: Mapping[str, Any]) -> Finding:
    """Whether the guide gives its stored answer, and at an ordinary speed."""
    known, given = found["known"], found["given"]
    if known != given:
        same = next(place for place, pair in enumerate(zip(known, given, strict=True)) if pair[0] != pair[1])
        words = f"WRONG ANSWERS: the guide's stored answer has {len(known)} tokens, of which only {same} come out first"
        return Finding("guide", "problem", words, "install the version of llama-cpp-python named above")
    speed = f"{found['tokens_per_second']:,.0f} tokens a second"
    words = f"its answer is the stored one, all {len(known)} tokens"
    if found["tokens_per_second"] < SLOW_TOKENS_PER_SECOND:
        return Finding(
            "guide", "note", f"{words}, but at only {speed}: the machine is busy, or the build is a slow one"
        )
    return Finding("guide", "ok", f"{words}, at {speed} (`mistral-chat bench -m MODEL` measures yours)")


CHECKS: dict[str, Callable[[Mapping[str, Any]], Finding]] = {
    "build": check_build,
    "threads": check_threads,
    "kernels": check_kernels,
    "choice": check_choice,
    "exactness": check_exactness,
    "guide": check_guide,
}
