"""One shots, batches and sessions in odd environments: an answer, or one sentence and the right exit code.

Folders that are missing, closed or full, limits of the system, odd terminals and locales, streams that are closed,
modules on the import path that are broken. All of one kind, or some of them: `python -m tests.try_odd_environments
[COUNT] [--seed N] [--kind KIND]`. As root on Linux it mounts small file systems.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from chat.errors import ExitCode
from tests.chat.tui.pseudo_terminal import CTRL_U, ENTER, Terminal
from tests.folders import ROOT
from tests.odd_environments import (
    MOUNTS,
    Case,
    folder_cases,
    limit_cases,
    path_cases,
    stream_cases,
    terminal_cases,
)
from tests.processes import children_of, ends

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = (sys.executable, "-m", "chat", "-m", "guide")
LAWFUL = {*ExitCode} - {ExitCode.UNEXPECTED}
QUESTION, SAID = "hello", "Hello! I am the guide of mistral-chat."
SECONDS = 120.0  # after which something hangs, on a busy machine


@dataclass
class Outcome:
    """What a run printed, without the colours of a terminal."""

    code: int
    out: str
    err: str


def variables_of(case: Case, home: Path) -> dict[str, str]:
    """The environment of a run."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MISTRAL_CHAT_", "XDG_", "HF_"))}
    plain |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    plain["MISTRAL_CHAT_THREADS"] = "1"  # two wait for each other where other programs use the processors
    plain |= {name: value for name, value in case.variables.items() if value is not None}
    return {
        name: value for name, value in plain.items() if name not in case.variables or case.variables[name] is not None
    }


def command_of(case: Case, *arguments: str) -> list[str]:
    """The command that runs the program in an environment."""
    command = [*case.prefix, *PROGRAM, *arguments]
    if case.prefix:
        command[0] = shutil.which(command[0]) or command[0]
    return ["/bin/bash", "-c", f'exec "$@" {case.redirection}', "bash", *command] if case.redirection else command


def run(case: Case, home: Path, *arguments: str, stdin: bytes = b"") -> Outcome:
    """Run the program to its end."""
    command, environment = command_of(case, *arguments), variables_of(case, home)
    done = subprocess.run(
        command, input=stdin, capture_output=True, env=environment, cwd=home, timeout=SECONDS, check=False
    )
    return Outcome(done.returncode, *(raw.decode("utf-8", "replace") for raw in (done.stdout, done.stderr)))


def fault_of(outcome: Outcome, case: Case, wanted: str) -> str:
    """What is wrong with how a run ended; empty if nothing is."""
    said = outcome.out + outcome.err
    if "Traceback" in said or "Exception ignored" in said or "Fatal Python" in said:
        return "a traceback"
    if outcome.code not in LAWFUL:
        return "an unlawful exit"
    errors = sum(line.startswith("error:") for line in outcome.err.splitlines())
    if "2>" not in case.redirection and "2<" not in case.redirection and errors != (outcome.code != 0):
        return f"{errors} errors"
    letters = set(outcome.err) - {"\n"}
    if not all(letter.isprintable() for letter in letters):
        return "control characters"
    has_answer = not case.redirection or case.redirection.startswith("2")
    if outcome.code == 0 and has_answer and wanted not in outcome.out:
        return "no answer"
    return ""


def one_shot(case: Case, home: Path) -> tuple[Outcome, str]:
    """Ask a question."""
    outcome = run(case, home, QUESTION)
    return outcome, fault_of(outcome, case, SAID)


def batch(case: Case, home: Path) -> tuple[Outcome, str]:
    """Ask two."""
    outcome = run(case, home, "--batch", "-", stdin=b'"hello"\n"hello"\n')
    is_told = outcome.code == 1 and outcome.out.count('"exit_code": ') == 2  # in the output, a line for each question
    fault = "" if is_told else fault_of(outcome, case, SAID)
    if not fault and outcome.code == 0 and "<" not in case.redirection and ">" not in case.redirection:
        fault = "" if outcome.out.count(SAID) == 2 else "a lost line"
    return outcome, fault


