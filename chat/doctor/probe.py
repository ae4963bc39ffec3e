"""Probe the engine in its own process: build, devices, the memory plan of a model, exactness, the guide.

Run by `chat.worker.task`: each answer is sent as soon as it is known, so that what was found before a crash is
not lost.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chat.core.request import EngineOptions
from chat.doctor.tiny_model import Shape, make_weights, write_model
from chat.errors import ChatError
from chat.gguf.reader import read_gguf
from chat.gguf.validate_model import check_model
from chat.guide import KNOWN_ANSWER
from chat.guide import PATH as GUIDE
from chat.inference.load_job import LoadJob
from chat.llama.context import LlamaContext
from chat.llama.context_settings import ContextSettings
from chat.llama.hardware import (
    allowed_cpus,
    devices,
    host_free_bytes,
    machine,
    physical_cores,
    quota_cores,
    usable_gpus,
    worker_threads,
)
from chat.llama.library import build_name, gpu_backends
from chat.llama.memory_estimate import sizes_of
from chat.llama.model import LoadSettings, Model
from chat.system.network import kernel_lock
from chat.worker.protocol import build, pack_error
from chat.worker.task import serve_isolated_task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from chat.doctor.tiny_model import TinyTensor
    from chat.worker.task import Message

    Array = NDArray[np.float64]

CHUNKS = (50, 3, 64, 1, 17)  # batches that cross the window in different ways
EXACT_IDS = 270
EXACT = ContextSettings(cells=128, batch=64, outputs=64, rolling=True, kv_type="f32", flash_attention="off")
ON_GPUS = ContextSettings(cells=128, batch=64, outputs=64, rolling=True)  # as a chat has it
FAST = ContextSettings(cells=512, rolling=True, flash_attention="on")
GUIDE_ROUNDS = 4  # answers of the guide, to measure its speed


def answer(question: Message, send: Callable[[Message], None]) -> None:
    """Find out everything; `question` may hold the `options` of a model."""
    for stage, find in (
        ("network", kernel_lock),
        ("build", _build),
        ("threads", _threads),
        ("devices", _devices),
        ("kernels", _kernels),
    ):
        send({"stage": stage, "found": find()})
    if question.get("options"):
        send({"stage": "choice", **_choice(build(EngineOptions, question["options"]))})
    with tempfile.TemporaryDirectory(prefix="mistral-chat-doctor-") as folder:
        shape = Shape()
        tensors = make_weights(shape)
        path = Path(folder) / "tiny.gguf"
        write_model(path, shape, tensors)
        check_model(read_gguf(path))
        model = Model(str(path), LoadSettings())
        send({"stage": "exactness", "found": {"difference": _difference(model, shape, tensors), "ids": EXACT_IDS}})
        model.close()
        send({"stage": "guide", "found": _guide()})
        gpus = ", ".join(gpu.name for gpu in usable_gpus(devices()))
        if gpus:
            model = Model(str(path), LoadSettings(gpu_layers=shape.layers + 1))
            difference = _difference(model, shape, tensors, ON_GPUS)
            send({"stage": "exactness", "found": {"difference": difference, "ids": EXACT_IDS, "gpus": gpus}})
            model.close()


def _build() -> dict[str, Any]:
    return {"name": build_name(), "gpu_backends": gpu_backends()}


def _threads() -> dict[str, int]:
    cpus = allowed_cpus()
    return {
        "allowed": len(cpus),
        "physical": physical_cores(cpus),
        "quota": quota_cores(otherwise=len(cpus)),
        "chosen": worker_threads(),
    }


def _devices() -> dict[str, Any]:
    return {
        "free_bytes": host_free_bytes(),
        "list": [asdict(device) for device in devices()],
        "gpu_backends": gpu_backends(),
    }


def _kernels() -> dict[str, Any]:
    """How `convert` packs blocks here."""
    found: dict[str, Any] = import_module("convert.quantize.kernels").kernel_state()
    return found


def _choice(options: EngineOptions) -> Message:
    """How the model would be loaded, by the engine's own arithmetic; nothing of it is loaded."""
    try:
        file = read_gguf(Path(options.model_path))
        check_model(file)
        job = LoadJob.prepare(options, file)
        chosen = job.plan(options)
    except ChatError as error:
        return {"error_of": pack_error(error)}
    sizes = sizes_of(file, options.window)
    host = machine(options, file.size)
    found = asdict(chosen) | {
        "path": str(file.path),
        "type": file.type_name,
        "architecture": file.architecture,
        "window": job.window.size,
        "trained_context": sizes.trained_context,
        "layers": len(sizes.layer_bytes),
        "threads": host.threads,
        "free_bytes": host.free_bytes,
        "gpu_free_bytes": sum(host.gpu_free_bytes),
        "picture_bytes": job.pictures.bytes if job.pictures else 0,
    }
    return {"found": found}


