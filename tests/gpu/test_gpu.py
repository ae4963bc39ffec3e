"""The program with all, half and no layers on a GPU: every answer is what the model's definition gives.

Where llama.cpp sees no GPU these tests are skipped; `pytest --full tests/gpu` then runs them on the processor, so that
they stay in order. tests/gpu/check.sh runs them on a machine with a GPU.

A GPU rounds otherwise than a processor, and a model of random weights has ids that are nearly equally likely. So an
answer is right if each of its ids is the likeliest by the definition, or so nearly that rounding decides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize

from chat.core.request import EngineOptions
from chat.doctor.engine_checks import GPU_TOLERANCE
from chat.errors import ExitCode
from chat.inference import load_job
from chat.inference.loaded_model import load_model
from chat.llama.context import ContextSettings, LlamaContext
from chat.llama.hardware import Device, HostResources, devices, host_free_bytes, usable_gpus
from chat.llama.library import ggml
from chat.llama.model import LoadSettings, Model
from tests import grids
from tests.chat.tiny_models import WORDS, Array, Shape, all_logits, forward, weights, write_gguf
from tests.program import run

pytestmark = [pytest.mark.engine, pytest.mark.slow]

WINDOWED = Shape(layers=4, hidden=256, heads=4, kv_heads=2, ffn=512, window=64, seed=7)
PLAIN = Shape(layers=4, hidden=256, heads=4, kv_heads=2, ffn=512, window=None, seed=8)
LAYERS = ("all", "2", "0")  # of five, the output is one
SIZES = ([64], [1], [50, 3, 64, 1, 17])  # batches that cross the window in different ways
TEXT = " ".join(WORDS[:9] * 12)
# Quantized weights are multiplied by inputs that are rounded, too: measured 1.6 on a processor, and 13 where the window
# is one too narrow, of weights that spread an error less than the others do
PACKED_TOLERANCE, DAMPING = 4.0, 0.5
PIECE = 1 << 30  # bytes of a buffer that fills a GPU
FIGURES = os.environ.get("GPU_CHECK_FIGURES")


@pytest.fixture(scope="module", autouse=True)
def gpus() -> tuple[Device, ...]:
    found = usable_gpus(devices())
    if not found and not grids.FULL:
        pytest.skip("no GPU here: llama.cpp lists only the processor, or is built without a GPU's back end")
    return found


def note(words: str) -> None:
    """Print a figure, and keep it for the table of check.sh."""
    print(words)
    if FIGURES:
        with Path(FIGURES).open("a") as file:
            file.write(f"{words}\n")


class Tried:
    """A model file, what its definition makes of ids, and the limit of a difference in logits as large as 17."""

    def __init__(self, path: Path, shape: Shape, tensors: dict[str, Array], tolerance: float = GPU_TOLERANCE) -> None:
        self.path, self.shape, self.tensors, self.tolerance = path, shape, tensors, tolerance

    def gap(self, prompt: list[int], ids: list[int]) -> float:
        """How much likelier than the ids of an answer others were at most, in logits."""
        logits = forward(self.shape, self.tensors, [*prompt, *ids])[len(prompt) - 1 : -1]
        return float((logits.max(1) - logits[np.arange(len(ids)), ids]).max())


Models = dict[str, Tried]


@pytest.fixture(scope="module")
def models(make_once: Callable[[str, Callable[[Path], object]], Path]) -> Models:
    """A windowed one and a plain one in F32, and one in Q4_K_M with the weights as they are in that."""
    from convert.draft import ConversionOptions
    from convert.pipeline import convert

    made = {}
    for name, shape in (("window", WINDOWED), ("plain", PLAIN)):
        tensors = weights(shape)
        made[name] = Tried(make_once(f"gpu/{name}.gguf", lambda path: write_gguf(path, shape, tensors)), shape, tensors)  # noqa: B023
    tensors = weights(WINDOWED)
    for name, values in tensors.items():
        if name.endswith(("attn_q.weight", "attn_output.weight", "ffn_down.weight")):
            values *= np.float32(DAMPING)
    source = make_once("gpu/source.gguf", lambda path: write_gguf(path, WINDOWED, tensors))
    packed = make_once(
        "gpu/packed.gguf", lambda path: convert(ConversionOptions(source, path, "Q4_K_M", show_progress=False))
    )
    read = {
        each.name: dequantize(each.data, each.tensor_type).reshape(tensors[each.name].shape).astype(np.float32)
        for each in gguf.GGUFReader(packed).tensors
    }
    return made | {"packed": Tried(packed, WINDOWED, read, PACKED_TOLERANCE)}


def layer_count(layers: str) -> int:
    return WINDOWED.layers + 1 if layers == "all" else int(layers)


def some_ids(count: int) -> list[int]:
    return [int(each) for each in np.random.default_rng(5).integers(3, WINDOWED.vocabulary, count)]


def answer(tried: Tried, layers: str, *flags: object, stdin: bytes = b"") -> dict[str, Any]:
    """What the program prints, likeliest ids only, with so many layers on the GPU."""
    given = ("-m", tried.path, "--gpu-layers", layers, "--temperature", 0, "--json", *flags)
    done = run(*given, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    plain: dict[str, Any] = json.loads(done.stdout)
    return plain


def prompt_ids(tried: Tried, *flags: object) -> list[int]:
    """The prompt that the same flags send."""
    done = run("-m", tried.path, "--dry-run", *flags)
    assert done.returncode == 0, done.stderr.decode()
    ids: list[int] = json.loads(done.stdout)["ids"]
    return ids


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("name", ["window", "plain", "packed"])
def test_logits_equal_the_definition_however_batches_cross_the_window(name: str, layers: str, models: Models) -> None:
    tried = models[name]
    ids = some_ids(200)
    wanted = forward(tried.shape, tried.tensors, ids)
    worst = 0.0
    model = Model(str(tried.path), LoadSettings(gpu_layers=layer_count(layers)))
    for sizes in SIZES:
        rolling = tried.shape.window is not None
        context = LlamaContext(model, ContextSettings(cells=256, batch=64, outputs=64, rolling=rolling))
        worst = max(worst, float(np.abs(all_logits(context, ids, sizes) - wanted).max()))
        context.close()
    model.close()
    note(f"logits, {name}, {layers} layers: {worst:.1e} of {np.abs(wanted).max():.0f}")
    assert worst < tried.tolerance


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("name", ["window", "plain", "packed"])
def test_an_answer_longer_than_the_window_has_the_likeliest_ids(
    name: str, layers: str, models: Models, tmp_path: Path
) -> None:
    tried, ids = models[name], some_ids(40)
    file = tmp_path / "ids.json"
    file.write_text(json.dumps(ids))
    done = answer(tried, layers, "--raw-ids", file, "-n", 120)
    gap = tried.gap(ids, done["ids"])
    note(f"answer, {name}, {layers} layers: {len(done['ids'])} ids, gap {gap:.1e}")
    assert gap < tried.tolerance
    if layers != "0":
        assert done["tokens"]["drafted"] == 0  # on a GPU a draft could change the answer


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("name", ["window", "plain"])
def test_a_session_goes_on_from_its_saved_state(name: str, layers: str, models: Models) -> None:
    tried = models[name]
    first = answer(tried, layers, "--session", "s", "-n", 8, TEXT)
    ids = prompt_ids(tried, "--session", "s", "and the cat")
    second = answer(tried, layers, "--session", "s", "-n", 24, "and the cat")
    assert (first["tokens"]["cached"], second["tokens"]["prompt"]) == (0, len(ids))
    assert second["tokens"]["cached"] > 128
    gap = tried.gap(ids, second["ids"])
    note(f"saved state, {name}, {layers} layers: {second['tokens']['cached']} ids kept, gap {gap:.1e}")
    assert gap < tried.tolerance


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("name", ["window", "plain"])
def test_a_batch_of_answers_at_a_time_has_the_likeliest_ids(
    name: str, layers: str, models: Models, tmp_path: Path
) -> None:
    tried = models[name]
    prompts = [" ".join(WORDS[at : at + 5]) for at in range(6)]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"id": at, "prompt": text}) + "\n" for at, text in enumerate(prompts)))
    flags = ("--gpu-layers", layers, "--temperature", 0, "-n", 90, "--parallel", 4)
    done = run("-m", tried.path, "--batch", file, *flags)
    assert done.returncode == 0, done.stderr.decode()
    found = {each["id"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert sorted(found) == list(range(6))
    gap = max(tried.gap(prompt_ids(tried, text), found[at]["ids"]) for at, text in enumerate(prompts))
    note(f"batch of 4, {name}, {layers} layers: gap {gap:.1e}")
    assert gap < tried.tolerance


@pytest.mark.parametrize("layers", LAYERS)
def test_a_draft_model_leaves_the_likeliest_ids(layers: str, models: Models, tmp_path: Path) -> None:
    """The model drafts for itself, so that drafts are kept, and batches of several rows are computed."""
    tried, ids = models["window"], some_ids(40)
    file = tmp_path / "ids.json"
    file.write_text(json.dumps(ids))
    done = answer(tried, layers, "--raw-ids", file, "-n", 60, "--draft", tried.path)
    gap = tried.gap(ids, done["ids"])
    counts = done["tokens"]
    note(f"draft model, {layers} layers: {counts['accepted']} of {counts['drafted']} drafts kept, gap {gap:.1e}")
    assert gap < tried.tolerance


def test_doctor_finds_the_gpu_exact(gpus: tuple[Device, ...]) -> None:
    done = run("doctor")
    text = " ".join(done.stdout.decode().split())
    assert "WRONG ANSWERS" not in text
    for gpu in gpus:
        assert gpu.name in text
    note(f"doctor: {len(gpus)} GPUs")


def test_what_a_full_gpu_does_not_take_is_computed_on_the_processor(
    models: Models, gpus: tuple[Device, ...], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory that a GPU reports may be gone when it is asked for: one warning, fewer layers, the same answer."""
    path = request.config.getoption("--gpu-model")
    if not path or not gpus:
        pytest.skip("no GPU here, or no `--gpu-model FILE` that is large enough to fill it")
    total = sum(tensor.n_bytes for tensor in gguf.GGUFReader(path).tensors)
    pretended = HostResources(host_free_bytes(), tuple(gpu.free_bytes for gpu in gpus), threads=os.cpu_count() or 1)
    held = fill(gpus[0], gpus[0].free_bytes - total // 2)
    flags = ("-m", path, "--context", 2048, "-n", 4, "--temperature", 0)
    refused = run(*flags, "--gpu-layers", "all", "hello")
    answered = run(*flags, "hello")
    monkeypatch.setattr(load_job, "machine", lambda *_: pretended)
    loaded = load_model(EngineOptions(str(path), context=2048))
    layers = loaded.info.details["gpu_layers"]
    notices = loaded.reports.notices
    loaded.close()
    for buffer in held:
        functions().ggml_backend_buffer_free(buffer)
    note(f"full GPU: {'; '.join(notices)}; asked for all: {refused.stderr.decode().splitlines()[0]}")
    assert notices == [f"the GPU's memory ran out: it now holds {layers} layers, the processor the others"]
    assert (refused.returncode, refused.stdout) == (ExitCode.MEMORY, b"")
    assert answered.returncode == 0, answered.stderr.decode()


def fill(gpu: Device, count: int) -> list[int]:
    """Take so many bytes of a GPU's memory, in buffers of ggml."""
    library = functions()
    index = next(at for at, each in enumerate(devices()) if each.name == gpu.name)
    kind = library.ggml_backend_dev_buffer_type(library.ggml_backend_dev_get(index))
    sizes = [PIECE] * (count // PIECE)
    buffers = [library.ggml_backend_buft_alloc_buffer(kind, size) for size in sizes]
    assert all(buffers), f"{gpu.name} has no {count:,} bytes"
    return buffers


def functions() -> Any:
    """ggml's functions for buffers."""
    import ctypes

    library: Any = ggml()
    library.ggml_backend_dev_buffer_type.restype = ctypes.c_void_p
    library.ggml_backend_dev_buffer_type.argtypes = [ctypes.c_void_p]
    library.ggml_backend_buft_alloc_buffer.restype = ctypes.c_void_p
    library.ggml_backend_buft_alloc_buffer.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.ggml_backend_buffer_free.restype = None
    library.ggml_backend_buffer_free.argtypes = [ctypes.c_void_p]
    return library
