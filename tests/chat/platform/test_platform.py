"""What every system must do for the program; these tests run on each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from chat import platform
from chat.documents.command_output import run_command
from chat.errors import FileError
from tests.folders import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | platform.BINARY


def test_a_movable_file_gets_its_name_and_goes_while_it_is_open(tmp_path: Path) -> None:
    """On Windows a conversion could not give its file the final name, nor remove it after an error."""
    partial, final = tmp_path / "partial", tmp_path / "final"
    final.write_bytes(b"earlier")
    descriptor = platform.open_movable(partial, NEW, 0o600)
    with pytest.raises(FileExistsError):
        platform.open_movable(partial, NEW, 0o600)
    with pytest.raises(FileNotFoundError):
        platform.open_movable(tmp_path / "none", os.O_RDWR | platform.BINARY)
    assert platform.write_at(descriptor, b"abc\n", 2) == 4
    partial.replace(final)
    assert final.read_bytes() == b"\0\0abc\n"
    final.unlink()
    assert platform.read_at(descriptor, 9, 2) == b"abc\n"
    os.close(descriptor)
    assert list(tmp_path.iterdir()) == []


def test_a_locked_file_is_locked_for_others_and_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    first = platform.open_movable(path, NEW)
    second = platform.open_movable(path, os.O_RDWR | platform.BINARY)
    os.write(first, b"text")
    assert (platform.lock_file(first), platform.lock_file(second)) == (True, False)
    assert path.read_bytes() == b"text"
    os.close(first)
    assert platform.lock_file(second)
    os.close(second)


def test_a_folder_is_locked_for_others(tmp_path: Path) -> None:
    first, second = platform.open_lock(tmp_path), platform.open_lock(tmp_path)
    assert (platform.lock_file(first), platform.lock_file(second)) == (True, False)
    os.close(first)
    os.close(second)


@pytest.mark.parametrize(("line", "said"), [('echo "a b"', {b"a b", b'"a b"'}), ("echo a&& echo b", {b"a\nb"})])
def test_the_shell_gets_a_line_as_it_was_typed(line: str, said: set[bytes]) -> None:
    """The quotes of a line reached the shell of Windows with backslashes before them."""
    assert run_command(line).replace(b"\r", b"").strip() in said


def test_both_outputs_of_a_command_are_read_while_it_runs() -> None:
    """They were waited for by `select`, which Windows has for sockets only."""
    wide = f"\"{sys.executable}\" -c \"import sys; sys.stderr.write('e' * 300000); print('o' * 300000)\""
    assert run_command(wide).strip() == b"o" * 300_000
    failing = f'"{sys.executable}" -c "import sys; print(\'reason\', file=sys.stderr); sys.exit(3)"'
    with pytest.raises(FileError, match=r"ended with code 3: reason$"):
        run_command(failing)


def test_lines_of_a_command_end_in_line_feeds() -> None:
    """On Windows each line that a model read ended in a carriage return, too."""
    assert run_command(f'"{sys.executable}" -c "print(1); print(2)"') == b"1\n2\n"


@pytest.mark.skipif(sys.platform != "win32", reason="other systems have no code page of the console")
def test_a_command_may_write_the_code_page_of_the_console() -> None:
    code = "import sys; sys.stdout.buffer.write(bytes([0x82]).decode('oem').encode('oem'))"
    assert run_command(f'"{sys.executable}" -c "{code}"') == bytes([0x82]).decode("oem").encode()


def test_what_a_process_started_is_killed_with_it(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    child = f"import time\nwhile True:\n open({str(beat)!r}, 'a').write('x')\n time.sleep(0.02)"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], start_new_session=True, creationflags=platform.OWN_GROUP)
    while not beat.exists():
        assert process.poll() is None
        time.sleep(0.01)
    platform.kill_group(process.pid)
    process.wait()
    sizes = [0, beat.stat().st_size]
    while sizes[-1] != sizes[-2]:  # what was begun before
        time.sleep(0.5)
        sizes.append(beat.stat().st_size)
    assert len(sizes) <= 4


def test_words_are_split_and_quoted_as_in_the_systems_shell(tmp_path: Path) -> None:
    r"""`/file C:\notes.txt` named `C:notes.txt`."""
    path = str(tmp_path / "my notes.txt")
    assert platform.split_words(f'{platform.quoted(path)} plain "two words"') == [path, "plain", "two words"]
    assert platform.split_words(str(tmp_path)) == [str(tmp_path)]
    with pytest.raises(ValueError, match="quotation"):
        platform.split_words('"open')


def test_a_crash_has_a_name_and_an_exit_has_none() -> None:
    abort = subprocess.run([sys.executable, "-c", "import os; os.abort()"], check=False, stderr=subprocess.DEVNULL)
    assert platform.crash_name(abort.returncode) in ("SIGABRT", "abort()")
    assert (platform.crash_name(0), platform.crash_name(1), platform.crash_name(130)) == ("", "", "")
    assert platform.crash_name(platform.BAD_INSTRUCTION) in ("SIGILL", "an illegal instruction")


def test_a_pipe_that_nobody_reads_is_recognized() -> None:
    """Windows' C library says `Invalid argument`."""
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(OSError, match=r".") as caught:
        os.write(writing, b"x")
    os.close(writing)
    assert platform.is_broken_pipe(caught.value)
    assert not platform.is_broken_pipe(FileNotFoundError(2, "No such file", "name"))


def test_processor_time_is_limited_by_a_code_of_its_own() -> None:
    source = "from chat import platform\nplatform.limit_processor_seconds(0.2)\nwhile True: sum(range(1000))"
    done = subprocess.run([sys.executable, "-c", source], check=False, cwd=ROOT, timeout=60)
    assert done.returncode == platform.OUT_OF_TIME


def test_stdin_of_an_engine_is_empty_for_the_libraries_that_it_loads() -> None:
    """Under Windows the engine never started: numpy looks at stdin while it is loaded, and waited for the thread that
    reads from there."""
    source = "import os, sys\nfrom chat.system.child_streams import take_streams\nsource, sink = take_streams()\n"
    source += "sink.write(repr((sys.stdin.read(), source.readline())).encode())\nprint('log')\nsink.flush()"
    done = subprocess.run([sys.executable, "-c", source], input=b"line\n", capture_output=True, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr.strip()) == (b"('', b'line\\n')", b"log")


def test_the_null_device_is_no_terminal() -> None:
    """On Windows Python takes it for one, and a session began that ended with an unexpected error."""
    code = (
        "import sys; from chat.system.environment import prepare_streams; prepare_streams(); print('x'); "
        "sys.stderr.write(repr((sys.stdin.isatty(), sys.stdout.isatty(), sys.stdin.read())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    assert done.stderr == "(False, False, '')"
