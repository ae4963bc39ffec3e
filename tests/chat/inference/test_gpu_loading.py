"""Loading puts fewer layers on a GPU whose memory runs out, and warns if there is none. No GPU is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chat.core.events import Completion
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.errors import MemoryLimitError
from chat.inference import batch_scheduler, load_job
from chat.inference.batch_scheduler import BatchScheduler
from chat.inference.loaded_model import load_model
from chat.inference.response import reply
from chat.llama.context import LlamaContext
from chat.llama.context_settings import ContextSettings
from chat.llama.hardware import HostResources
from chat.llama.model import LoadSettings, Model

HOST = HostResources(8 << 30, (4 << 30,))


class Cramped(Model):
    """A model whose pretended GPU takes one layer less than it reported."""

    def __init__(self, path: str, settings: LoadSettings, *more: Any) -> None:
        if settings.gpu_layers > 2:
            raise MemoryLimitError("unable to allocate buffer", hint="use a smaller quantization")
        super().__init__(path, settings, *more)


def test_if_a_gpu_takes_fewer_layers_than_it_reported_memory_is_planned_again(
    plain_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_job, "machine", lambda *_: HOST)
    monkeypatch.setattr(load_job, "Model", Cramped)
    loaded = load_model(EngineOptions(str(plain_file), context=512, threads=1))
    details = loaded.info.details
    asked = load_model(EngineOptions(str(plain_file), context=512, threads=1, gpu_layers="2"))
    loaded.close()
    asked.close()
    assert loaded.reports.notices == ["the GPU's memory ran out: it now holds 2 layers, the processor the others"]
    assert details["reason"] == (
        "a context of 512 tokens, as asked; 2 of 3 layers (the output is one) on the GPU: "
        "the GPU's memory ran out with more"
    )
    counted = ("gpu_layers", "host_bytes", "gpu_bytes")
    assert [details[key] for key in counted] == [asked.info.details[key] for key in counted]
    assert details["draft"] == "off: with layers on a GPU it could change the answer"


def test_what_the_gpu_does_not_take_must_fit_in_the_hosts_memory(
    plain_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_job, "machine", lambda *_: HOST)
    loaded = load_model(EngineOptions(str(plain_file), context=512, threads=1, gpu_layers="2"))
    loaded.close()
    need = loaded.info.details["host_bytes"]
    monkeypatch.setattr(load_job, "Model", Cramped)
    monkeypatch.setattr(load_job, "machine", lambda *_: HostResources(need - 1, (4 << 30,)))
    with pytest.raises(MemoryLimitError, match=r"^\S+ needs 0\.0 GiB of memory .*GiB are free$"):
        load_model(EngineOptions(str(plain_file), context=512, threads=1))


def test_a_requested_number_of_layers_is_not_reduced(plain_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_job, "machine", lambda *_: HOST)
    monkeypatch.setattr(load_job, "Model", Cramped)
    with pytest.raises(MemoryLimitError, match=r"^unable to allocate buffer$") as caught:
        load_model(EngineOptions(str(plain_file), context=512, threads=1, gpu_layers="all"))
    assert caught.value.hint == "use fewer `--gpu-layers` or a smaller quantization"


class Requests:
    """A request source with all requests from the start."""

    def __init__(self, count: int) -> None:
        prompts = [Prompt(ids=tuple(range(5 + at, 30))) for at in range(count)]
        self.requests = [Request(each, Sampling(temperature=0), max_tokens=4) for each in prompts]
        self._left = list(enumerate(self.requests))

    def take(self, wait_seconds: float | None) -> tuple[int, Request] | None:
        return self._left.pop(0) if self._left else None

    @property
    def ended(self) -> bool:
        return not self._left


@pytest.mark.parametrize(("most", "tried"), [(2, [5, 2]), (0, [5, 2, 1])])
def test_a_batch_continues_with_the_memory_that_a_full_gpu_leaves(
    most: int, tried: list[int], plain_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that fills a GPU leaves no memory for a second context: the batch ended there without answers."""
    counts: list[int] = []
    received: list[str] = []

    class Full(LlamaContext):
        def __init__(self, model: Model, settings: ContextSettings) -> None:
            counts.append(settings.sequences)
            if settings.sequences > most:
                raise MemoryLimitError("no memory for a context")
            super().__init__(model, settings)

    monkeypatch.setattr(batch_scheduler, "LlamaContext", Full)
    loaded = load_model(EngineOptions(str(plain_file), context=512, threads=1, gpu_layers="0"))
    source = Requests(5)
    done = {at: each for at, each in BatchScheduler(loaded, 5, received.append).outcomes(source) if each is not None}
    alone = [list(reply(loaded, each))[-1] for each in source.requests]
    loaded.close()
    assert counts == tried
    assert received == [f"{most or 1} answers at a time instead of 5: memory allows no more"]
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert all(isinstance(each, Completion) for each in done.values())
    if most == 0:  # with float weights several rows are computed differently
        assert [getattr(done[at], "ids", None) for at in range(5)] == [getattr(each, "ids", ()) for each in alone]


@pytest.mark.parametrize("wanted", ["all", "5"])
def test_requested_layers_without_a_gpu_give_a_notice(
    wanted: str, plain_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_job, "machine", lambda *_: HostResources(8 << 30))
    loaded = load_model(EngineOptions(str(plain_file), threads=1, gpu_layers=wanted))
    loaded.close()
    assert loaded.reports.notices == [
        f"`--gpu-layers {wanted}` has no effect: llama.cpp finds no GPU (`mistral-chat doctor` says why), "
        "so everything is on the processor"
    ]
    assert loaded.info.details["gpu_layers"] == 0