def session(case: Case, home: Path) -> tuple[Outcome, str]:
    """Ask a question in a session, leave, and look whether it is stored where nobody said that it is not."""
    terminal = Terminal(
        command_of(case), environment={}, folder=home, columns=100, fork=False, whole=variables_of(case, home)
    )
    children: list[int] = []
    try:
        deadline = time.monotonic() + SECONDS
        asked = left = False
        while terminal.pump(0.05):
            if time.monotonic() > deadline:
                return Outcome(-1, terminal.everything(), ""), "hangs"
            children = children_of(terminal.child.pid) or children
            if not asked and terminal.cursor_line() == ">":
                terminal.child.send(QUESTION + ENTER)
                asked = True
            elif asked and not left:
                shown = " ".join(terminal.everything().split())
                if (terminal.cursor_line() == ">" and SAID[:20] in shown) or " error: " in shown:
                    terminal.child.send(f"{CTRL_U}/quit{ENTER}")
                    left = True
        code = terminal.end()
        outcome = Outcome(code, terminal.everything(), "")
    finally:
        terminal.kill()
    fault = fault_of(outcome, case, "") if outcome.code == 0 else ""
    is_answered = SAID[:20] in " ".join(outcome.out.split())
    if outcome.code == 0 and not case.redirection and not (is_answered or "\nerror: " in outcome.out):
        fault = fault or "no answer"
    if outcome.code != 0:
        shown = Outcome(code, "", outcome.out)
        fault = fault_of(shown, case, "")
    if not all(ends(child, 10) for child in children):
        fault = fault or "a process stays"
    if not fault and code == 0 and is_answered and "kept in memory only" not in outcome.out:
        stored = run(Case(case.kind, case.name, case.variables, case.prefix), home, "-c", "--dry-run", "x")
        if QUESTION not in stored.out:
            fault = f"not stored: {stored.out[-100:]}{stored.err[-200:]}"
    return outcome, fault


KINDS = ("folders", "limits", "terminal", "streams", "modules")
WAYS = {"one shot": one_shot, "batch": batch, "session": session}


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[bool]:
    """Small file systems in a folder, one of them full; False where they cannot be had."""
    made = []
    try:
        for name, options in MOUNTS.items():
            (folder / name).mkdir()
            command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder / name)]
            if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
                break
            made.append(folder / name)
        if len(made) == len(MOUNTS):
            (folder / "full" / "all").write_bytes(bytes(64 << 10))
        yield len(made) == len(MOUNTS)
    finally:
        for each in made:
            subprocess.run(["umount", "-l", str(each)], check=False)


def emptied(folder: Path) -> None:
    """Empty the small file systems, but for what fills the full one."""
    for name in ("small", "inodes"):
        for each in (folder / name).iterdir():
            shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink()


def try_environments(
    count: int | None,
    seed: int,
    kind: str | None = None,
    way: str | None = None,
    only: str = "",
    *,
    shows: bool = False,
) -> list[str]:
    """Run the program in some environments, or in all.

    Args:
        kind: of `KINDS`.
        way: of `WAYS`.
        only: what the name of a case must hold.
        shows: whether a line is printed for each.

    Returns:
        What went wrong.
    """
    random, folder = Random(seed), Path(tempfile.mkdtemp(prefix="odd-"))
    faults = []
    with mounted(folder) as mounts:
        cases = [*folder_cases(folder, mounts=mounts), *limit_cases(random), *terminal_cases(), *stream_cases()]
        cases += path_cases(folder)
        cases = [case for case in cases if kind in (None, case.kind) and only in case.name]
        runs = list(itertools.product(cases, WAYS if way is None else (way,)))
        for case, how in random.sample(runs, min(count or len(runs), len(runs))):
            if mounts:
                emptied(folder)
            home = Path(tempfile.mkdtemp(dir=folder))
            home.chmod(0o777)
            began = time.monotonic()
            try:
                outcome, fault = WAYS[how](case, home)
            except subprocess.TimeoutExpired:
                outcome, fault = Outcome(-1, "", ""), "hangs"
            shutil.rmtree(home, ignore_errors=True)
            said = (outcome.out if how == "session" else outcome.err).strip()[-400:]
            verdict, took = f"FAULT {fault}" if fault else "ok", f"{time.monotonic() - began:.1f} s"
            shown = said if fault or outcome.code else ""
            line = " | ".join((verdict, case.kind, how, case.name, f"exit {outcome.code}", took, shown))
            if fault:
                faults.append(line)
            if shows:
                print(line, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    if shows:
        print(f"{min(count or len(runs), len(runs))} runs, {len(faults)} faults")
    return faults


def main() -> int:
    """Try as many as the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--only", default="", help="what the name of a case must hold")
    asked = parser.parse_args()
    return 1 if try_environments(asked.count, asked.seed, asked.kind, asked.way, asked.only, shows=True) else 0


if __name__ == "__main__":
    sys.exit(main())
