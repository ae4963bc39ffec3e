"""Drive one real session with random steps for hours, and record what it uses.

    python tests/bench/soak.py [--steps 10000] [--hours 2] [--seed 1] [--folder FOLDER] [--pause-file FILE]

The session runs in a pseudo-terminal with a tiny model. The screen may stand still for ten seconds until the prompt is
back, each message that was sent must be in the history, no answer may be left unfinished there, and neither the screen
nor the log may show a traceback. Every hundred steps the memory, descriptors and threads of the program and its engine
go to FOLDER/soak.csv; those of the program may grow only with the longest conversation. While the pause file exists,
all processes of the session are stopped; the steps that are late then follow each other at once. Faults are printed as
they come, and the last line sums up; the exit code is 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import sqlite3
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.soak_steps import Session

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = ("step", "seconds", "rss_mib", "descriptors", "threads", "engine_rss_mib", "engine_descriptors",
           "engine_threads", "history_mib", "states_mib", "files", "longest_wait", "faults")  # fmt: skip

WARM_ROWS = 3  # of a new program, after which it has imported everything and has its usual buffers
MOST_GROWN_MIB = 8.0  # from then on: what the allocator keeps
MESSAGE_MIB = 0.004  # that each message of the longest session may take
MOST_NEW_DESCRIPTORS = 3


def used_by(process: int | None) -> tuple[float, int, int]:
    """(MiB of memory, descriptors, threads) of a process; zeros once it has ended."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{process}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        descriptors = len(list(Path(f"/proc/{process}/fd").iterdir()))
        return round(int(fields["VmRSS"].split()[0]) / 1024, 1), descriptors, int(fields["Threads"])
    return 0.0, 0, 0


def wait_while(file: Path) -> None:
    """Wait until a file is gone."""
    while file.exists():
        time.sleep(1)


