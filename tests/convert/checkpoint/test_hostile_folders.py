"""Folders with arbitrary JSON: planned or refused with one sentence, fast, in little memory, reading nothing else."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chat.errors import ChatError, ExitCode
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from tests.convert.adapters import make_original, pairs_for, write_peft
from tests.convert.hostile_json import hostile_json
from tests.convert.samples import V01, V03, Sizes, config_of, copy_checkpoint, hugging_face_tensors, make_checkpoint
from tests.folders import ROOT
from tests.grids import FULL

INDEXES = 10_000 if FULL else 100
OTHERS = 2_000 if FULL else 50  # of each kind
MEMORY_BYTES = 256 << 20
opened: list[str] | None = None


def listen(event: str, arguments: Any) -> None:
    """Write down which files are opened, while somebody wants to know."""
    if opened is not None and event in ("open", "os.listdir", "os.scandir"):
        opened.append(os.fspath(arguments[0]) if isinstance(arguments[0], str | os.PathLike) else "")


sys.addaudithook(listen)


def attack(folder: Path, name: str, count: int, options: ConversionOptions) -> None:
    """Plan a conversion with one file of the folder changed, again and again."""
    global opened
    good = json.loads((folder / name).read_bytes())
    at_home = (str(folder), sys.prefix, sys.base_prefix, str(ROOT), "/usr/lib", "/lib")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worst, planned, codes = 0.0, 0, set()
    for number in range(count):
        (folder / name).write_bytes(hostile_json(good, Random(f"{name}/{number}")))
        opened = []
        started = time.process_time()
        try:
            make_draft(options)
            planned += 1
        except ChatError as error:
            codes.add(error.exit_code)
            text = f"{error.message}{error.hint or ''}"
            assert len(text) < 1000, (number, text)
        finally:
            seen, opened = opened, None
        worst = max(worst, time.process_time() - started)
        assert [path for path in seen if path.startswith("/") and not path.startswith(at_home)] == [], number
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"{name}: {count} files, {planned} planned, worst {worst * 1000:.0f} ms, {grown >> 20} MiB more")
    assert worst < 2  # seconds of this process alone
    assert grown < MEMORY_BYTES
    assert codes <= {ExitCode.USAGE, ExitCode.MODEL, ExitCode.DATA}
    assert 0 < planned < count


def shards(folder: Path) -> Path:
    return copy_checkpoint(V03, folder)


def dense(folder: Path) -> Path:
    return copy_checkpoint(V01, folder)


def mixture(folder: Path) -> Path:
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192, "rope_theta": 1e6}
    kinds = ["sliding_attention", "full_attention"]
    sizes = Sizes(experts=4, window=64)
    return make_checkpoint(folder, sizes, rope_parameters=rope, layer_types=kinds, rope_theta=None)


def seeing(folder: Path) -> Path:
    make_checkpoint(folder, Sizes())
    outer = {"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "vision_config": {}}
    packing = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]}
    inner = {**config_of(Sizes()), "model_type": "mistral", "architectures": None}
    (folder / "config.json").write_text(json.dumps({**outer, "text_config": inner, "quantization_config": packing}))
    return folder


def original(folder: Path) -> Path:
    sizes = {"dim": 256, "n_layers": 2, "n_heads": 8, "n_kv_heads": 2, "head_dim": 32, "hidden_dim": 512}
    more = {"vocab_size": 512, "norm_eps": 1e-5, "rope_theta": 1e6, "sliding_window": [64, None], "moe": None}
    make_original(folder, hugging_face_tensors(Sizes()), 32, {**sizes, **more})
    shutil.copy(V01 / "tokenizer.model", folder)
    return folder


def tuned(folder: Path) -> Path:
    make_checkpoint(folder, Sizes(vocabulary=514))
    named = {"content": "<|im_start|>", "lstrip": False, "special": True}
    settings = {
        "added_tokens_decoder": {"512": named, "513": {**named, "content": "<|im_end|>"}},
        "chat_template": [{"name": "default", "template": "{{ messages }}"}, {"name": "tools", "template": "{{ x }}"}],
        "eos_token": {"content": "<|im_end|>"},
        "add_bos_token": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 513], "bos_token_id": 1}))
    return folder


def adapted(folder: Path) -> Path:
    make_checkpoint(folder, Sizes())
    pairs = pairs_for(hugging_face_tensors(Sizes()), ["model.layers.0.self_attn.q_proj", "lm_head"])
    patterns = {"rank_pattern": {"lm_head": 4}, "alpha_pattern": {"q_proj": 3}, "target_modules": ["q_proj", "lm_head"]}
    write_peft(folder / "adapter", pairs, use_rslora=True, use_dora=False, modules_to_save=None, **patterns)
    return folder


@pytest.mark.parametrize(
    ("make", "name", "count"),
    [
        (shards, "model.safetensors.index.json", INDEXES),
        (dense, "config.json", OTHERS),
        (mixture, "config.json", OTHERS),
        (seeing, "config.json", OTHERS),
        (original, "params.json", OTHERS),
        (tuned, "tokenizer_config.json", OTHERS),
        (tuned, "generation_config.json", OTHERS),
        (adapted, "adapter/adapter_config.json", OTHERS),
    ],
)
@pytest.mark.slow
def test_a_file_may_say_anything(make: Callable[[Path], Path], name: str, count: int, tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    adapters = ((folder / "adapter", 1.0),) if (folder / "adapter").is_dir() else ()
    attack(folder, name, count, ConversionOptions(folder, adapters=adapters))
