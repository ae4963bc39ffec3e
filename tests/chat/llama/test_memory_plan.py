"""What fits is decided by arithmetic alone: context, layers on GPUs, repacking, and a refusal with numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.errors import ExitCode, MemoryLimitError
from chat.llama.hardware import HostResources
from chat.llama.memory_estimate import ModelSizes, transfer_bytes
from chat.llama.memory_plan import (
    GIB,
    PROCESS_BYTES,
    RESERVE_BYTES,
    MemoryPlan,
    Parts,
    most_layers,
    on_gpus,
    plan_memory,
    split,
)
from chat.llama.sliding_window import Window
from chat.worker.client import LocalBackend
from tests.chat.llama.test_memory_estimate import EMBEDDING, LAYER, PLAIN, ROLLING, SEVEN

OPTIONS = EngineOptions("7B.gguf")
MIB = 1 << 20
PARTS = Parts(layers=(10, 20, 30, 40), output=7, work=1)


def planned(
    sizes: ModelSizes,
    window: Window,
    free: float,
    gpus: tuple[float, ...] = (),
    tokens: int = 0,
    *,
    shared: bool = False,
    **options: object,
) -> MemoryPlan:
    host = HostResources(round(free * GIB), tuple(round(each * GIB) for each in gpus), 2, shared)
    return plan_memory(sizes, replace(OPTIONS, **options), window, host, tokens)  # type: ignore[arg-type]


def test_a_window_is_rolled_through_unless_a_shorter_context_is_asked_for() -> None:
    chosen = planned(SEVEN, ROLLING, 8)
    assert (chosen.cells, chosen.rolling, chosen.cache_bytes) == (4352, True, 544 << 20)
    assert chosen.reason.startswith("a rolling window of 4,096 tokens; ")
    assert [planned(SEVEN, ROLLING, 8, context=cells).rolling for cells in (4097, 4096)] == [True, False]


@pytest.mark.parametrize(
    ("free", "context"),
    [(64, 32768), (20.5, 32768), (16, 16384), (9, 8192), (7, 4096), (5.2, 4096)],
)
def test_the_default_context_takes_a_quarter_of_what_is_free_beside_the_weights(free: float, context: int) -> None:
    chosen = planned(PLAIN, Window(), free)
    assert chosen.cells == context
    assert f"a context of {context:,} tokens (" in chosen.reason


def test_what_does_not_fit_is_refused_with_need_free_and_three_ways_out() -> None:
    with pytest.raises(MemoryLimitError) as caught:
        planned(PLAIN, Window(), 4)
    assert caught.value.exit_code == ExitCode.MEMORY == 4
    assert caught.value.message == (
        "7B.gguf needs 4.6 GiB of memory (weights 4.0, cache 0.5, work 0.1), but 4.0 GiB are free"
    )
    assert caught.value.hint == (
        "close other programs or use a smaller quantization, a smaller `--context`, or `--kv-type q8_0`"
    )
    assert planned(PLAIN, Window(), 4, gpus=(3,)).gpu_layers > 0  # a GPU takes its share


def test_layers_go_to_the_gpu_as_its_memory_allows() -> None:
    assert planned(SEVEN, ROLLING, 16).reason.endswith(
        "; everything on the processor: this build or machine has no GPU"
    )
    everything = planned(SEVEN, ROLLING, 16, (8,))
    assert (everything.gpu_layers, everything.reason.rpartition("; ")[2]) == (33, "all layers on the GPU")
    half = planned(SEVEN, ROLLING, 16, (2.7,))
    assert half.gpu_layers == 16
    assert half.reason.endswith("; 16 of 33 layers (the output is one) on the GPU, as many as its free memory takes")
    assert planned(SEVEN, ROLLING, 16, (1.4, 1.4)).gpu_layers >= half.gpu_layers - 6
    none = planned(SEVEN, ROLLING, 16, (0.1,))
    assert (none.gpu_layers, none.gpu_bytes) == (0, 0)
    assert none.reason.endswith("; everything on the processor: the GPU's free memory takes no layer")
    assert [planned(SEVEN, ROLLING, 16, (8,), gpu_layers=n).gpu_layers for n in ("0", "5", "99", "all")] == [
        0,
        5,
        33,
        33,
    ]


def test_after_a_gpus_memory_ran_out_there_are_no_more_layers_on_it_and_fewer_where_even_less_is_free() -> None:
    """The next try once asked for a number of layers, which was refused when another program had taken memory."""
    capped = [planned(SEVEN, ROLLING, 16, (2.7,), most_gpu_layers=most) for most in (33, 16, 10, 0)]
    assert [each.gpu_layers for each in capped] == [16, 16, 10, 0]
    assert [each.reason.rpartition("; ")[2] for each in capped[1:]] == [
        "16 of 33 layers (the output is one) on the GPU, as many as its free memory takes",
        "10 of 33 layers (the output is one) on the GPU: the GPU's memory ran out with more",
        "everything on the processor: the GPU's memory ran out with more",
    ]
    assert [capped[3].batch, planned(SEVEN, ROLLING, 16, (2.7,), gpu_layers="00").batch] == [256, 256]


def test_a_gpu_without_any_free_memory_is_a_gpu_all_the_same() -> None:
    """It was told that there is none, also to who asked for layers on it."""
    full = planned(SEVEN, ROLLING, 16, (0,))
    assert (full.gpu_layers, full.gpu_bytes) == (0, 0)
    assert full.reason.endswith("; everything on the processor: the GPU's free memory takes no layer")
    with pytest.raises(MemoryLimitError, match=r"^7B\.gguf needs 4\.7 GiB of a GPU's memory .* 0\.0 GiB are free$"):
        planned(SEVEN, ROLLING, 16, (0,), gpu_layers="all")


def test_the_output_is_the_first_layer_on_the_gpu() -> None:
    """llama.cpp's log, of a tiny model: with 1 layer 0.51 MiB, the output; with 2 a layer besides."""
    one, two = (planned(SEVEN, ROLLING, 16, (8,), gpu_layers=n) for n in ("1", "2"))
    layer_cache = one.cache_bytes // 32
    assert one.gpu_bytes == SEVEN.output_bytes + one.work_bytes
    assert two.gpu_bytes - one.gpu_bytes == one.host_bytes - two.host_bytes == LAYER + layer_cache


