"""Make the guide from nothing: classifier, vocabulary, training, GGUFs and their figures, one after the other.

    python tests/guide/making/make.py FOLDER [--steps N] [--threads 1] [--ship]

Everything is written to FOLDER; a step whose file is there is not done again, so an interrupted run goes on. `--ship`
then copies what the program is shipped with to chat/guide, and what is told of it to this folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
GUIDE = HERE.parent.parent.parent / "chat" / "guide"
NAME = "mistral-chat-guide"  # train.py writes the checkpoint there
TYPES = ("F32", "Q8_0", "Q4_K_M")
SHIPPED = "Q8_0"


@dataclass(frozen=True)
class Step:
    """What one step writes last, and how it is done."""

    name: str
    makes: str
    command: Callable[[Path, argparse.Namespace], list[str]]


def script(name: str, *arguments: object) -> list[str]:
    """A script of this folder."""
    return [sys.executable, str(HERE / name), *map(str, arguments)]


def converted(type: str) -> Step:
    """The GGUF of one type, by the program's own converter."""
    makes = f"guide-{type}.gguf"
    return Step(
        f"GGUF {type}",
        makes,
        lambda folder, _: [
            *(sys.executable, "-m", "chat", "convert", str(folder / NAME)),
            *("-t", type, "-o", str(folder / makes)),
        ],
    )


def judged(folder: Path) -> list[str]:
    """The figures of all types on the held-out questions."""
    files = [folder / f"guide-{type}.gguf" for type in TYPES]
    options = ("--topics", folder / "topics.bin", "--helped", "--json", folder / "figures.json")
    return script("evaluate.py", *files, *options)


STEPS = (
    Step("classifier", "topics.bin", lambda folder, _: script("ranker.py", folder)),
    Step("vocabulary", "tokenizer.model.v3", lambda folder, _: script("tokenizer.py", folder)),
    Step(
        "training",
        "training.json",
        lambda folder, given: [
            *script("train.py", folder, "--threads", given.threads),
            *(("--steps", str(given.steps)) if given.steps else ()),
        ],
    ),
    *map(converted, TYPES),
    Step("figures", "figures.json", lambda folder, _: judged(folder)),
)


def ship(folder: Path) -> None:
    """Copy what is shipped, and store the doctor's answer, the settings, the figures and the picture."""
    copyfile(folder / f"guide-{SHIPPED}.gguf", GUIDE / "guide.gguf")
    copyfile(folder / "topics.bin", GUIDE / "topics.bin")
    for name in ("training.json", "figures.json"):
        copyfile(folder / name, HERE / name)
    (HERE / "loss.svg").write_text(_output(script("curve.py", HERE / "training.json")), encoding="utf-8")
    print(_output(script("known_answer.py")), end="")


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, help="what a guide from nothing needs if it is left out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ship", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for step in STEPS:
        if not (given.folder / step.makes).exists():
            print(f"{step.name} ...", flush=True)
            subprocess.run(step.command(given.folder, given), check=True)
    if given.ship:
        ship(given.folder)


if __name__ == "__main__":
    main()