class Soak(Session):
    """A session, and what is known to be stored of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        self.nodes = self.last_number = self.log_read = 0
        self.first_rows: list[tuple[float, int]] = []  # (MiB, descriptors) of the program that runs now
        self.program = 0

    def check(self, *, everything: bool = False) -> None:
        """Compare with the history, and look for tracebacks."""
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/data/history.db?mode=ro", uri=True)) as connection:
            since = 0 if everything else self.last_number
            rows = connection.execute("SELECT number, content FROM nodes WHERE role = 'user' AND number > ?", (since,))
            new = rows.fetchall()
            contents = "\n".join(content for _, content in new)
            for mark in self.sent[:] if everything else self.sent[-3:]:
                if mark not in contents and (everything or mark not in self._all_questions(connection)):
                    self.sent.remove(mark)
                    self.fault(f"lost: message {mark} is not in the history\n{self.terminal.text()}")
            count, streaming = connection.execute("SELECT count(*), sum(streaming) FROM nodes").fetchone()
            if count < self.nodes:
                self.fault(f"lost: {self.nodes - count} messages went from the history")
            if streaming:
                self.fault(f"unfinished: {streaming} answers are stored as unfinished")
            if everything and connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                self.fault("damaged: the history fails its integrity check")
            self.nodes = count
            self.last_number = max([self.last_number, *(number for number, _ in new)])
        with self.log.open("rb") as file:
            file.seek(self.log_read)
            log = file.read()
        self.log_read += len(log)
        if b"Traceback" in log or "Traceback" in self.terminal.text():
            self.fault(f"traceback: {log.decode(errors='replace')[-3000:]}\n{self.terminal.text()}")

    def _all_questions(self, connection: sqlite3.Connection) -> str:
        return "\n".join(row[0] for row in connection.execute("SELECT content FROM nodes WHERE role = 'user'"))

    def row(self, step: int, seconds: float) -> list[object]:
        """What is used now, as a row of the table."""
        _, program, engine, *_ = [*self.processes(), None, None]
        files = [path for path in self.home.rglob("*") if path.is_file()]
        sizes = [
            sum(path.stat().st_size for path in files if name in path.name) >> 20 for name in ("history.db", ".state")
        ]
        used = (*used_by(program), *used_by(engine), *sizes, len(files))
        self._check_growth(program or 0, used[0], used[1])
        return [step, round(seconds), *used, round(self.longest_wait, 2), sum(self.faults.values())]

    def _check_growth(self, program: int, mib: float, descriptors: int) -> None:
        """Compare what the program uses with what it used some hundred steps after it began."""
        if program != self.program:
            self.program, self.first_rows = program, []
        if len(self.first_rows) < WARM_ROWS:
            self.first_rows.append((mib, descriptors))
            return
        mib_before, descriptors_before = self.first_rows[-1]
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/data/history.db?mode=ro", uri=True)) as connection:
            counts = connection.execute("SELECT count(*) FROM nodes GROUP BY session").fetchall()
        messages = max((count for (count,) in counts), default=0)
        if mib > mib_before + MOST_GROWN_MIB + messages * MESSAGE_MIB:
            self.fault(f"memory: {mib_before} MiB became {mib} MiB, and the longest session has {messages} messages")
        if descriptors > descriptors_before + MOST_NEW_DESCRIPTORS:
            self.fault(f"descriptors: {descriptors_before} became {descriptors}")

    def step(self) -> None:
        """One random step."""
        weights: dict[Callable[[], None], float] = {
            self.message: 30, self.block: 4, self.paste: 3, self.stopped_answer: 3, self.interrupted_line: 2,
            self.tree: 11, self.edit: 3, self.set_option: 5, self.reload: 1, self.look: 12, self.sessions: 2,
            self.new: 1.5, self.attach: 2, self.export: 3, self.suspend: 2, self.suspend_answer: 2, self.freeze: 1,
            self.resize: 3, self.complete: 3, self.past: 3, self.editor_opened: 1, self.keystrokes: 3,
            self.engine_killed: 0.3, self.quit: 0.15,
        }  # fmt: skip
        chosen = self.chance.choices(list(weights), list(weights.values()))[0]
        self.done[chosen.__name__] += 1
        begun = time.monotonic()
        try:
            chosen()
            self.check()
        except Exception as error:
            self.fault(f"{type(error).__name__} in {chosen.__name__}: {error}\n{traceback.format_exc(limit=-3)}")
            self.begin_again()
        self.terminal.output = self.terminal.output[-4096:]
        print(f"{sum(self.done.values())} {chosen.__name__} {time.monotonic() - begun:.2f}", flush=True)


def main() -> NoReturn:
    """Soak, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--pause-file", type=Path, default=Path("/nonexistent"))
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    soak = Soak(folder, given.seed)
    pace = given.hours * 3600 / given.steps
    begun = time.monotonic()
    paused = 0.0
    with (folder / "soak.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for step in range(1, given.steps + 1):
            if given.pause_file.exists():
                stopped = time.monotonic()
                soak.stay_stopped(lambda: wait_while(given.pause_file))
                soak.done["pauses"] += 1
                paused += time.monotonic() - stopped
            soak.step()
            if step % 100 == 0 or step == given.steps:
                soak.check(everything=True)
                table.writerow(soak.row(step, time.monotonic() - begun))
                file.flush()
                print(f"step {step}, {time.monotonic() - begun:.0f} s, faults {dict(soak.faults)}", flush=True)
            time.sleep(max(0.0, begun + step * pace - time.monotonic()))
    soak.terminal.kill()
    minutes = (time.monotonic() - begun) / 60
    print(
        f"{given.steps} steps in {minutes:.0f} minutes ({paused / 60:.0f} of them stopped), seed {given.seed}: "
        f"{len(soak.sent)} messages, longest wait {soak.longest_wait:.1f} s, faults {dict(soak.faults) or 'none'}; "
        f"steps {dict(soak.done)}"
    )
    sys.exit(1 if soak.faults else 0)


if __name__ == "__main__":
    main()
