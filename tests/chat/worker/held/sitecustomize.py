"""Inject faults into the engine's child process. For tests only: Python imports it at its start, through PYTHONPATH.

`HELD_PHASE` names a phase in which the child waits; `HELD_MARK` a file that is made when the child gets there, and
removed to let it continue; another one beside it is made when a cancel has reached the reply. `GPU_DEATHS` names a file
with the phases in which a pretended GPU has no memory left.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CANCELLED_SUFFIX = ".cancelled"
CUDA_WORDS = b"CUDA error: out of memory\n  current device: 0, in function alloc\nggml-cuda.cu:97: CUDA error\n"
PHASES: dict[str, tuple[str, str, Callable[..., bool]]] = {  # module, name in it, for which arguments
    "loading": ("chat.llama.model", "Model.__init__", lambda *_: True),
    "making the context": ("chat.llama.context", "LlamaContext.__init__", lambda *_: True),
    "encoding": ("chat.prompts.builder", "encode", lambda *_: True),
    "compiling": ("chat.inference.grammar", "checked_grammar", lambda *_: True),
    "looking for a state": ("chat.inference.kv_state_files", "KvStateStore.best", lambda *_: True),
    "checking a state": ("chat.inference.kv_state_files", "KvStateStore.load", lambda *_: True),
    "restoring": ("chat.llama.context", "LlamaContext.restore", lambda *_: True),
    "reading": ("chat.llama.context", "LlamaContext.feed", lambda _, ids, *rest: len(ids) > 1),
    "decoding": ("chat.llama.context", "LlamaContext.feed", lambda _, ids, *rest: len(ids) == 1),
    "taking a snapshot": ("chat.llama.context", "LlamaContext.snapshot", lambda *_: True),
    "writing a state": ("os", "fsync", lambda *_: True),
}


def hold(phase: str, mark: Path) -> None:
    """Wait before the function with which the phase starts."""
    module, path, applies = PHASES[phase]
    *above, name = path.split(".")
    owner = importlib.import_module(module)
    for each in above:
        owner = getattr(owner, each)
    function = getattr(owner, name)

    def held(*arguments: Any, **named: Any) -> Any:
        if applies(*arguments):
            mark.touch()
            while mark.exists():
                time.sleep(0.005)
        return function(*arguments, **named)

    setattr(owner, name, held)
    generator = importlib.import_module("chat.inference.generator").Generator
    cancel = generator.cancel

    def cancelled(self: Any, flag: bool = True) -> None:
        cancel(self, flag)
        if flag:
            mark.with_suffix(CANCELLED_SUFFIX).touch()

    generator.cancel = cancelled


def lack_gpu_memory(deaths: Path) -> None:
    """Claim that layers are on a GPU, and end as CUDA does without memory in the phases that a file lists."""
    loaded_model = importlib.import_module("chat.inference.loaded_model")
    context = importlib.import_module("chat.llama.context")
    load, feed = loaded_model.load_model, context.LlamaContext.feed

    def loaded(options: Any, *more: Any) -> Any:
        made = load(options, *more)
        asked = 8 if options.gpu_layers == "auto" else int(options.gpu_layers)
        made.info.details["gpu_layers"] = asked if options.most_gpu_layers is None else options.most_gpu_layers
        return made

    def fed(self: Any, ids: Any, *more: Any) -> Any:
        left = deaths.read_text().split()
        if left and left[0] == ("reading" if len(ids) > 1 else "decoding"):
            deaths.write_text(" ".join(left[1:]))
            os.write(2, CUDA_WORDS)
            os.abort()
        return feed(self, ids, *more)

    loaded_model.load_model, context.LlamaContext.feed = loaded, fed


def lack_instruction() -> None:
    """End as a processor without an instruction of llama.cpp's code does, unless rows are left as they are."""
    load_job = importlib.import_module("chat.inference.load_job")
    context = importlib.import_module("chat.llama.context")
    feed, plan = context.LlamaContext.feed, load_job.plan_memory

    def planned(sizes: Any, options: Any, *more: Any) -> Any:
        if options.repack != "off":
            context.LlamaContext.feed = lambda *_: os.kill(os.getpid(), signal.SIGILL)
        else:
            context.LlamaContext.feed = feed
        return plan(sizes, options, *more)

    load_job.plan_memory = planned


if "chat.worker.server" in sys.orig_argv and os.environ.get("NO_INSTRUCTION"):
    lack_instruction()
if "chat.worker.server" in sys.orig_argv and os.environ.get("GPU_DEATHS"):
    lack_gpu_memory(Path(os.environ["GPU_DEATHS"]))
if "chat.worker.server" in sys.orig_argv and os.environ.get("HELD_PHASE"):
    hold(os.environ["HELD_PHASE"], Path(os.environ["HELD_MARK"]))