def test_what_is_not_on_the_gpu_is_on_the_host_with_what_a_batch_is_handed_over_in() -> None:
    everything = planned(SEVEN, ROLLING, 16, (8,))
    transfer = transfer_bytes(SEVEN, everything.batch, everything.cells, scores=False)
    assert everything.host_bytes == SEVEN.input_bytes + transfer + PROCESS_BYTES
    assert everything.gpu_bytes == SEVEN.weights - SEVEN.input_bytes + everything.cache_bytes + everything.work_bytes
    tied = planned(replace(SEVEN, tied_bytes=EMBEDDING), ROLLING, 16, (8,))
    assert (tied.host_bytes, tied.gpu_bytes) == (everything.host_bytes, everything.gpu_bytes + EMBEDDING)


def test_memory_that_the_gpu_shares_with_the_host_is_counted_once() -> None:
    """An Apple chip of 8 GB offers 5.3 to its GPU: the layers there are no less in the host's memory."""
    own, shared = (planned(SEVEN, ROLLING, 7, (5.3,), shared=is_shared) for is_shared in (False, True))
    assert own.gpu_layers == shared.gpu_layers == 33
    transfer = transfer_bytes(SEVEN, own.batch, own.cells, scores=False)
    assert shared.host_bytes == SEVEN.weights + own.cache_bytes + own.work_bytes + transfer + PROCESS_BYTES
    with pytest.raises(MemoryLimitError, match=r"^7B\.gguf needs 4\.8 GiB of memory .*, but 4\.5 GiB are free$"):
        planned(SEVEN, ROLLING, 4.5, (5.3,), shared=True)
    contexts = [planned(PLAIN, Window(), 10, (8,), shared=is_shared).cells for is_shared in (False, True)]
    assert contexts == [16384, 8192]


