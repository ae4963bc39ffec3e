"""Mutants of GGUF files, read by our reader, and loaded by llama.cpp where it accepts them. For tests only.

Any number of them: `python -m tests.chat.gguf.try_mutants COUNT --seed N [--first PLACE]`, which ends with 1 if one
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
from chat.gguf.reader import read_gguf
from chat.gguf.validate_model import check_model
from tests.chat.gguf import gguf_samples as samples
from tests.chat.gguf.gguf_mutants import mutants
from tests.chat.gguf.llama_child import loading

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
    """Every sample's bytes."""
    return {name: write(folder / f"{name}.gguf").read_bytes() for name, write in samples.SAMPLES.items()}


def try_mutants(folder: Path, count: int, seed: int, first: int = 0, report_every: int = 0) -> Trial:
    """Read `count` mutants of all samples, and load those that are accepted.

    Args:
        first: how many of the seed's mutants were tried before.
        report_every: after how many mutants a line is printed; 0 is never.
    """
    originals = sample_bytes(folder)
    trial, path = Trial(), folder / "mutant.gguf"
    with loading(folder / "llama.gguf") as load:
        for place, (label, raw) in enumerate(mutants(originals, count, seed, first), first + 1):
            path.write_bytes(raw)
            line = _read(path, label, trial)
            if line is not None:
                outcome = load(line)
                trial.outcomes[outcome.partition(":")[0]] += 1
                if outcome.startswith(("killed", "hangs")):
                    trial.faults.append(f"{label}: {outcome}")
            if report_every and place % report_every == 0:
                print(f"{place}: {trial}", flush=True)
    return trial


def _read(path: Path, label: str, trial: Trial) -> str | None:
    """The line that has llama.cpp load the file, or None where our reader refuses it."""
    started = time.process_time()
    try:
        file = read_gguf(path)
        check_model(file)
    except (DataError, ModelError) as error:
        words = error.message
        if not words.startswith(f"{path}: ") or words.endswith(".") or not words.isprintable() or len(words) > LONGEST:
            trial.faults.append(f"{label}: {words!r}")
        trial.refused += 1
        return None
    except Exception as error:
        trial.faults.append(f"{label}: {error!r}")
        return None
    finally:
        trial.worst = max(trial.worst, time.process_time() - started)
    trial.accepted += 1
    return f"adapter {path}" if file.metadata.get("general.type") == "adapter" else f"model {path}"


def main() -> int:
    """Try as many as the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trial = try_mutants(Path(folder), arguments.count, arguments.seed, arguments.first, report_every=1000)
    print(trial)
    return 1 if trial.faults else 0


if __name__ == "__main__":
    sys.exit(main())
