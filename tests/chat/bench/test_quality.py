"""Perplexity and divergence of real tiny models: the figures of llama-perplexity, and what cannot be measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.bench import quality
from chat.bench.log_probabilities import PackedProbabilities, perplexity, token_losses
from chat.bench.quality_results import Estimate, QualityQuestion, QualityReport
from chat.cli.bench_quality import SAMPLE
from chat.core.request import EngineOptions
from chat.errors import ChatError
from chat.inference import load_job
from chat.inference.loaded_model import load_vocabulary
from chat.llama.context import LlamaContext
from chat.llama.context_settings import ContextSettings
from chat.llama.hardware import HostResources
from chat.llama.model import LoadSettings, Model
from chat.prompts.segments import Mark, Text
from chat.system.text_files import read_plain_text
from chat.worker.protocol import build, from_line, to_line
from tests.chat.conftest import Make
from tests.chat.tiny_models import Shape, weights, write_gguf


def question(
    folder: Path,
    files: list[Path],
    against: Path | None = None,
    *,
    text: str | None = None,
    chunks: int | None = 6,
    **options: Any,
) -> QualityQuestion:
    def loaded(path: Path) -> EngineOptions:
        given = {"context": 128, "threads": 1, "needs_format": False, "draft": "off", **options}
        return EngineOptions(str(path), **given)

    return QualityQuestion(
        files=tuple(loaded(path) for path in files),
        reference=None if against is None else loaded(against),
        text=read_plain_text(SAMPLE) if text is None else text,
        chunks=chunks,
        folder=str(folder),
    )


def measured(asked: QualityQuestion) -> tuple[QualityReport, list[dict[str, Any]]]:
    """The report as it arrives in the parent, and the messages before it."""
    messages: list[dict[str, Any]] = []
    quality.answer(from_line(to_line(asdict(asked))), lambda message: messages.append(from_line(to_line(message))))
    return build(QualityReport, messages.pop()["report"]), messages


def test_a_perplexity_that_no_float_holds_is_infinite() -> None:
    assert Estimate(800.0, 0.1).exponential().value == float("inf")


def rounded(found: Estimate, digits: int) -> tuple[float, float]:
    return round(found.value, digits), round(found.error, digits)


def test_the_sample_stays_as_it_is_so_that_figures_of_all_versions_can_be_compared() -> None:
    found = hashlib.sha256(SAMPLE.read_bytes()).hexdigest()
    assert found == "4702f709673afa7769f293f891234eb7e14262e861b7365ca79b2ee368746233"


@pytest.mark.engine
def test_the_figures_of_a_window_model_are_those_of_llama_perplexity(
    converted: Callable[..., Path], tmp_path: Path
) -> None:
    """`llama-perplexity -f sample_text.txt -c 128 --chunks 6 --no-repack -b 128`, with a window of 64 tokens.

    First with `--kl-divergence-base FILE` on the F32 file, then with `--kl-divergence` too on the Q8_0 file. The
    figures are of a processor with AVX-512; those of Q8_0 were up to 3e-4 apart on one with AVX2.
    """
    exact, small = converted("mistral-v0.1"), converted("mistral-v0.1", "Q8_0")
    report, messages = measured(question(tmp_path, [small], exact, repack="off"))
    assert (report.context, report.chunks, report.scored_tokens, report.text_tokens) == (128, 6, 378, 13_572)
    assert report.reference is not None and report.reference.divergence is None
    assert rounded(report.reference.perplexity, 2) == (926.10, 47.19)
    (found,) = report.files
    assert (found.type, found.architecture, found.window) == ("Q8_0", "granite_swa", 64)
    assert found.perplexity.value == pytest.approx(925.968171, rel=5e-4)
    assert found.perplexity.error == pytest.approx(47.074559, rel=5e-4)
    assert found.divergence is not None
    assert rounded(found.divergence.mean, 5) == (0.00083, 0.00001)
    assert found.divergence.median == pytest.approx(0.000811, rel=1e-2)
    assert found.divergence.percentile_99 == pytest.approx(0.001587, rel=1e-2)
    assert found.divergence.percentile_99_9 == pytest.approx(0.001776, rel=1e-2)
    assert found.divergence.maximum == pytest.approx(0.001811, rel=1e-2)
    assert found.divergence.same_top.value == pytest.approx(0.93915, abs=1.1 / 378)  # one token may be another
    assert found.divergence.same_top.error == pytest.approx(0.01231, abs=3e-4)
    assert found.divergence.probability_change.value == pytest.approx(8e-5, abs=1.5e-5)
    assert rounded(found.divergence.probability_change, 5)[1] == 0.00001
    assert found.divergence.perplexity_ratio.value == pytest.approx(0.999854, abs=2e-4)
    assert found.divergence.perplexity_ratio.error == pytest.approx(0.002081, abs=2e-5)
    words = [message["progress"] for message in messages]
    assert words[:2] == ["reading the text", f"loading {exact.name}"]
    assert words[8] == f"loading {small.name}"
    assert words[2].startswith(f"{exact.name}: chunk 1 of 6, perplexity ")
    assert words[-1] == f"{small.name}: chunk 6 of 6, perplexity {found.perplexity.value:.4f}"
    assert all(message["seconds_left"] > 0 for message in messages[2:-1])
    assert messages[-1]["seconds_left"] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.engine
def test_chunks_longer_than_a_batch_are_scored_as_in_one(tiny_v3_model: Path, tmp_path: Path) -> None:
    """300 tokens take two batches, and the first scored token is within the first of them."""
    asked = question(tmp_path, [tiny_v3_model], chunks=2, context=300, kv_type="f32", flash_attention="off")
    report, _ = measured(asked)
    loaded = load_vocabulary(asked.files[0])
    ids = loaded.vocabulary.encode((Mark("bos"), Text(asked.text, joined=True)))
    loaded.close()
    model = Model(str(tiny_v3_model), LoadSettings())
    context = LlamaContext(
        model, ContextSettings(cells=512, batch=300, outputs=300, kv_type="f32", flash_attention="off")
    )
    losses = []
    for start in (0, 300):
        context.clear()
        context.feed([ids[0], *ids[start + 1 : start + 300]], 300)
        rows = np.stack([context.logits(row) for row in range(150, 299)])
        losses.append(token_losses(rows, np.array(ids[start + 151 : start + 300])))
    context.close()
    model.close()
    assert report.files[0].perplexity.value == pytest.approx(perplexity(np.concatenate(losses)).value, rel=1e-5)
    assert (report.scored_tokens, report.reference, report.is_same_text) == (298, None, True)


@pytest.mark.engine
def test_layers_for_a_gpu_that_is_not_there_are_a_notice(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_job, "machine", lambda *_: HostResources(8 << 30, ()))
    _, messages = measured(question(tmp_path, [tiny_model], chunks=1, gpu_layers="all"))
    (notice,) = [message["notice"] for message in messages if "notice" in message]
    assert notice.startswith("`--gpu-layers all` has no effect: ")


@pytest.mark.engine
def test_the_window_of_the_command_line_is_obeyed(tiny_model: Path, tmp_path: Path) -> None:
    figures = {
        window: measured(question(tmp_path, [tiny_model], chunks=2, window=window))[0].files[0]
        for window in ("auto", "off", "16")
    }
    assert [each.window for each in figures.values()] == [64, None, 16]
    assert len({each.perplexity.value for each in figures.values()}) == 3


@pytest.mark.engine
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"text": "too short"}, 6, "the text has {short} tokens, but chunks of 128 need 256 at least"),
        ({"context": 40_000}, 2, "`--context 40000` is more than the 32,768 tokens of {file}"),
    ],
)
def test_a_text_or_context_that_does_not_fit_is_one_sentence(
    options: dict[str, Any], code: int, message: str, tiny_v3_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ChatError) as caught:
        measured(question(tmp_path, [tiny_v3_model], **options))
    assert caught.value.exit_code == code
    assert caught.value.message == message.format(file=tiny_v3_model, short=caught.value.message.split()[3])


@pytest.mark.engine
def test_another_vocabulary_than_the_references_is_refused_before_anything_is_read(
    tiny_model: Path, tiny_v3_model: Path, tmp_path: Path
) -> None:
    asked = question(tmp_path, [tiny_model, tiny_v3_model], tiny_model)
    with pytest.raises(ChatError) as caught:
        measured(asked)
    assert (caught.value.exit_code, caught.value.message) == (
        3,
        f"{tiny_v3_model} has a vocabulary of 520 pieces, but {tiny_model} one of 512",
    )
    report, _ = measured(question(tmp_path, [tiny_model, tiny_v3_model], chunks=1))
    assert not report.is_same_text


@pytest.mark.engine
def test_too_little_memory_and_disk_are_one_sentence(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = question(tmp_path, [tiny_model], tiny_model)
    with monkeypatch.context() as patch:
        patch.setattr(load_job, "machine", lambda *_: HostResources(10 << 20, ()))
        with pytest.raises(ChatError, match=r"needs 0\.1 GiB of memory .* but 0\.0 GiB are free") as caught:
            measured(asked)
        assert caught.value.exit_code == 4
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(quality.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ChatError) as caught:
        measured(asked)
    needed = PackedProbabilities.size(378, 512)
    assert (caught.value.exit_code, caught.value.message) == (
        7,
        f"{tmp_path}: {round(needed / 1000)} kB are needed for what the reference makes of the text, but 1 kB are free",
    )


@pytest.mark.engine
def test_a_model_that_computes_no_numbers_is_refused(make_once: Make, tmp_path: Path) -> None:
    def write(path: Path) -> None:
        shape = Shape()
        made = weights(shape)
        made["output_norm.weight"] = np.full_like(made["output_norm.weight"], np.nan)
        write_gguf(path, shape, made)

    path = make_once("nan.gguf", write)
    with pytest.raises(ChatError, match="computes NaN or infinite numbers") as caught:
        measured(question(tmp_path, [path], chunks=1))
    assert caught.value.exit_code == 3
