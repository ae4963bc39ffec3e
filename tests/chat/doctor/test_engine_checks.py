"""What the probe finds becomes sentences; wrong logits are a loud problem."""

from __future__ import annotations

import json
import math
from array import array
from pathlib import Path

import pytest

from chat.core.conversation import Message
from chat.core.events import Completion
from chat.core.request import EngineOptions, Prompt, Request
from chat.doctor.engine_checks import (
    GPU_TOLERANCE,
    check_build,
    check_choice,
    check_devices,
    check_exactness,
    check_guide,
    check_kernels,
    check_threads,
)
from chat.doctor.machine_checks import Finding
from chat.doctor.probe import CHUNKS, EXACT, EXACT_IDS, ON_GPUS, _difference, _guide
from chat.doctor.system_gpu import SystemGpu
from chat.doctor.tiny_model import Shape, TinyTensor, make_weights, write_model
from chat.gguf.reader import read_gguf
from chat.gguf.validate_model import check_model
from chat.guide import KNOWN_ANSWER
from chat.guide import PATH as GUIDE
from chat.guide.backend import GuideBackend
from chat.llama.hardware import devices, usable_gpus
from chat.llama.model import LoadSettings, Model
from chat.system.installer import pip_install
from chat.worker.client import LocalBackend

SHAPE = Shape()
CPU = {"name": "CPU", "kind": "cpu", "description": "Chip", "free_bytes": 9, "total_bytes": 9}


@pytest.mark.parametrize("difference", [0.1, math.nan, 2e-3])
def test_a_difference_over_the_limit_is_a_loud_problem(difference: float) -> None:
    finding = check_exactness({"difference": difference, "ids": 270})
    assert finding.state == "problem"
    assert finding.words == (
        f"WRONG ANSWERS: logits of 270 tokens through a window of 64 differ by {difference:.0e} at most, "
        "and 0.002 is the limit"
    )


def test_who_packs_weights_is_told() -> None:
    words = "`convert` packs weights with AVX2, and llama.cpp's bytes"
    assert check_kernels({"instruction_set": "AVX2", "slow": []}) == Finding("kernels", "ok", words)
    assert check_kernels({"instruction_set": "AVX2", "slow": ["Q4_K", "Q6_K"]}) == Finding(
        "kernels",
        "note",
        f"{words}; but Q4_K, Q6_K with llama.cpp's own kernels, as this build of it rounds otherwise",
    )
    assert check_kernels({"instruction_set": None, "slow": []}) == Finding(
        "kernels",
        "note",
        "`convert` packs weights with llama.cpp's own kernels, which take about ten times as long",
        "install a C++ compiler, then this program again",
    )


def test_on_a_gpu_the_cells_of_float16_set_the_limit() -> None:
    found = {"difference": 0.056, "ids": 270, "gpus": "Vulkan0"}
    words = "on Vulkan0 logits of 270 tokens through a window of 64 differ by 6e-02 at most"
    assert check_exactness(found) == Finding("exactness", "ok", f"{words} from the definition")
    for difference, said in ((14.0, "1e+01"), (math.nan, "nan"), (0.5, "5e-01")):
        assert check_exactness(found | {"difference": difference}) == Finding(
            "exactness",
            "problem",
            f"WRONG ANSWERS: {words.replace('6e-02', said)}, and 0.5 is the limit",
            "`--gpu-layers 0` does not use the GPU",
        )


@pytest.mark.skipif(not usable_gpus(devices()), reason="needs a GPU that llama.cpp can use")
def test_a_gpu_agrees_with_the_definition_beyond_the_window(tmp_path: Path) -> None:
    tensors = make_weights(SHAPE)
    write_model(tmp_path / "tiny.gguf", SHAPE, tensors)
    for count in (1, 2, 3):
        model = Model(str(tmp_path / "tiny.gguf"), LoadSettings(gpu_layers=count))
        difference = _difference(model, SHAPE, tensors, ON_GPUS)
        print(f"{count} layers: worst difference {difference:.1e}")
        assert difference < GPU_TOLERANCE
        model.close()


