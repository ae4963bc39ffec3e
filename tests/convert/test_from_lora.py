"""Adapter files in llama.cpp: with the adapter, the base's logits are those of the merged model."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from chat.cli.main import run
from chat.errors import FileError, ModelError, UsageError
from chat.gguf.reader import read_gguf
from chat.gguf.validate_lora import check_adapter, check_adapter_fits
from convert.draft import ConversionOptions
from convert.pipeline import convert
from tests.convert.adapters import linear_modules, pairs_for, write_mistral, write_peft
from tests.convert.samples import Array, Sizes, hugging_face_tensors, make_checkpoint, tensor_bytes
from tests.program import run_command

IDS = [1, *np.random.default_rng(3).integers(3, 512, 90).tolist()]
CHILD = Path(__file__).parent / "logits_child.py"
MODELS = {
    "plain": Sizes(),
    "windowed": Sizes(window=24),
    "wide-heads": Sizes(head_dim=64, window=24),
    "plain-experts": Sizes(experts=4, layers=1),
    "windowed-experts": Sizes(experts=4, layers=1, window=24),
}


def logits(base: Path, adapter: Path, merged: Path) -> tuple[Array, Array, Array]:
    """What llama.cpp makes of the base with its adapter, of the merged model, and of the base alone."""
    out = base.with_suffix(".npy")
    asked = [[str(base), str(adapter)], [str(merged), "-"], [str(base), "-"]]
    command = [sys.executable, str(CHILD), json.dumps(asked), json.dumps(IDS), str(out)]
    done = run_command(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with_adapter, wanted, without = np.load(out)
    return with_adapter, wanted, without


def write(adapter: Path, base: Path, out: Path, type_name: str = "F32", window: str = "auto") -> Path:
    convert(ConversionOptions(adapter, out, type_name, window, show_progress=False, base=base))
    return out


def every_pair(sizes: Sizes) -> dict[str, tuple[Array, Array]]:
    """A pair for each module, but one expert; ranks differ."""
    tensors = hugging_face_tensors(sizes)
    parts = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3", "lm_head")
    modules = [module for module in linear_modules(tensors, parts) if "experts.1.w2" not in module]
    ranks = {module: 6 for module in modules if module.endswith(("v_proj", "2.w1", "up_proj"))}
    return pairs_for(tensors, modules, ranks=ranks)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_llama_cpp_with_the_adapter_answers_as_the_merged_model(name: str, tmp_path: Path) -> None:
    sizes = MODELS[name]
    folder = make_checkpoint(tmp_path / "base", sizes)
    patterns = {"rank_pattern": {"v_proj": 6, "up_proj": 6, r"experts\.2\.w1": 6}, "alpha_pattern": {"q_proj": 3}}
    adapter = write_peft(tmp_path / "adapter", every_pair(sizes), use_rslora=True, **patterns)
    base, merged = tmp_path / "base.gguf", tmp_path / "merged.gguf"
    convert(ConversionOptions(folder, base, "F32", show_progress=False))
    convert(ConversionOptions(folder, merged, "F32", show_progress=False, adapters=((adapter, 1.0),)))
    with_adapter, wanted, without = logits(base, write(adapter, base, tmp_path / "adapter.gguf"), merged)
    worst = float(np.abs(with_adapter - wanted).max())
    print(f"{name}: worst difference {worst:.1e} of logits up to {np.abs(wanted).max():.1f}")
    assert worst < 1e-5
    assert np.abs(without - wanted).max() > 0.05
    file = read_gguf(tmp_path / "adapter.gguf")
    check_adapter_fits(file, read_gguf(base))
    assert file.architecture == ("llama" if sizes.window is None else "granite_swa")


def test_an_adapter_of_a_tied_embedding_is_neither_written_nor_attached(tmp_path: Path) -> None:
    """llama.cpp aborts at the first answer: it multiplies the output layer by the pair, whose halves are exchanged."""
    sizes = Sizes(layers=1, is_tied=True)
    tensors = {
        "model.embed_tokens.lora_embedding_A": np.ones((4, 512), np.float32),
        "model.embed_tokens.lora_embedding_B": np.ones((256, 4), np.float32),
    }
    adapter = write_peft(tmp_path / "adapter", {}, tensors)
    tied = make_checkpoint(tmp_path / "tied", sizes)
    convert(ConversionOptions(tied, tmp_path / "tied.gguf", "F32", show_progress=False))
    for base in (tied, tmp_path / "tied.gguf"):
        with pytest.raises(ModelError, match="changes the embedding, which the model also uses as its output") as fault:
            write(adapter, base, tmp_path / "out.gguf")
        assert fault.value.hint == "merge it with `--lora` while you convert the base"
    other = make_checkpoint(tmp_path / "other", Sizes(layers=1))
    file = read_gguf(write(adapter, other, tmp_path / "adapter.gguf"))
    with pytest.raises(ModelError, match=r"changes the embedding, which tied.gguf also uses as its output layer"):
        check_adapter_fits(file, read_gguf(tmp_path / "tied.gguf"))


def test_an_embeddings_adapter_is_looked_up_by_piece(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    a = generator.standard_normal((4, 512), dtype=np.float32) * np.float32(0.1)
    b = generator.standard_normal((256, 4), dtype=np.float32) * np.float32(0.1)
    halves = {"model.embed_tokens.lora_embedding_A": a, "model.embed_tokens.lora_embedding_B": b}
    folder = make_checkpoint(tmp_path / "base")
    adapter = write_peft(tmp_path / "adapter", {}, halves)
    base, merged = tmp_path / "base.gguf", tmp_path / "merged.gguf"
    convert(ConversionOptions(folder, base, "F32", show_progress=False))
    convert(ConversionOptions(folder, merged, "F32", show_progress=False, adapters=((adapter, 1.0),)))
    with_adapter, wanted, without = logits(base, write(adapter, base, tmp_path / "adapter.gguf"), merged)
    assert np.abs(with_adapter - wanted).max() < 1e-5
    assert np.abs(without - wanted).max() > 0.05


def test_a_mistral_adapter_becomes_the_file_that_a_peft_adapter_becomes(tmp_path: Path) -> None:
    tensors = hugging_face_tensors(Sizes())
    pairs = pairs_for(tensors, [m for m in linear_modules(tensors) if m != "lm_head"])
    folder = make_checkpoint(tmp_path / "base", Sizes(window=64))
    first = write(write_peft(tmp_path / "peft", pairs), folder, tmp_path / "peft.gguf")
    second = write(write_mistral(tmp_path / "mistral", pairs, 32), folder, tmp_path / "mistral.gguf")
    assert tensor_bytes(first)[1] == tensor_bytes(second)[1]
    assert read_gguf(first).metadata["adapter.lora.alpha"] == read_gguf(second).metadata["adapter.lora.alpha"] == 8.0


def test_the_file_says_what_it_is_and_for_which_architecture(tmp_path: Path) -> None:
    tensors = hugging_face_tensors(Sizes())
    adapter = write_peft(tmp_path / "poet", pairs_for(tensors, ["model.layers.0.self_attn.q_proj", "lm_head"]))
    folder = make_checkpoint(tmp_path / "base", Sizes(window=64))
    written = {
        window: read_gguf(write(adapter, folder, tmp_path / f"{window}.gguf", "F16", window))
        for window in ("auto", "off")
    }
    for file in written.values():
        check_adapter(file)
    metadata = dict(written["auto"].metadata)
    assert re.fullmatch("[0-9a-f]{64}", metadata.pop("mistral_chat.source_sha256"))
    assert metadata == {
        "general.architecture": "granite_swa",
        "general.type": "adapter",
        "adapter.type": "lora",
        "general.name": "poet",
        "adapter.lora.alpha": 8.0,
        "mistral_chat.source": "poet",
        "general.quantization_version": 2,
        "general.file_type": 1,
    }
    assert written["off"].architecture == "llama"
    assert {name: (info.type, info.shape) for name, info in written["auto"].tensors.items()} == {
        "output.weight.lora_a": ("F16", (256, 4)),
        "output.weight.lora_b": ("F16", (4, 512)),
        "blk.0.attn_q.weight.lora_a": ("F16", (256, 4)),
        "blk.0.attn_q.weight.lora_b": ("F16", (4, 256)),
    }


def test_the_command_line_writes_adapters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    adapter = write_peft(tmp_path / "poet", every_pair(Sizes()), rank_pattern={"v_proj": 6, "up_proj": 6})
    folder = make_checkpoint(tmp_path / "base")
    assert run(["convert", str(adapter), "--base", str(folder)]) == 0
    shown = capsys.readouterr()
    assert shown.out == "poet-F32.gguf\n"
    assert shown.err == "adapter of 30 tensors for the architecture llama, F32, 159 kB\n"
    assert run(["convert", str(adapter), "--base", str(folder), "--json", "--dry-run", "-t", "q8_0"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["type"], report["output"], report["verified"]) == ("Q8_0", "poet-Q8_0.gguf", False)
    assert not Path("poet-Q8_0.gguf").exists()
    assert run(["convert", str(adapter)]) == 2
    assert "is an adapter\nhint: write it for a model with `--base MODEL`" in capsys.readouterr().err
    assert run(["convert", str(adapter), "--base", str(folder), "--imatrix", "m.gguf"]) == 2
    assert "error: `--imatrix` has no effect on an adapter\nhint: " in capsys.readouterr().err
    assert run(["convert", str(adapter), "--base", str(folder)]) == 7
    assert "poet-F32.gguf exists already" in capsys.readouterr().err


def test_what_an_adapter_file_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    tensors = hugging_face_tensors(Sizes())
    pairs = pairs_for(tensors, ["model.layers.0.self_attn.q_proj"])
    folder = make_checkpoint(tmp_path / "base")
    plain = write_peft(tmp_path / "plain", pairs)
    whole = write_peft(tmp_path / "whole", pairs, {"lm_head.weight": tensors["lm_head.weight"]})
    out = tmp_path / "out.gguf"
    cases = [
        (plain, folder, "Q4_K_M", UsageError, "an adapter cannot be of type Q4_K_M"),
        (whole, folder, "F32", ModelError, "holds whole tensors"),
        (plain, tmp_path / "missing.gguf", "F32", ModelError, "there is no such file"),
        (plain, make_checkpoint(tmp_path / "small", Sizes(width=128)), "F32", ModelError, "changes 256 x 256 weights"),
    ]
    for adapter, base, type_name, kind, words in cases:
        with pytest.raises(kind, match=words):
            write(adapter, base, out, type_name)
    assert not out.exists()
    out.write_bytes(b"old")
    with pytest.raises(FileError, match="exists already"):
        write(plain, folder, out)
    assert out.read_bytes() == b"old"
    foreign = write(plain, folder, tmp_path / "foreign.gguf")
    raw = foreign.read_bytes().replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0gemma", 1)
    foreign.write_bytes(raw)
    with pytest.raises(ModelError, match="is of the architecture 'gemma', which convert does not write"):
        write(plain, foreign, tmp_path / "other.gguf")
