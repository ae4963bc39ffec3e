"""Pictures through the whole program: attached, piped, in batches, in sessions that are continued and exported."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat.documents.open_document import open_document
from tests.chat.documents import document_makers as make
from tests.chat.seeing import QUESTION, file_of, picture_of_noise
from tests.folders import CHECKPOINTS
from tests.grids import FULL
from tests.program import run

pytestmark = [pytest.mark.engine, pytest.mark.slow]
REFERENCE = json.loads((CHECKPOINTS / "pictures.json").read_text())["small3"][0]
EXACT = ("--temp", "0", "-n", "24", "--kv-type", "f32", "--flash-attention", "off")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(file_of(picture_of_noise(112, 84, 1)))
    return path


@pytest.fixture
def ask(seeing_model: Callable[..., Path], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    def answer(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return run("-m", seeing_model(), *EXACT, *arguments, stdin=stdin, cwd=tmp_path)

    return answer


def test_a_question_with_a_picture_is_answered_as_transformers_answers(ask: Any, photo: Path) -> None:
    """The picture encoder beside the model is found; the picture may come by its name or on stdin."""
    done = ask("--json", QUESTION, stdin=photo.read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["ids"] == REFERENCE["greedy"]
    for flags, stdin in (("-f", str(photo)), b""), (("-f", "-"), photo.read_bytes()):
        done = ask("--dry-run", *flags, QUESTION, stdin=stdin)
        assert json.loads(done.stdout)["ids"] == REFERENCE["prompt"]


def test_a_picture_can_be_made_smaller_than_the_model_takes(ask: Any, photo: Path) -> None:
    """112 x 84 pixels are 4 x 3 tokens and two breaks; of 56 x 42 only 2 x 2 and one break are left."""
    whole = json.loads(ask("--dry-run", "-f", photo, QUESTION).stdout)["ids"]
    smaller = json.loads(ask("--dry-run", "--picture-size", "56", "-f", photo, QUESTION).stdout)["ids"]
    assert len(whole) - len(smaller) == 14 - 5


REFUSALS = (
    (("--mmproj", "off"), 2, "photo.png: the model reads only text, not pictures"),
    (("--mmproj", "gone.gguf"), 3, "gone.gguf: no such file"),
    (("--prompt-format", "v1"), 2, "the prompt format v1 has no place for pictures"),
    (("--prompt-format", "chatml"), 2, "the prompt format chatml has no place for pictures"),
    (("--raw",), 2, "pictures need a prompt format, but `--raw` has none"),
    (("-f", "damaged.png"), 6, "damaged.png: the picture is damaged, or not complete"),
    (("-f", "scan.tiff"), 6, "scan.tiff: is a TIFF picture, not text"),
)


@pytest.mark.parametrize(("flags", "code", "sentence"), REFUSALS if FULL else REFUSALS[:1])
def test_what_cannot_be_seen_is_refused(
    flags: tuple[str, ...], code: int, sentence: str, ask: Any, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "damaged.png").write_bytes(photo.read_bytes()[:300])
    (tmp_path / "scan.tiff").write_bytes(b"II*\0" + bytes(50))
    done = ask("-f", photo, *flags, QUESTION)
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.decode().startswith(f"error: {sentence}\n" if "hint" in done.stderr.decode() else "error: ")
    assert sentence in done.stderr.decode()


def test_lines_of_a_batch_have_files_and_parts(ask: Any, photo: Path, tmp_path: Path) -> None:
    address = f"data:image/png;base64,{base64.b64encode(photo.read_bytes()).decode()}"
    parts = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": address}}]
    records: list[dict[str, Any]] = [
        {"id": "file", "prompt": QUESTION, "files": ["photo.png"]},
        {"id": "parts", "messages": [{"role": "user", "content": parts}]},
        {"id": "command", "prompt": "x", "files": ["!echo hi"]},
        {
            "id": "remote",
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "https://x/y"}]}],
        },
        {"id": "system", "messages": [{"role": "system", "content": parts}, {"role": "user", "content": "x"}]},
        {"id": "both", "messages": [{"role": "user", "content": "x"}], "files": ["photo.png"]},
    ]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    done = ask("--batch", "lines.jsonl")
    found = {each["id"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert [found[name]["ids"] for name in ("file", "parts")] == [REFERENCE["greedy"]] * 2
    assert {name: found[name]["error"] for name in ("command", "remote", "system", "both")} == {
        "command": "line 3: there is no file '!echo hi'",
        "remote": "line 4, message 1: a picture must be a data URL",
        "system": "line 5, message 1: `content` must be a string, or parts of a user's message",
        "both": "line 6: `files` go with `prompt`, not with `messages`",
    }
    if not FULL:
        return
    shared = ask("--batch", "-", "-f", photo, stdin=json.dumps(QUESTION).encode() + b"\n")
    assert json.loads(shared.stdout)["ids"] == REFERENCE["greedy"]


def test_the_pages_of_a_scan_are_seen(ask: Any, tmp_path: Path) -> None:
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(make.pdf(["", ""], "100 100 200 300 re f"))
    files: list[object] = []
    for number, page in enumerate(open_document(str(scan)).pages):
        (tmp_path / f"{number}.jpg").write_bytes(page.data)
        files += ["-f", f"{number}.jpg"]
    expected = json.loads(ask("--dry-run", *files, QUESTION).stdout)["ids"]
    (tmp_path / "lines.jsonl").write_text(json.dumps({"prompt": QUESTION, "files": ["scan.pdf"]}))
    ways: list[tuple[tuple[str, ...], bytes]] = [(("-f", "scan.pdf", QUESTION), b""), ((QUESTION,), scan.read_bytes())]
    ways += [(("-f", "scan.pdf", "--find", QUESTION), b""), (("--batch", "lines.jsonl"), b"")]
    for arguments, stdin in ways if FULL else ways[:1]:
        done = ask("--dry-run", *arguments, stdin=stdin)
        assert json.loads(done.stdout)["ids"] == expected
    told = b"scan.pdf: has no text; its 2 pages are read as pictures\n"
    assert told in ask("--dry-run", *ways[0][0]).stderr
    assert b"line 1: " + told in ask("--dry-run", *ways[3][0]).stderr
    done = ask("--mmproj", "off", *ways[0][0])
    assert done.returncode == 2
    assert done.stderr.decode().endswith(
        "error: scan.pdf, page 1: has no text, and the model does not see pictures\n"
        "hint: make its text readable first, for example with `ocrmypdf`, or use a model that sees\n"
    )


def test_a_session_keeps_its_pictures(ask: Any, photo: Path, tmp_path: Path) -> None:
    first = ask("--json", "--session", "trip", "-f", photo, QUESTION)
    assert json.loads(first.stdout)["ids"] == REFERENCE["greedy"]
    photo.unlink()
    again = json.loads(ask("--json", "-c", "and now").stdout)
    assert again["tokens"]["prompt"] > len(REFERENCE["prompt"]) + 24
    exported = run("sessions", "export", "trip", "-o", tmp_path / "trip.json")
    assert exported.returncode == 0, exported.stderr
    node = json.loads((tmp_path / "trip.json").read_text())["nodes"][0]
    assert [each["name"] for each in node["pictures"]] == ["photo.png"]
    assert b"photo.png" in run("sessions", "show", "trip").stdout
