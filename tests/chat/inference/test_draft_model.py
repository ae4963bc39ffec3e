"""A small model's memory is counted before the model's own is, and an error says which of both is too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.core.request import EngineOptions
from chat.errors import MemoryLimitError
from chat.gguf.reader import read_gguf
from chat.inference.draft_model import bytes_of, left_beside, plan_draft_model
from chat.inference.loaded_model import load_model
from chat.llama import hardware
from chat.llama.hardware import HostResources
from chat.llama.memory_estimate import sizes_of
from chat.llama.memory_plan import PROCESS_BYTES

MIB = 1 << 20


def test_the_small_model_leaves_the_rest(plain_file: Path, windowed_file: Path) -> None:
    main, host = read_gguf(plain_file), HostResources(1 << 30, (100 * MIB, 900 * MIB))
    assert plan_draft_model(EngineOptions(str(plain_file)), main, host) is None
    assert left_beside(None, host) == host
    small = plan_draft_model(EngineOptions(str(plain_file), draft=str(windowed_file)), main, host)
    assert small is not None
    weights, fitted = sizes_of(small.file).weights, small.fit
    assert fitted.weights_bytes == weights
    assert fitted.gpu_layers == 3  # all of it, and the output
    left = left_beside(small, host)
    assert left.free_bytes == host.free_bytes - bytes_of(small)
    assert bytes_of(small) == fitted.host_bytes - PROCESS_BYTES
    assert left.gpu_free_bytes[0] == 100 * MIB
    assert 0 < host.gpu_free_bytes[1] - left.gpu_free_bytes[1] <= weights + fitted.cache_bytes


@pytest.mark.parametrize(
    ("free", "too_large", "hint"),
    [(10 * MIB, "windowed", "leave out `--draft`"), (PROCESS_BYTES + 5 * MIB, "plain", "leave out `--draft`, close")],
)
def test_what_does_not_fit_is_named(
    free: int, too_large: str, hint: str, plain_file: Path, windowed_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "host_free_bytes", lambda: free)
    with pytest.raises(MemoryLimitError) as caught:
        load_model(EngineOptions(str(plain_file), draft=str(windowed_file), context=32768, threads=1, gpu_layers="0"))
    assert Path(caught.value.message.split(" needs ")[0]).stem == too_large
    assert (caught.value.hint or "").startswith(hint)
    assert caught.value.message.endswith(f"beside {windowed_file}") == (too_large == "plain")