def test_the_engine_agrees_with_the_definition_beyond_the_window(tmp_path: Path) -> None:
    tensors = make_weights(SHAPE)
    write_model(tmp_path / "tiny.gguf", SHAPE, tensors)
    model = Model(str(tmp_path / "tiny.gguf"), LoadSettings())
    difference = _difference(model, SHAPE, tensors)
    print(f"worst difference {difference:.1e}")
    assert EXACT_IDS > 200 > sum(CHUNKS) > SHAPE.window
    assert (EXACT.rolling, difference < 1e-3) == (True, True)
    assert check_exactness({"difference": difference, "ids": EXACT_IDS}).state == "ok"
    model.close()


@pytest.mark.parametrize("change", ["window", "weights"])
def test_the_judge_can_tell_another_window_and_another_weight(tmp_path: Path, change: str) -> None:
    """The file has a window of 63, or one changed number: neither passes for the model that is meant."""
    tensors = make_weights(SHAPE)
    written = Shape(window=63) if change == "window" else SHAPE
    changed = dict(tensors)
    if change == "weights":
        values = array("f", tensors["blk.1.attn_v.weight"].values)
        values[0] += 0.5
        changed["blk.1.attn_v.weight"] = TinyTensor(tensors["blk.1.attn_v.weight"].shape, values)
    write_model(tmp_path / "tiny.gguf", written, changed)
    model = Model(str(tmp_path / "tiny.gguf"), LoadSettings())
    assert _difference(model, SHAPE, tensors) > 0.01
    model.close()


