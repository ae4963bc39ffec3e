"""Run commands and functions on hostile input in this process, and note what became of them. For tests only."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chat.cli.main import run
from chat.errors import ChatError, ExitCode
from chat.system.terminal_text import escape_line
from tests.environments import pipes, terminal

resource: Any = pytest.importorskip("resource", reason="Windows does not count the memory of a process so")

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LAWFUL = {*ExitCode} - {ExitCode.UNEXPECTED, ExitCode.ENGINE, ExitCode.INTERRUPTED, ExitCode.PIPE}
WORST_SECONDS = 10.0  # of the processor, for one input
LONGEST_WAIT = 60.0  # seconds of the clock, also on a busy machine
LONGEST = 1500  # letters of a line of stderr
# What colours and links send to a terminal, which is not the input's
OUR_SEQUENCES = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;[^\x1b\x07]*(?:\x1b\\|\x07)")


@dataclass
class Trial:
    """What became of the inputs; `worst` is in processor seconds and names the input."""

    codes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    worst: tuple[float, str] = (0.0, "")

    def __str__(self) -> str:
        """One line."""
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(self.codes.items()))
        worst = f"worst {self.worst[0] * 1000:.0f} ms ({self.worst[1]})"
        return f"{self.codes.total()} inputs, exits {codes}; {worst}, {len(self.faults)} faults"

    def command(self, label: str, arguments: Sequence[str], *, at_terminal: bool = False) -> int | None:
        """Run a command line; its exit code, or None after an exception."""
        environment = terminal() if at_terminal else pipes()
        began = time.process_time()
        try:
            code = run(list(arguments), environment)
        except BaseException as error:
            self.faults.append(f"{label}: {arguments}: {error!r}")
            return None
        finally:
            took = time.process_time() - began
            self.worst = max(self.worst, (took, label))
        said = environment.err
        shown = said + (environment.out if at_terminal else "")
        found = self._faults(label, code, took)
        if sum(line.startswith("error:") for line in said.splitlines()) != (code != ExitCode.DONE):
            found.append("not one error")
        if any(_is_control(letter) for letter in OUR_SEQUENCES.sub("", shown)):
            found.append("control characters")
        if any(len(line) > LONGEST for line in said.splitlines()):
            found.append("a long line")
        self.faults += [f"{label}: {arguments}: exit {code}, {fault}: {said[-300:]!r}" for fault in found]
        return code

    def call(self, label: str, function: Callable[[], object]) -> Any:
        """What a function returns; None after an error, which has to be one sentence for the user.

        The time of the processes that it ended counts, too, and a long wait.
        """
        began, waited_since = _processor_seconds(), time.monotonic()
        result, code, words = None, int(ExitCode.DONE), ""
        try:
            result = function()
        except ChatError as error:
            code, words = int(error.exit_code), f"{escape_line(error.message)}\n{escape_line(error.hint or '')}"
        except BaseException as error:
            self.faults.append(f"{label}: {error!r}")
            return None
        finally:
            took = _processor_seconds() - began
            self.worst = max(self.worst, (took, label))
        found = self._faults(label, code, took)
        if (waited := time.monotonic() - waited_since) > LONGEST_WAIT:
            found.append(f"a wait of {waited:.0f} s")
        if any(len(line) > LONGEST for line in words.splitlines()) or words.count("\n") > 1:
            found.append("a long error")
        self.faults += [f"{label}: exit {code}, {fault}: {words[:300]!r}" for fault in found]
        return result

    def _faults(self, label: str, code: int, took: float) -> list[str]:
        self.codes[f"{label.split('/')[0]} {int(code)}"] += 1
        found = [] if code in LAWFUL else ["an unlawful exit"]
        return [*found, f"{took:.1f} s"] if took > WORST_SECONDS else found


def _is_control(letter: str) -> bool:
    """Whether a letter may steer a terminal; one that no version of Unicode has named yet does not."""
    return not (letter.isprintable() or letter in "\r\n\t" or unicodedata.category(letter) == "Cn")


def _processor_seconds() -> float:
    """What this process and those that it has ended have used."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main(description: str | None, try_all: Callable[[Path, int, int, int], Trial]) -> int:
    """Try as many as the command line asks for, in a home of their own; 1 if one was handled badly."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="hostile-"))
    for name in list(os.environ):
        if name.startswith(("MISTRAL_CHAT_", "HF_", "XDG_")):
            del os.environ[name]
    os.environ |= {"HOME": str(home), "MISTRAL_CHAT_HOME": str(home / "mistral-chat"), "HF_HOME": str(home / "hub")}
    os.environ["OLLAMA_MODELS"] = str(home / "ollama")
    try:
        trial = try_all(home, asked.count, asked.seed, asked.first)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(trial, *trial.faults, sep="\n  ", file=sys.stdout)
    return 1 if trial.faults else 0
