"""Hostile sources for `convert`: each is converted, or refused with one sentence, fast, and nothing is left behind.

Any number of them: `python -m tests.convert.try_hostile COUNT [--kind KIND] [--seed N] [--first PLACE]`, which ends
with 1 if one was handled badly. `--keep` leaves the folder of the last input where it is.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from chat.cli.main import run
from chat.errors import ExitCode
from chat.system.environment import Environment
from tests.convert.hostile_folders import CANARY, Folder, Kind, read_folder, write_folder
from tests.convert.hostile_kinds import KINDS
from tests.folders import ROOT

LAWFUL = {ExitCode.DONE, ExitCode.USAGE, ExitCode.MODEL, ExitCode.MEMORY, ExitCode.DATA, ExitCode.FILE}
WORST_SECONDS = 10.0  # of the processor, for one input
WORST_BYTES = 1 << 30  # more than before, for all
LONGEST = 1000  # letters of a line
AT_HOME = (
    str(ROOT),
    *filter(None, sys.path),
    sys.prefix,
    sys.base_prefix,
    "/usr/lib",
    "/lib",
    "/proc/meminfo",
    "/sys/",
    "/proc/self/",
)
opened: list[str] | None = None


def listen(event: str, arguments: Any) -> None:
    """Write down which files are opened, while somebody wants to know."""
    if opened is not None and event in ("open", "os.listdir", "os.scandir"):
        opened.append(os.fspath(arguments[0]) if isinstance(arguments[0], str | os.PathLike) else "")


sys.addaudithook(listen)


@dataclass
class Trial:
    """What became of the inputs of one kind; `worst` is in processor seconds and names the input, `grown` in bytes."""

    kind: str
    codes: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    worst: tuple[float, str] = (0.0, "")
    grown: int = 0

    def __str__(self) -> str:
        """One line."""
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(self.codes.items()))
        worst = f"worst {self.worst[0] * 1000:.0f} ms ({self.worst[1]}), {self.grown >> 20} MiB more"
        return f"{self.kind}: {self.codes.total()} inputs, exits {codes}; {worst}, {len(self.faults)} faults"


def try_kind(folder: Path, name: str, count: int, seed: int, first: int = 0) -> Trial:
    """Convert `count` hostile sources of a kind, from the `first` of a seed on."""
    kind, trial = KINDS[name], Trial(name)
    source, out = folder / "source", folder / "out"
    source.mkdir(parents=True)
    argument = kind.make(source)
    good = read_folder(source)
    out.mkdir()
    _try_one("good", folder, _arguments(kind, source / argument, out, Random(0), kind.types[:1]), trial)
    assert trial.codes == {ExitCode.DONE: 1}, trial.faults
    (folder / "outside").write_bytes(b"outside")
    before = _peak_bytes()
    for place in range(first, first + count):
        random = Random(f"{seed}/{name}/{place}")
        files: Folder = dict(good)
        with suppress(
            TypeError, ValueError, KeyError, IndexError, struct.error
        ):  # an earlier change broke what this one would
            kind.spoil(files, random)
        write_folder(source, files)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        _try_one(f"{name}/{place}", folder, _arguments(kind, source / argument, out, random, kind.types), trial)
    trial.grown = _peak_bytes() - before
    if trial.grown > WORST_BYTES:
        trial.faults.append(f"{name}: {trial.grown >> 20} MiB more")
    return trial


def _arguments(kind: Kind, source: Path, out: Path, random: Random, types: Sequence[str]) -> list[str]:
    """A command line; every other one is a dry run."""
    folder = source if source.name == "source" else source.parent
    rest = [part.format(folder=folder) for part in kind.arguments]
    type_name = ["-t", random.choice(types)] if random.random() < 0.9 else []
    how = random.choice(("--dry-run", "--dry-run --json", "--no-verify", "--no-verify --json")).split()
    return ["convert", str(source), "-o", str(out / "m.gguf"), *type_name, *how, *rest]


def _try_one(label: str, folder: Path, arguments: list[str], trial: Trial) -> None:
    global opened
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    opened = []
    started = time.process_time()
    try:
        code: int = run(arguments, Environment(stdout=stdout, stderr=stderr))
    except BaseException as error:
        trial.faults.append(f"{label}: {error!r}")
        return
    finally:
        seen, opened = opened, None
        took = time.process_time() - started
        trial.worst = max(trial.worst, (took, label))
    stderr.flush()
    said = stderr.buffer.getvalue().decode("utf-8", "replace")  # type: ignore[attr-defined]
    trial.codes[code] += 1
    trial.faults += [f"{label}: exit {code}, {fault}: {said[:300]!r}" for fault in _faults(code, said, folder, seen)]
    if took > WORST_SECONDS:
        trial.faults.append(f"{label}: {took:.1f} s")
    if code == ExitCode.DONE and "--dry-run" not in arguments and not (folder / "out" / "m.gguf").is_file():
        trial.faults.append(f"{label}: no file")


def _faults(code: int, said: str, folder: Path, seen: list[str]) -> list[str]:
    """What is wrong with one run."""
    lines = said.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    found = []
    if code not in LAWFUL:
        found.append("an unlawful exit")
    if len(errors) != (code != ExitCode.DONE):
        found.append(f"{len(errors)} errors")
    if any(not line.isprintable() or len(line) > LONGEST for line in lines):
        found.append("a line that is too long or not printable")
    if any(line.endswith(".") for line in errors):
        found.append("a full stop")
    left = [path.name for path in (folder / "out").iterdir()]
    if code != ExitCode.DONE and left:
        found.append(f"{left} left")
    if (folder / CANARY).exists() or Path(CANARY).exists():
        found.append("something was run")
    away = [path for path in seen if path.startswith("/") and not path.startswith((str(folder), *AT_HOME))]
    if away or str(folder / "outside") in seen:
        found.append(f"opened {away or 'outside'}")
    return found


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Try as many as the command line asks for, of one kind or of each in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="of each kind")
    parser.add_argument("--kind", action="append", choices=KINDS, metavar="KIND")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    bad = False
    for name in asked.kind or KINDS:
        folder = Path(tempfile.mkdtemp(prefix="hostile-"))
        trial = try_kind(folder, name, asked.count, asked.seed, asked.first)
        print(trial, *trial.faults, sep="\n  ", flush=True)
        bad = bad or bool(trial.faults)
        if asked.keep:
            print(folder)
        else:
            shutil.rmtree(folder)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
