"""Mutants of GGUF files, read by our reader, and loaded by llama.cpp where it accepts them. For tests only.

Each is tried as a model, as a picture encoder and as an embedding model. Any number of them:
`python -m tests.chat.gguf.try_mutants COUNT --seed N [--first PLACE] [--kind pictures]`, which ends with 1 if one
mutant ended or blocked llama.cpp, or was not refused in one sentence. It prints where it is: `--first` continues there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from chat.errors import DataError, ModelError
from chat.gguf.reader import GgufFile, read_gguf
from chat.gguf.validate_embedding import check_embedding_model
from chat.gguf.validate_model import check_model
from chat.gguf.validate_pictures import check_fits, check_picture_encoder
from tests.chat import seeing
from tests.chat.gguf import gguf_samples as samples
from tests.chat.gguf.gguf_mutants import mutants
from tests.chat.gguf.llama_child import loading
from tests.chat.tiny_models import Shape, weights, write_gguf

LONGEST = 600  # letters of a refusal


@dataclass
class Trial:
    """What became of mutants.

    Attributes:
        faults: what was wrong, each with the mutant's name.
        outcomes: what llama.cpp did with those that were accepted.
        worst: the longest reading, in processor seconds.
    """

    refused: int = 0
    accepted: int = 0
    worst: float = 0.0
    faults: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)


def sample_bytes(folder: Path) -> dict[str, bytes]:
    """Every sample's bytes, of models that answer and of adapters."""
    return {name: write(folder / f"{name}.gguf").read_bytes() for name, write in samples.SAMPLES.items()}


def encoder_bytes(folder: Path) -> dict[str, bytes]:
    """The bytes of picture encoders."""
    kinds = ("small3", "pixtral", "odd")
    return {kind: seeing.write_encoder(folder / f"{kind}.gguf", kind).read_bytes() for kind in kinds}


def embedding_bytes(folder: Path) -> dict[str, bytes]:
    """The bytes of embedding models."""
    return {name: write(folder / f"{name}.gguf").read_bytes() for name, write in samples.EMBEDDING_MODELS.items()}


ORIGINALS = {"models": sample_bytes, "pictures": encoder_bytes, "embeddings": embedding_bytes}


def try_mutants(
    folder: Path, count: int, seed: int, first: int = 0, report_every: int = 0, kind: str = "models"
) -> Trial:
    """Read `count` mutants of all samples of a kind, and load those that are accepted.

    Args:
        first: how many of the seed's mutants were tried before.
        report_every: after how many mutants a line is printed; 0 is never.
        kind: of `ORIGINALS`.
    """
    originals = ORIGINALS[kind](folder)
    base, sees = samples.llama(folder / "base.gguf"), folder / "sees.gguf"
    shape = Shape(hidden=256, layers=1, window=None)
    write_gguf(sees, shape, weights(shape))
    own = read_gguf(sees)
    trial, path = Trial(), folder / "mutant.gguf"
    with loading(base, sees) as load:
        for place, (label, raw) in enumerate(mutants(originals, count, seed, first), first + 1):
            path.write_bytes(raw)
            for line in _read(path, label, trial, own):
                outcome = load(line)
                trial.outcomes[outcome.partition(":")[0]] += 1
                if outcome.startswith(("killed", "hangs")):
                    trial.faults.append(f"{label}: {line.partition(' ')[0]} {outcome}")
            if report_every and place % report_every == 0:
                print(f"{place}: {trial}", flush=True)
    return trial


def _read(path: Path, label: str, trial: Trial, sees: GgufFile) -> list[str]:
    """The lines that have llama.cpp load the file; none where our reader refuses it."""
    started = time.process_time()
    lines = []
    for check, line in (
        (check_model, "model"),
        (lambda file: (check_picture_encoder(file), check_fits(file, sees)), "encoder"),
        (check_embedding_model, "embedding"),
    ):
        try:
            file = read_gguf(path)
            check(file)
            lines.append(f"{'adapter' if file.is_adapter else line} {path}")
        except (DataError, ModelError) as error:
            words = error.message
            is_long = len(words) > LONGEST
            if not words.startswith(f"{path}: ") or words.endswith(".") or not words.isprintable() or is_long:
                trial.faults.append(f"{label}: {words!r}")
        except Exception as error:
            trial.faults.append(f"{label}: {error!r}")
    trial.worst = max(trial.worst, time.process_time() - started)
    trial.refused += not lines
    trial.accepted += bool(lines)
    return lines


def main() -> int:
    """Try as many as the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kind", choices=ORIGINALS, default="models")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trial = try_mutants(Path(folder), asked.count, asked.seed, asked.first, report_every=1000, kind=asked.kind)
    print(trial, *trial.faults, sep="\n  ")
    return 1 if trial.faults else 0


if __name__ == "__main__":
    sys.exit(main())
