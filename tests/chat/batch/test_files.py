"""`--resume`: each line has one result in the end, whatever ended the run before."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from chat.batch import files
from chat.batch.files import LongLine, has_pictures, open_lines, result_writer
from chat.batch.records import RecordReader
from chat.config.options import Settings
from chat.errors import DataError, FileError
from chat.system.environment import Environment
from tests.chat.seeing import file_of, picture_of_noise
from tests.environments import pipes
from tests.program import PROGRAM, run_command


def test_lines_of_one_id_are_all_answered_after_a_crash(tiny_model: Path, tmp_path: Path) -> None:
    """The second line with the same id was lost: its id was in the file already."""
    batch, output = tmp_path / "batch.jsonl", tmp_path / "out.jsonl"
    batch.write_text('{"id": "a", "prompt": "one"}\n{"id": "a", "prompt": "two"}\n{"id": "b", "prompt": "three"}\n')
    output.write_text('{"id": "a", "text": "kept"}\n')
    command = [*PROGRAM, "-m", str(tiny_model), "-n", "2", "--batch", str(batch), "-o", str(output), "--resume"]
    assert run_command(command, stdin=subprocess.DEVNULL, check=False).returncode == 0
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["a", "a", "b"]


@pytest.mark.parametrize(
    "torn", [b'{"id": 2, "text": "\xe2\x82', b"x" * 3_000_000, b"", b'{"id": 2, "text": "no end"}'], ids=range(4)
)
def test_an_incomplete_last_line_is_removed_on_resume(torn: bytes, tiny_model: Path, tmp_path: Path) -> None:
    batch, output = tmp_path / "batch.jsonl", tmp_path / "out.jsonl"
    batch.write_text('"a"\n"b"\n')
    output.write_bytes('{"id": 1, "text": "kept é"}\n'.encode() + torn)
    command = [*PROGRAM, "-m", str(tiny_model), "-n", "1", "--batch", str(batch), "-o", str(output), "--resume"]
    assert run_command(command, stdin=subprocess.DEVNULL, check=False).returncode == 0
    first, second = (json.loads(line) for line in output.read_text().splitlines())
    assert (first, second["id"], second["tokens"]["generated"]) == ({"id": 1, "text": "kept é"}, 2, 1)


def test_resume_asks_again_what_failed_and_leaves_one_result_for_each_line(tiny_model: Path, tmp_path: Path) -> None:
    """Errors counted as results: the batch ended with exit 0, and those lines had no answer."""
    batch, output, link = (tmp_path / name for name in ("batch.jsonl", "out.jsonl", "link.jsonl"))
    lines = ['"a"', "not JSON", '{"id": "x", "prompt": "c"}', *['{"id": "twice", "prompt": "d"}'] * 2, '"f"']
    batch.write_text("\n".join(lines) + "\n")
    failed = {"error": "the engine died", "exit_code": 8}
    kept = [{"id": 1, "text": 'says "error"'}, {"id": "twice", "text": "which of the two?"}, {"id": 6, "text": "f"}]
    results = [kept[0], {"id": 2, **failed}, {"id": "x", **failed}, kept[1], {"id": "twice", **failed}, kept[2]]
    output.write_text("".join(json.dumps(each) + "\n" for each in results) + '{"id": 7, "error": "torn"}')
    output.chmod(0o640)
    link.symlink_to(output)
    command = [*PROGRAM, "-m", str(tiny_model), "-n", "1", "--batch", str(batch), "-o", str(link), "--resume"]
    for _ in range(2):  # the bad line is bad again, and its error is replaced, not repeated
        assert run_command(command, stdin=subprocess.DEVNULL, check=False).returncode == 1
        results = [json.loads(line) for line in output.read_text().splitlines()]
        assert [each for each in results if each["id"] in (1, 6)] == [kept[0], kept[2]]
        assert sorted(str(each["id"]) for each in results) == ["1", "2", "6", "twice", "twice", "x"]
        assert [each["error"] for each in results if "error" in each] == [
            "line 2: is not JSON: Expecting value: line 1 column 1 (char 0)"
        ]
    assert (link.is_symlink(), output.stat().st_mode & 0o777) == (True, 0o640)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch.jsonl", "link.jsonl", "out.jsonl"]


def test_failed_results_stay_where_the_file_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out.jsonl"
    before = '{"id": 1, "text": "a"}\n{"id": 2, "error": "x", "exit_code": 8}\n'
    output.write_text(before)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(FileError) as caught, result_writer(output, pipes(), resume=True):
        pass
    assert caught.value.message == f"{output}: cannot be written: No space left on device"
    assert (output.read_text(), list(tmp_path.iterdir())) == (before, [output])


def test_a_line_that_is_too_long_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of any length was read into memory, and counting lines did so, too."""
    for name in ("files", "records"):
        monkeypatch.setattr(f"chat.batch.{name}.MOST_TEXT_BYTES", 1 << 20)
    monkeypatch.setattr("chat.batch.files.LONGEST_LINE_BYTES", 4 << 20)
    batch = tmp_path / "batch.jsonl"
    batch.write_bytes(b'"one"\n\n"' + "é".encode() * (1 << 20) + b'"\n   \n"three"')
    with open_lines(str(batch), Environment(), lambda _: None) as (lines, total):
        found = list(lines)
    assert (total, [type(line) is LongLine for line in found]) == (3, [False, False, True, False, False])
    reader = RecordReader(Settings(), str)
    assert str(reader.read(3, found[2]).error) == "line 3: is larger than the limit of 1 MiB"
    with open_lines("/dev/zero", Environment(), lambda _: None) as (lines, total):
        assert total is None
        with pytest.raises(DataError, match=r"^/dev/zero, line 1: has no end within 4 MiB$"):
            next(lines)


@pytest.mark.parametrize("picture", ["photo.png", "link.png"])
def test_a_line_with_a_picture_is_found_among_odd_ones(
    picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link was not followed, so that its line was refused where the picture encoder had to be fetched."""
    monkeypatch.chdir(tmp_path)
    photo = tmp_path / "photo.png"
    photo.write_bytes(file_of(picture_of_noise(8, 8, 1)))
    (tmp_path / "link.png").symlink_to(photo)
    odd: list[object] = [[1, None, "no\0file", "\ud800", ".", "-", "lines.jsonl"], "photo.png", {"files": 1}]
    lines = [json.dumps({"prompt": "x", "files": names}) for names in odd] + ['["files"]', '{"files": [', "[" * 10_000]
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(lines))
    assert not has_pictures(str(path))
    path.write_text("\n".join([*lines, json.dumps({"prompt": "x", "files": [picture]})]))
    assert has_pictures(str(path))