def test_the_tiny_model_is_the_same_each_time_and_passes_the_strict_reader(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_model(tmp_path / name, SHAPE, make_weights(SHAPE))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    file = read_gguf(tmp_path / "one")
    check_model(file)
    assert (file.architecture, file.window, file.vocabulary_size, file.type_name) == ("granite_swa", 64, 259, "F32")


def test_a_gpu_that_the_build_cannot_use_is_a_note_with_the_line_that_installs_it() -> None:
    seen = SystemGpu("an NVIDIA H200", "CUDA")
    command = pip_install("--force-reinstall --no-cache-dir llama-cpp-python==0.3.36")
    found = check_devices({"list": [CPU], "free_bytes": 5_000_000_000, "gpu_backends": []}, seen, "0.3.36")
    assert found == [
        Finding("device", "ok", "CPU (cpu): Chip, 5.0 GB free"),
        Finding(
            "gpu",
            "note",
            "an NVIDIA H200 is here, but this build of llama.cpp has no GPU support",
            f"`CMAKE_ARGS=-DGGML_CUDA=on {command}`",
        ),
    ]
    assert check_devices({"list": [CPU], "free_bytes": 7, "gpu_backends": []}, None, "0.3.36") == [
        Finding("device", "ok", "CPU (cpu): Chip, 7 bytes free")
    ]
    gpu = CPU | {"name": "CUDA0", "kind": "gpu", "free_bytes": 2_000_000_000}
    listed = {"list": [gpu, CPU], "free_bytes": 7, "gpu_backends": ["CUDA"]}
    assert [each.words for each in check_devices(listed, seen, "0.3.36")] == [
        "CUDA0 (gpu): Chip, 2.0 GB free",
        "CPU (cpu): Chip, 7 bytes free",
    ]


def test_a_build_for_gpus_that_finds_none_is_a_note_about_the_driver() -> None:
    """It was called a build without GPU support, and the hint was to install the same build again."""
    found = {"list": [CPU], "free_bytes": 7, "gpu_backends": ["CUDA"]}
    assert check_build({"name": "0.3 CPU : AVX2 = 1", "gpu_backends": ["CUDA"]}).words == (
        "llama.cpp 0.3, with GPU support (CUDA); uses AVX2"
    )
    hint = "check its driver, which `nvidia-smi` should list"
    assert check_devices(found, SystemGpu("an NVIDIA H200", "CUDA"), "0.3.36")[1:] == [
        Finding("gpu", "note", "an NVIDIA H200 is here, but llama.cpp finds none by CUDA", hint)
    ]
    assert check_devices(found, None, "0.3.36")[1:] == [
        Finding("gpu", "note", "no GPU is used: llama.cpp finds none by CUDA", hint)
    ]


def test_threads_are_told_with_their_reason() -> None:
    plain = {"allowed": 16, "physical": 8, "quota": 16, "chosen": 8}
    assert check_threads(plain).words == "8: 8 physical cores among 16 allowed processors"
    tight = plain | {"quota": 3, "chosen": 3}
    assert check_threads(tight).words == (
        "3: 8 physical cores among 16 allowed processors, within the container's quota of 3"
    )


def test_a_crawling_build_is_a_note() -> None:
    found = {"known": [5, 6], "given": [5, 6]}
    assert check_guide(found | {"tokens_per_second": 12.0}).state == "note"
    assert check_guide(found | {"tokens_per_second": 4000.0}).state == "ok"


def test_an_answer_that_is_not_the_stored_one_is_a_loud_problem() -> None:
    finding = check_guide({"known": [5, 6, 7], "given": [5, 6, 8], "tokens_per_second": 4000.0})
    assert finding.state == "problem"
    assert finding.words == "WRONG ANSWERS: the guide's stored answer has 3 tokens, of which only 2 come out first"


def test_the_guide_says_its_stored_answer_and_its_ids_are_the_answers() -> None:
    stored = json.loads(KNOWN_ANSWER.read_text(encoding="utf-8"))
    assert _guide()["given"] == stored["answer_ids"]
    asked = Request(Prompt((Message("user", stored["question"]),)), max_tokens=200)
    engine = GuideBackend(LocalBackend(EngineOptions(str(GUIDE), threads=1)))
    rendered, done = engine.render(asked), list(engine.reply(asked))[-1]
    engine.close()
    assert list(rendered.ids) == stored["prompt_ids"]
    assert isinstance(done, Completion)
    assert (done.text.strip(), list(done.ids)) == (stored["answer"], stored["answer_ids"])


def test_a_choice_is_told_with_its_reason_its_need_and_what_the_model_was_trained_on() -> None:
    found = {
        "path": "/m/big.gguf",
        "type": "Q4_K_M",
        "threads": 2,
        "reason": "a context of 8,192 tokens, as asked; everything on the processor",
        "repack": True,
        "layers": 32,
        "gpu_layers": 0,
        "host_bytes": 5_000_000_000,
        "free_bytes": 9_000_000_000,
        "gpu_bytes": 0,
        "gpu_free_bytes": 8_000_000_000,
        "picture_bytes": 0,
        "rolling": False,
        "cells": 8192,
        "trained_context": 32768,
    }
    assert check_choice(found).words == (
        "big.gguf (Q4_K_M) with 2 threads: a context of 8,192 tokens, as asked; everything on the processor; "
        "rows repacked; needs 5.0 GB of 9.0 GB free; the model was trained on 32,768 tokens"
    )
    rolling = found | {"rolling": True, "repack": False, "threads": 1, "reason": "a rolling window of 64 tokens"}
    assert check_choice(rolling).words == (
        "big.gguf (Q4_K_M) with 1 thread: a rolling window of 64 tokens; rows not repacked unless the prompt is long; "
        "needs 5.0 GB of 9.0 GB free; a text has no end, but the model was trained on 32,768 tokens"
    )
    seeing = found | {"picture_bytes": 2_000_000_000, "trained_context": 8192}
    assert check_choice(seeing).words.endswith("needs 5.0 GB of 9.0 GB free; the picture encoder needs 2.0 GB more")
    reason = "a context of 8,192 tokens, as asked; all layers on the GPU"
    gpu = found | {"gpu_bytes": 4_000_000_000, "repack": False, "gpu_layers": 33, "reason": reason}
    assert check_choice(gpu).words == (
        f"big.gguf (Q4_K_M) with 2 threads: {reason}; needs 5.0 GB of 9.0 GB free, and of the GPU's memory "
        "4.0 GB of 8.0 GB; the model was trained on 32,768 tokens"
    )
