"""What is told of the guide's making is told of the files that are shipped: the classifier, the model, the figures."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.guide import PATH
from chat.guide.topics import PATH as TOPICS

if TYPE_CHECKING:
    pass

MAKING = Path(__file__).parent / "making"
RIGHT, REFUSED = 0.85, 0.90  # no guide below these is shipped


def stored(name: str) -> Any:
    return json.loads((MAKING / name).read_text(encoding="utf-8"))


def test_the_shipped_classifier_is_the_one_the_guide_was_trained_with() -> None:
    assert sha256(TOPICS.read_bytes()).hexdigest() == stored("training.json")["sha256"]["topics.bin"]


def test_one_whole_run_led_to_the_shipped_weights() -> None:
    training = stored("training.json")
    steps = [step for step, _, _ in training["curve"]]
    assert steps == list(range(50, training["steps"] + 1, 50))
    assert training["step"] == training["steps"]
    assert len(training["first"]) == 20


def test_the_figures_are_of_the_shipped_file_and_above_the_bars() -> None:
    figures = stored("figures.json")
    assert figures["guide-Q8_0.gguf"]["sha256"] == sha256(PATH.read_bytes()).hexdigest()
    for found in figures.values():
        assert found["helped"]["right"] >= RIGHT
        assert found["helped"]["refused"] >= REFUSED
        assert found["helped"]["endless"] == 0


def test_the_table_of_the_making_has_these_figures() -> None:
    text = (MAKING / "README.md").read_text(encoding="utf-8")
    row = r"^\| (F32|Q8_0|Q4_K_M)[^|]* \|" + 4 * r" ([^|]+) \|" + r" ([^|]+) \|$"
    rows = re.findall(row, text, re.MULTILINE)
    figures = {name.split("-")[1].removesuffix(".gguf"): found for name, found in stored("figures.json").items()}
    assert {type: tuple(cells) for type, *cells in rows} == {
        type: (
            f"{found['bytes']:,}",
            f"{found['helped']['right']:.1%}".replace("%", " %"),
            f"{found['helped']['refused']:.1%}".replace("%", " %"),
            f"{found['helped']['perplexity']:.4f}",
            f"{found['helped']['endless']}",
        )
        for type, found in figures.items()
    }


def test_the_figures_of_newcomers_questions_are_those_that_are_told() -> None:
    text = (MAKING / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (first|second) \| (\d+) \| (\d+) \| (\d+) \|", text, re.MULTILINE)
    halves = stored("figures.json")["guide-Q8_0.gguf"]["newcomers"]
    assert {name: tuple(map(int, cells)) for name, *cells in rows} == {
        name: (found["questions"], found["topic"], found["answer"]) for name, found in halves.items()
    }