def _difference(model: Model, shape: Shape, tensors: dict[str, Any], settings: ContextSettings = EXACT) -> float:
    """The largest difference of any logit from the reference; NaN where the engine computes one."""
    ids = [3 + (at * at * 7 + at * 31) % (shape.vocabulary - 3) for at in range(EXACT_IDS)]
    decoder = LlamaContext(model, settings)
    rows = []
    at = turn = 0
    while at < len(ids):
        chunk = ids[at : at + CHUNKS[turn % len(CHUNKS)]]
        decoder.feed(chunk, len(chunk))
        rows += [decoder.logits(row).copy() for row in range(len(chunk))]
        at, turn = at + len(chunk), turn + 1
    decoder.close()
    return float(np.abs(np.array(rows) - reference_logits(shape, tensors, ids)).max())


def _guide() -> dict[str, Any]:
    """The guide's answer to the question whose answer is stored, and its speed with one thread."""
    known = json.loads(KNOWN_ANSWER.read_text(encoding="utf-8"))
    model = Model(str(GUIDE), LoadSettings())
    decoder = LlamaContext(model, FAST)
    found: list[int] = []
    seconds = 0.0
    for _ in range(GUIDE_ROUNDS):
        decoder.clear()
        decoder.feed(known["prompt_ids"])
        begun = time.perf_counter()
        found = [int(decoder.logits().argmax())]
        while len(found) < len(known["answer_ids"]):
            decoder.feed(found[-1:])
            found.append(int(decoder.logits().argmax()))
        seconds += time.perf_counter() - begun
    decoder.close()
    model.close()
    return {"known": known["answer_ids"], "given": found, "tokens_per_second": GUIDE_ROUNDS * len(found) / seconds}


def reference_logits(shape: Shape, tensors: Mapping[str, TinyTensor], ids: Sequence[int]) -> Array:
    """The logits after every id, with the sliding window as Mistral defined it.

    Returns:
        (ids, vocabulary) float64.
    """
    weights: dict[str, Array] = {
        name: np.array(tensor.values, np.float64).reshape(tensor.shape) for name, tensor in tensors.items()
    }
    hidden = weights["token_embd.weight"][list(ids)]  # (n, hidden)
    for layer in range(shape.layers):
        block = {name.split(".")[2]: each for name, each in weights.items() if name.startswith(f"blk.{layer}.")}
        normed = _normed(hidden, block["attn_norm"], shape.epsilon)
        hidden = hidden + _attention(shape, block, normed) @ block["attn_output"].T
        normed = _normed(hidden, block["ffn_norm"], shape.epsilon)
        gate = normed @ block["ffn_gate"].T
        hidden = hidden + (gate / (1 + np.exp(-gate)) * (normed @ block["ffn_up"].T)) @ block["ffn_down"].T
    logits: Array = _normed(hidden, weights["output_norm.weight"], shape.epsilon) @ weights["output.weight"].T
    return logits


def _attention(shape: Shape, block: Mapping[str, Array], x: Array) -> Array:
    """(n, heads * head) from (n, hidden): each id sees itself and the window - 1 ids before it."""
    count, group = len(x), shape.heads // shape.kv_heads
    queries = _rotated(shape, (x @ block["attn_q"].T).reshape(count, shape.heads, shape.head))
    keys = _rotated(shape, (x @ block["attn_k"].T).reshape(count, shape.kv_heads, shape.head)).repeat(group, 1)
    values = (x @ block["attn_v"].T).reshape(count, shape.kv_heads, shape.head).repeat(group, 1)
    apart = np.arange(count)[:, None] - np.arange(count)[None, :]
    scores = np.einsum("qhd,khd->hqk", queries, keys) / np.sqrt(shape.head)
    scores = np.where((apart >= 0) & (apart < shape.window), scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    seen: Any = np.einsum("hqk,khd->qhd", shares, values).reshape(count, -1)
    return seen  # type: ignore[no-any-return]


def _rotated(shape: Shape, x: Array) -> Array:
    """Turn the pairs (2i, 2i + 1) of (n, heads, head) by their position."""
    angles = np.arange(len(x))[:, None] * shape.theta ** (-np.arange(0, shape.head, 2) / shape.head)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    turned: Array = np.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1).reshape(x.shape)
    return turned


def _normed(x: Array, weight: Array, epsilon: float) -> Array:
    scaled: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight
    return scaled


if __name__ == "__main__":
    serve_isolated_task(answer)
