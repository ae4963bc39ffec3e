"""A model with adapters answers as the merged model does, with and without a window; wrong adapters are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from tests.folders import CHECKPOINTS
from tests.program import run

EXACT = ["--raw", "--raw-ids", "-", "--json", "-n", "32", "--temperature", "0", "--kv-type", "f32"]
PLAIN_ATTENTION = ["--flash-attention", "off"]


def greedy(*arguments: object) -> list[int]:
    prompt = np.load(CHECKPOINTS / "mistral-v0.1" / "logits.npz")["prompt"].tolist()
    done = run(*arguments, *EXACT, *PLAIN_ATTENTION, "-q", stdin=json.dumps(prompt).encode())
    assert (done.returncode, done.stderr) == (0, b"")
    ids: list[int] = json.loads(done.stdout)["ids"]
    return ids


def peft_adapter(folder: Path) -> Path:
    """A seeded LoRA of rank 4 on the query, value and down projections of a tiny v0.1 model."""
    import struct

    folder.mkdir()
    seeded = np.random.default_rng(7)
    shapes = {"self_attn.q_proj": (256, 256), "self_attn.v_proj": (64, 256), "mlp.down_proj": (256, 512)}
    tensors = {}
    for layer in range(3):
        for name, (rows, columns) in shapes.items():
            stem = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{stem}.lora_A.weight"] = seeded.normal(0, 0.3, (4, columns)).astype("<f4")
            tensors[f"{stem}.lora_B.weight"] = seeded.normal(0, 0.3, (rows, 4)).astype("<f4")
    header, data = {}, b""
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [len(data), len(data) + tensor.nbytes]}
        data += tensor.tobytes()
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return peft_adapter(tmp_path_factory.mktemp("adapters") / "peft")


@pytest.mark.parametrize("window", ["auto", "off"])
@pytest.mark.slow
def test_an_adapter_answers_as_the_merged_model(
    window: str, adapter: Path, converted: Callable[..., Path], tmp_path: Path
) -> None:
    """The adapter file is written for the plain architecture, so for a windowed model it has to be tagged anew."""
    base, plain = converted("mistral-v0.1", window=window), converted("mistral-v0.1", window="off")
    merged, lora = tmp_path / "merged.gguf", tmp_path / "adapter.gguf"
    source = CHECKPOINTS / "mistral-v0.1"
    for arguments in (
        [source, "-t", "F32", "--window", window, "--lora", adapter, "-o", merged],
        [adapter, "--base", plain, "-o", lora],
    ):
        done = run("convert", *arguments)
        assert done.returncode == 0, done.stderr
    asked = ("--window", window)  # off: the file's own note of its lost window is overruled
    expected = greedy("-m", merged, *asked)
    assert greedy("-m", base, *asked, "--lora", lora) == expected
    assert greedy("-m", base, *asked, "--lora", f"{lora}:0.5", "--lora", f"{lora}:0.5") == expected
    assert greedy("-m", base, *asked) != expected
    refused = run("-m", lora, "hi")
    assert (refused.returncode, refused.stderr[:7]) == (3, b"error: ")


def bad_adapter(path: Path, rows: int, number: float) -> Path:
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.full((4, 256), number, np.float32))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", np.zeros((rows, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no.gguf"),
        ("shape", "changes [256, 128], but the model has [256, 256]"),
        ("nan", "tensor 'blk.0.attn_q.weight.lora_a' holds NaN or infinite numbers"),
        ("model", "is a model, not an adapter"),
        ("cut", ""),
    ],
)
def test_what_is_no_adapter_for_the_model_is_exit_3(kind: str, message: str, tiny_model: Path, tmp_path: Path) -> None:
    paths = {
        "missing": lambda: tmp_path / "no.gguf",
        "shape": lambda: bad_adapter(tmp_path / "a.gguf", 128, 0.5),
        "nan": lambda: bad_adapter(tmp_path / "a.gguf", 256, float("nan")),
        "model": lambda: tiny_model,
        "cut": lambda: tmp_path / "cut.gguf",
    }
    if kind == "cut":
        whole = bad_adapter(tmp_path / "a.gguf", 256, 0.5).read_bytes()
        (tmp_path / "cut.gguf").write_bytes(whole[:-500])
    done = run("-m", tiny_model, "--lora", paths[kind](), "-n", 2, "hi")
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (3, b"")
    assert lines[0].startswith("error: ")
    assert message in lines[0]
