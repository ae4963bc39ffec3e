"""A GGUF exists whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from chat import platform
from chat.errors import FileError
from chat.gguf.reader import read_gguf
from chat.gguf.writer import KeyValue, encode_header
from convert.draft import ConversionOptions
from convert.output import gguf_writer
from convert.output.gguf_writer import create, free_bytes, partial_path, target_fault
from convert.pipeline import convert
from convert.quantize.recipes import Facts, find_recipe, make_plan
from tests.convert.samples import V01, Sizes, make_checkpoint
from tests.grids import FULL
from tests.program import run_command

# Converts, but dies by SIGKILL at the N-th call of the operating system that changes a file.
DYING = """
import os, signal, sys
from pathlib import Path
count = 0
def dying(call):
    def wrapped(*args, **kwargs):
        global count
        count += 1
        if count == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped
for name in ("open", "pwrite", "ftruncate", "fsync", "fchmod", "replace", "unlink"):
    setattr(os, name, dying(getattr(os, name)))
from convert.draft import ConversionOptions
from convert.pipeline import convert
convert(ConversionOptions(Path(sys.argv[1]), Path(sys.argv[2]), "Q8_0", overwrite=True, verify=False))
print(count)
"""


def run_dying(source: Path, out: Path, at: int) -> subprocess.CompletedProcess[str]:
    return run_command(
        [sys.executable, "-c", DYING, str(source), str(out), str(at)], capture_output=True, text=True, cwd=Path.cwd()
    )


@pytest.mark.slow
def test_kill_9_at_any_change_of_a_file_leaves_the_old_file_or_the_new_one_whole(tmp_path: Path) -> None:
    source, out = make_checkpoint(tmp_path / "model", Sizes(layers=1)), tmp_path / "made" / "out.gguf"
    out.parent.mkdir()
    whole = run_dying(source, out, 0)
    assert whole.returncode == 0, whole.stderr
    calls, new = int(whole.stdout), out.read_bytes()
    assert calls > 15
    points = range(1, calls + 1) if FULL else sorted({1, 2, 3, 4, calls // 2, calls - 3, calls - 2, calls - 1, calls})
    for at in points:
        out.write_bytes(b"old")
        done = run_dying(source, out, at)
        assert done.returncode == -signal.SIGKILL, (at, done.stderr)
        assert out.read_bytes() in (b"old", new), at
        assert {path.name for path in out.parent.iterdir()} <= {"out.gguf", ".out.gguf.partial"}
    assert run_dying(source, out, 0).returncode == 0
    assert out.read_bytes() == new
    assert [path.name for path in out.parent.iterdir()] == ["out.gguf"]


def test_a_leftover_of_a_killed_run_is_removed_and_counts_as_free(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    partial_path(out).write_bytes(bytes(1 << 20))
    assert free_bytes(out) >= free_bytes(tmp_path / "other.gguf") + (1 << 20) - (1 << 16)
    convert(ConversionOptions(V01, out, "Q8_0"))
    assert [path.name for path in tmp_path.iterdir()] == ["out.gguf"]


def test_two_conversions_of_one_file_do_not_mix(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    partial = partial_path(out)
    with partial.open("wb") as other:
        assert platform.lock_file(other.fileno())
        with pytest.raises(FileError, match="another conversion is writing this file"):
            convert(ConversionOptions(V01, out, "Q8_0"))
        assert partial.exists()


def test_a_link_in_the_place_of_the_partial_file_is_not_followed(tmp_path: Path) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out.gguf"
    victim.write_bytes(b"precious")
    partial_path(out).symlink_to(victim)
    with pytest.raises(FileError, match=r"\.out\.gguf\.partial: "):
        convert(ConversionOptions(V01, out, "Q8_0"))
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["pwrite", "ftruncate", "fsync", "replace"])
@pytest.mark.parametrize("nth", [1, 2])
def test_an_error_of_the_disk_removes_the_partial_file(
    name: str, nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    real = getattr(os, name)

    def failing(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, failing)
    out = tmp_path / "out.gguf"
    if nth == 2 and name in ("ftruncate", "replace"):
        convert(ConversionOptions(V01, out, "Q8_0"))  # called once only
        return
    with pytest.raises(FileError, match="No space left on device"):
        convert(ConversionOptions(V01, out, "Q8_0"))
    if (name, nth) != ("fsync", 2):  # the folder's, after the file has its name
        assert not list(tmp_path.glob("*.gguf"))
    assert not list(tmp_path.glob(".*partial"))


def test_every_part_but_the_last_is_flushed_once_it_is_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[int, int, int]] = []

    def flush(descriptor: int, offset: int, count: int, flags: int) -> int:
        flushed.append((offset, count, flags))
        return -1  # the disk's errors are found at the end

    monkeypatch.setattr(gguf_writer, "FLUSHED_BYTES", 100)
    monkeypatch.setattr(gguf_writer, "_flush_function", lambda: flush)
    with create(tmp_path / "out.gguf", 530, overwrite=False) as file:
        for start, stop in ((0, 60), (60, 120), (120, 130), (130, 430), (430, 530)):
            file.write(bytes(stop - start), start)
    assert flushed == [(0, 100, 2), (100, 300, 2), (400, 100, 2)]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(ConversionOptions(V01, tmp_path / "whole.gguf", "Q8_0"))
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[: max(1, len(data) // 3)], offset))
    convert(ConversionOptions(V01, tmp_path / "short.gguf", "Q8_0"))
    assert (tmp_path / "short.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_the_file_is_private_while_it_grows_and_then_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with create(tmp_path / "out.gguf", 10, overwrite=False) as file:
            assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.gguf").stat().st_mode) == 0o640


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    with pytest.raises(FileError, match="exists already"), create(out, 10, overwrite=False):
        out.write_bytes(b"other")
    assert out.read_bytes() == b"other"
    assert not partial_path(out).exists()


def test_the_target_must_be_a_file_in_a_folder_that_exists(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a folder"):
        convert(ConversionOptions(V01, tmp_path))
    with pytest.raises(FileError, match="no such folder"):
        convert(ConversionOptions(V01, tmp_path / "nowhere" / "out.gguf"))


def test_the_header_reads_back_as_it_was_given(tmp_path: Path) -> None:
    keys = (
        KeyValue("general.architecture", "str", "llama"),
        KeyValue("a.u32", "u32", 2**32 - 1),
        KeyValue("a.i32", "i32", -5),
        KeyValue("a.f32", "f32", 0.5),
        KeyValue("a.bool", "bool", True),
        KeyValue("a.texts", "str", ("é", b"\xe2\x96\x81x", "")),
        KeyValue("a.bools", "bool", (True, False)),
        KeyValue("a.none", "i32", ()),
    )
    plan = make_plan(find_recipe("Q8_0"), [("w.weight", (2, 3, 32)), ("v", (5,))], Facts(1, 1, 1))
    header = encode_header(keys, plan.tensors)
    path = tmp_path / "x.gguf"
    path.write_bytes(header + bytes(plan.data_bytes))
    file = read_gguf(path)
    values = {key: list(value) if key.endswith(("s", "none")) else value for key, value in file.metadata.items()}
    assert values == {
        "general.architecture": "llama",
        "a.u32": 2**32 - 1,
        "a.i32": -5,
        "a.f32": 0.5,
        "a.bool": True,
        "a.texts": ["é", "▁x", ""],
        "a.bools": [True, False],
        "a.none": [],
    }
    assert {name: (info.shape, info.type, info.offset) for name, info in file.tensors.items()} == {
        "v": ((5,), "F32", len(header)),
        "w.weight": ((32, 3, 2), "Q8_0", len(header) + 32),
    }


def test_a_device_is_refused_and_a_link_is_written_through(tmp_path: Path) -> None:
    """`-o /dev/null --overwrite` as root replaced the device by a model."""
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/null"), Path("/dev/stdout"), tmp_path / "pipe"):
        fault = target_fault(path, overwrite=True)
        assert fault is not None
        assert fault.message in (
            f"{path} is a device or a pipe, and a model needs a file",
            f"{path}: is not a regular file",
        )
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "model.gguf").write_bytes(b"old")
    link = tmp_path / "link.gguf"
    link.symlink_to("far/model.gguf")
    with create(link, 3, overwrite=True) as file:
        assert partial_path(link) == tmp_path / "far" / ".model.gguf.partial"
        file.write(b"new", 0)
    assert (link.readlink(), link.read_bytes()) == (Path("far/model.gguf"), b"new")
