"""What loading does about GPUs: fewer layers where memory runs out, a word where there is none. No GPU is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chat.engine import room
from chat.engine.model import LoadSettings, Model
from chat.engine.offload import Host
from chat.engine.room import load_room
from chat.ground.errors import MemoryLimitError
from chat.request import EngineOptions

HOST = Host(8 << 30, (4 << 30,))


class Cramped(Model):
    """A model whose GPU, which is not there, takes one layer less than it said."""

    def __init__(self, path: str, settings: LoadSettings, *more: Any) -> None:
        if settings.gpu_layers > 2:
            raise MemoryLimitError("unable to allocate buffer")
        super().__init__(path, settings, *more)


def test_where_a_gpu_takes_fewer_layers_than_it_said_memory_is_counted_anew(
    plain_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "machine", lambda _: HOST)
    monkeypatch.setattr(room, "Model", Cramped)
    loaded = load_room(EngineOptions(str(plain_file), context=512, threads=1))
    details = loaded.info.details
    asked = load_room(EngineOptions(str(plain_file), context=512, threads=1, gpu_layers="2"))
    loaded.close()
    asked.close()
    assert loaded.notices == ["the GPU's memory ran out: 2 layers are on it now, the others on the processor"]
    assert details["reason"] == (
        "a context of 512 tokens, as asked; 2 of 3 layers (the output is one) on the GPU: "
        "the GPU's memory ran out with more"
    )
    counted = ("gpu_layers", "host_bytes", "gpu_bytes")
    assert [details[key] for key in counted] == [asked.info.details[key] for key in counted]
    assert details["draft"] == "off: layers on a GPU would not compute drafts bit for bit like single tokens"


def test_what_the_gpu_does_not_take_must_fit_in_the_hosts_memory(
    plain_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "machine", lambda _: HOST)
    loaded = load_room(EngineOptions(str(plain_file), context=512, threads=1, gpu_layers="2"))
    loaded.close()
    need = loaded.info.details["host_bytes"]
    monkeypatch.setattr(room, "Model", Cramped)
    monkeypatch.setattr(room, "machine", lambda _: Host(need - 1, (4 << 30,)))
    with pytest.raises(MemoryLimitError, match=r"^\S+ needs 0\.0 GiB of memory .*GiB are free$"):
        load_room(EngineOptions(str(plain_file), context=512, threads=1))


@pytest.mark.parametrize("wanted", ["all", "5"])
def test_who_asks_for_layers_on_a_gpu_that_is_not_there_is_told(
    wanted: str, plain_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "machine", lambda _: Host(8 << 30))
    loaded = load_room(EngineOptions(str(plain_file), threads=1, gpu_layers=wanted))
    loaded.close()
    assert loaded.notices == [
        f"`--gpu-layers {wanted}` has no effect: this build of llama.cpp or this machine has no GPU, "
        "so everything is on the processor"
    ]
    assert loaded.info.details["gpu_layers"] == 0