def test_a_default_context_leaves_all_layers_on_the_gpu_where_they_can_be() -> None:
    roomy, tight, small = (planned(PLAIN, Window(), 64, (free,)) for free in (12, 6, 4))
    assert (roomy.cells, roomy.gpu_layers) == (32768, 33)
    assert (tight.cells, tight.gpu_layers) == (8192, 33)
    assert "a context of 8,192 tokens (with more not all layers would fit on the GPU)" in tight.reason
    assert small.cells == 32768 and 0 < small.gpu_layers < 33  # they cannot, so the context is as without a GPU
    assert planned(PLAIN, Window(), 64, (6,), gpu_layers="0").cells == 32768


@pytest.mark.parametrize(
    ("wanted", "free", "need", "layers"), [("all", 3, "4.7", 33), ("20", 2, "2.9", 20), ("20", 0.2, "2.9", 20)]
)
def test_layers_that_were_asked_for_and_do_not_fit_are_refused_with_what_fits(
    wanted: str, free: float, need: str, layers: int
) -> None:
    with pytest.raises(MemoryLimitError) as caught:
        planned(SEVEN, ROLLING, 16, (free,), gpu_layers=wanted)
    assert caught.value.message == (
        f"7B.gguf needs {need} GiB of a GPU's memory with {layers} layers on it, but {free:.1f} GiB are free"
    )
    fits = planned(SEVEN, ROLLING, 16, (free,)).gpu_layers
    assert caught.value.hint == (
        f"`--gpu-layers {fits}` fits, which `auto` chooses; or use a smaller `--context`, or `--kv-type q8_0`"
    )
    assert planned(SEVEN, ROLLING, 16, (free,), gpu_layers=str(fits)).gpu_layers == fits


def test_only_rows_that_have_another_order_are_copied() -> None:
    seven = replace(SEVEN, repacked_bytes=3 * GIB)
    on, off = planned(seven, ROLLING, 20, repack="on"), planned(seven, ROLLING, 20, repack="off")
    assert (on.copied_bytes, off.copied_bytes, on.host_bytes - off.host_bytes) == (3 * GIB, 0, 3 * GIB)
    assert planned(SEVEN, ROLLING, 20, repack="on").copied_bytes == 0


def test_rows_are_repacked_for_long_first_prompts_where_memory_allows() -> None:
    seven = replace(SEVEN, repacked_bytes=3 * GIB)
    assert [planned(seven, ROLLING, 20, tokens=n).repack for n in (0, 199, 200, 9999)] == [False, False, True, True]
    assert not planned(SEVEN, ROLLING, 20, tokens=9999).repack  # there is nothing to gain
    assert not planned(seven, ROLLING, 6, tokens=9999).repack
    assert planned(SEVEN, ROLLING, 20, repack="on").repack
    assert planned(SEVEN, ROLLING, 20, tokens=9999, repack="off").repack is False
    with pytest.raises(MemoryLimitError):
        planned(seven, ROLLING, 6, repack="on")


@pytest.mark.parametrize(
    "options",
    [
        {"window": "auto"},
        {"window": "off", "context": 8192, "kv_type": "f32"},
        {"window": "off", "context": 8192, "flash_attention": "off"},
        {"window": "off", "context": 2048, "kv_type": "q8_0", "repack": "on"},
    ],
)
def test_each_part_is_within_a_tenth_of_what_llama_cpp_reserves(
    options: dict[str, Any], tiny_v3_model: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """By the sizes in its log; `tests/bench/estimates.py` does the same over many settings."""
    path = tiny_model if options["window"] == "auto" else tiny_v3_model
    engine = LocalBackend(EngineOptions(str(path), threads=1, **options), log_file=tmp_path / "log")
    details = engine.info().details
    engine.close()
    reserved: dict[str, float] = {}
    said = (tmp_path / "log").read_text()
    for kind, size in re.findall(r"(model|KV|compute|output) buffer size = +([0-9.]+) MiB", said):
        reserved[kind] = reserved.get(kind, 0) + float(size) * 2**20
    assert details["weights_bytes"] + details["copied_bytes"] == pytest.approx(reserved["model"], rel=0.1)
    assert details["cache_bytes"] == pytest.approx(reserved["KV"], rel=0.1)
    assert details["work_bytes"] == pytest.approx(reserved["compute"] + reserved["output"], rel=0.1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.slow
def test_the_estimate_is_within_a_tenth_of_what_is_measured(slow_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # not forked, with the pages of all that was imported before
    engine = LocalBackend(EngineOptions(str(slow_file), window="off", context=32768, threads=1))
    info = engine.info()
    list(engine.reply(Request(Prompt(ids=tuple(range(5, 300))), Sampling(temperature=0), max_tokens=2)))
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{engine.pid}/status").read_text().splitlines())
    measured = int(fields["VmHWM"].split()[0]) * 1024
    engine.close()
    print(f"estimated {info.details['host_bytes']:,}, measured {measured:,}")
    assert info.details["host_bytes"] == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(("count", "taken"), [(0, 0), (1, 7 + 1), (2, 47 + 1), (3, 77 + 1), (4, 97 + 1), (5, 107 + 1)])
def test_the_output_goes_to_the_gpu_first_and_the_last_layers_follow(count: int, taken: int) -> None:
    assert on_gpus(PARTS, (1000,), count) == (taken,)


@pytest.mark.parametrize(
    ("free", "count", "taken"),
    [
        ((500, 500), 4, (20 + 30 + 1, 40 + 7 + 1)),
        ((500, 500), 5, (10 + 20 + 30 + 1, 40 + 7 + 1)),  # a layer that begins before the bound is before it
        ((900, 100), 5, (107 + 1, 0)),
        ((100, 900), 5, (10 + 1, 97 + 1)),
        ((0, 100, 0), 5, (0, 107 + 1, 0)),
        ((300, 300, 300), 5, (10 + 20 + 1, 30 + 40 + 1, 7 + 1)),
    ],
)
def test_several_gpus_share_neighbouring_layers(free: tuple[int, ...], count: int, taken: tuple[int, ...]) -> None:
    assert on_gpus(PARTS, free, count) == taken


def test_as_many_layers_go_there_as_fit_on_each_gpu_with_a_reserve() -> None:
    parts = Parts((100 * MIB,) * 10, 50 * MIB, 20 * MIB)
    for count in range(1, 12):
        enough = RESERVE_BYTES + sum(on_gpus(parts, (1,), count))
        assert [most_layers(parts, (free,)) for free in (enough - 1, enough)] == [count - 1, count]
    two = (RESERVE_BYTES + 620 * MIB, RESERVE_BYTES + 620 * MIB)
    assert (most_layers(parts, two), on_gpus(parts, two, 11)) == (11, (620 * MIB, 470 * MIB))
    assert [most_layers(parts, free) for free in ((), (0,), (0, 0))] == [0, 0, 0]


def test_a_gpu_that_is_nearly_full_gets_no_layers() -> None:
    parts = Parts((100 * MIB,) * 10, 50 * MIB, 20 * MIB)
    free = (RESERVE_BYTES + 10 * MIB, RESERVE_BYTES + 2000 * MIB)
    assert split(parts, free) == (0, 1980 * MIB)
    assert (most_layers(parts, free), on_gpus(parts, free, 11)) == (11, (0, 1070 * MIB))
    assert split(parts, (5, 7)) == (5, 7)  # who asks for layers nevertheless gets them as llama.cpp would place them
