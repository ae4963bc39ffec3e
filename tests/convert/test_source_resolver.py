"""`convert OWNER/NAME` fetches what it reads from a hub, and an unknown name gives one clear message."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat.cli.main import run
from chat.errors import UsageError
from chat.gguf.reader import read_gguf
from chat.hub import client, header_download, hub_cache
from convert.draft import ConversionOptions
from convert.pipeline import convert
from convert.source_resolver import find_source, split_scale
from tests.convert.adapters import pairs_for, write_peft
from tests.convert.samples import V01, read_safetensors, tensor_bytes
from tests.convert.vision_samples import make_seeing
from tests.hub_server import Fault, HubServer, hub_server

NAME = "mistralai/Mistral-7B-Instruct-v0.1"
FILES = ("config.json", "model.safetensors", "tokenizer.model")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub with the tiny v0.1 under its official name; the current folder is empty."""
    from huggingface_hub import constants

    with hub_server() as running:
        others = {"consolidated.00.pth": b"never" * 999, "README.md": b"never"}
        running.add(NAME, {name: (V01 / name).read_bytes() for name in FILES} | others)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(Path(os.environ["HF_HOME"]) / "token"))
        monkeypatch.chdir(tmp_path)
        yield running


@pytest.mark.parametrize("source", [NAME, f"hf:{NAME}", f"{NAME}@main"])
@pytest.mark.slow
def test_a_repository_becomes_the_file_that_its_folder_becomes(
    source: str, server: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", source]) == 0
    shown = capsys.readouterr()
    assert shown.out == "Mistral-7B-Instruct-v0.1-Q4_K_M.gguf\n"
    assert shown.err.startswith(f"downloading 3 files of {NAME}, ")
    assert read_gguf(tmp_path / shown.out.strip()).metadata["mistral_chat.source"] == NAME
    convert(ConversionOptions(V01, tmp_path / "direct.gguf"))
    made, direct = read_gguf(tmp_path / shown.out.strip()), read_gguf(tmp_path / "direct.gguf")
    raw, expected = made.path.read_bytes()[made.data_offset :], direct.path.read_bytes()[direct.data_offset :]
    assert raw == expected
    assert not [path for path in server.paths() if "consolidated" in path or "README" in path]


def test_a_model_that_sees_becomes_two_files(
    server: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_seeing(tmp_path / "source")
    name = "mistralai/Small-Seeing"
    server.add(name, {path.name: path.read_bytes() for path in folder.iterdir()})
    assert run(["convert", name, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["mmproj"]["output"], plan["mmproj"]["sha256"]) == ("mmproj-Small-Seeing-F16.gguf", "")
    assert list(tmp_path.glob("*.gguf")) == []
    assert run(["convert", name, "-q"]) == 0
    assert capsys.readouterr().out == "Small-Seeing-Q4_K_M.gguf\n"
    assert (tmp_path / "mmproj-Small-Seeing-F16.gguf").stat().st_size == plan["mmproj"]["size"]


def test_named_templates_are_fetched_with_the_checkpoint(server: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the files at the top were fetched, so a repository gave another file than its folder."""
    own = "additional_chat_templates/tool_use.jinja"
    held = {name: (V01 / name).read_bytes() for name in FILES} | {own: b"{{ messages[0].content }}"}
    server.add("someone/templates", held)
    assert run(["convert", "someone/templates", "-q", "--dry-run", "-o", "x.gguf"]) == 0
    assert run(["convert", "someone/templates", "-q", "--no-verify", "-o", "y.gguf"]) == 0
    assert read_gguf(Path("y.gguf")).metadata["tokenizer.chat_template.tool_use"] == "{{ messages[0].content }}"


@pytest.mark.slow
def test_what_was_fetched_is_not_fetched_again_and_quiet_is_quiet(
    server: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", NAME, "-q", "-o", "a.gguf"]) == 0
    fetched = len(server.ranges())
    assert fetched > 0
    assert run(["convert", NAME, "-q", "-o", "b.gguf"]) == 0
    assert len(server.ranges()) == fetched
    assert capsys.readouterr() == ("a.gguf\nb.gguf\n", "")


def test_a_folder_of_the_same_name_comes_first(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir(parents=True)
    assert find_source(NAME, print) == Path(NAME)
    assert server.seen == []
    assert find_source(f"hf:{NAME}", print).parent.name == "snapshots"


def test_a_gguf_of_a_repository_is_fetched_where_its_type_is_named(server: HubServer, tmp_path: Path) -> None:
    convert(ConversionOptions(V01, tmp_path / "x.gguf", "Q8_0", verify=False))
    server.add("someone/Tiny-GGUF", {"tiny.Q8_0.gguf": (tmp_path / "x.gguf").read_bytes(), "tiny.Q4_0.gguf": b"x"})
    found = find_source("hf:someone/Tiny-GGUF:Q8_0", print)
    assert (found.name, found.read_bytes()) == ("tiny.Q8_0.gguf", (tmp_path / "x.gguf").read_bytes())


@pytest.mark.parametrize(
    ("source", "fault", "code", "words"),
    [
        ("mistralai/None", None, 3, "error: the hub has no repository"),
        (NAME, Fault(status=401), 3, "error: "),
        (NAME, Fault(status=403), 3, "error: "),
        ("hf:a b", None, 2, "error: `hf:a b` names no repository\nhint: "),
        ("no-such-folder", None, 3, "error: no-such-folder: no such folder\nhint: name the folder of a checkpoint"),
        ("./a/b", None, 3, "error: a/b: no such folder\nhint: "),
        ("a/b/c", None, 3, "error: a/b/c: no such folder\nhint: "),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    source: str, fault: Fault | None, code: int, words: str, server: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    if fault:
        server.faults["list"] = [fault]
    assert run(["convert", source]) == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err[: len(words)]) == ("", words)
    assert len(shown.err.splitlines()) <= 2
    assert list(Path().iterdir()) == []


def test_wrong_bytes_are_never_converted(server: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    good = (V01 / "model.safetensors").read_bytes()
    server.faults["model.safetensors"] = [Fault(body=b"x" * len(good)) for _ in range(9)]
    assert run(["convert", NAME]) in (6, 7)
    assert list(Path().iterdir()) == []
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]) == 1


@pytest.mark.parametrize(
    ("text", "path", "scale"),
    [("a", "a", 1.0), ("a:0.5", "a", 0.5), ("a:b", "a:b", 1.0), ("a:b:-2", "a:b", -2.0), (":1", ":1", 1.0)],
)
def test_a_scale_is_what_follows_the_last_colon(text: str, path: str, scale: float) -> None:
    assert split_scale(text) == (path, scale)


def test_a_scale_must_be_finite() -> None:
    with pytest.raises(UsageError, match="the scale must be a finite number"):
        split_scale("a:inf")


DIFFERENT = ("expected_seconds", "source", "source_sha256", "size", "free_bytes")


def plan_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The plan that a dry run prints."""
    assert run(["convert", *arguments, "--dry-run", "--json", "-o", "x.gguf"]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    return {name: value for name, value in plan.items() if name not in DIFFERENT}


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, and none may stay."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("first_bytes", [1 << 18, 64, 3])
@pytest.mark.parametrize("ignores_range", [False, True])
def test_a_dry_run_reads_headers_and_downloads_no_weights(
    first_bytes: int,
    ignores_range: bool,
    server: HubServer,
    temporary: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(header_download, "FIRST_BYTES", max(first_bytes, 8))
    server.faults["model.safetensors"] = [Fault(ignores_range=ignores_range)] * 2
    assert run(["convert", NAME, "--dry-run", "-o", "x.gguf"]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith(f"downloading 2 files of {NAME}, ")
    assert f"reading the headers of 1 file of {NAME}; the 4 MB of weights are not downloaded\n" in shown.err
    assert run(["convert", str(V01), "--dry-run", "-o", "x.gguf"]) == 0
    assert shown.out.splitlines()[:-1] == capsys.readouterr().out.splitlines()[:-1]  # the last has the name's length
    header = 8 + int.from_bytes((V01 / "model.safetensors").read_bytes()[:8], "little")
    asked = [each for each in server.ranges() if each is not None]
    assert asked[0] == f"bytes=0-{max(first_bytes, 8) - 1}"
    assert asked[1:] == ([f"bytes={max(first_bytes, 8)}-{header - 1}"] if first_bytes < header else [])
    cached = [path for path in hub_cache().rglob("*") if path.is_file() and path.stat().st_size > 1_000_000]
    assert (cached, list(temporary.iterdir())) == ([], [])


def test_a_dry_run_plans_what_the_folder_gives_and_names_no_hash_of_what_is_not_here(
    server: HubServer, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("-q", "-t", "Q5_K_M", "--window", "off")
    assert plan_of(capsys, "mistral-7b-instruct-v0.1", *arguments) == plan_of(capsys, str(V01), *arguments)
    assert run(["convert", NAME, "-q", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["source"], plan["source_sha256"]) == (NAME, "")
    assert plan["output"] == "Mistral-7B-Instruct-v0.1-Q4_K_M.gguf"
    assert run(["convert", NAME, "-q"]) == 0
    assert Path(capsys.readouterr().out.strip()).stat().st_size == plan["size"]
    fetched = len(server.seen)
    assert run(["convert", NAME, "-q", "--dry-run", "--json", "-o", "y.gguf"]) == 0
    assert len(json.loads(capsys.readouterr().out)["source_sha256"]) == 64
    assert [each.path.partition("?")[0] for each in server.seen[fetched:]] == [f"/api/models/{NAME}"]


def test_pickled_weights_have_no_header_to_plan_from(server: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    files = {name: (V01 / name).read_bytes() for name in ("config.json", "tokenizer.model")}
    server.add("someone/old", files | {"pytorch_model.bin": b"x" * 2000})
    assert run(["convert", "someone/old", "--dry-run"]) == 3
    assert capsys.readouterr().err == (
        "error: someone/old: pytorch_model.bin has no header with its shapes, so a dry run needs the whole file\n"
        "hint: leave out `--dry-run` to download the 2 kB and convert them\n"
    )
    assert server.ranges() == []
    server.add("someone/Tiny-GGUF", {"tiny.Q8_0.gguf": b"x" * 2000})
    assert run(["convert", NAME, "--fit", "1MB", "--dry-run", "-q"]) == 3
    assert capsys.readouterr().err == (
        "error: `--fit` measures the weights, which are not here yet\nhint: leave out `--dry-run`\n"
    )
    assert run(["convert", "hf:someone/Tiny-GGUF:Q8_0", "-t", "Q4_0", "--dry-run"]) == 3
    assert "hint: `mistral-chat models pull hf:someone/Tiny-GGUF:Q8_0` fetches it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (
            Fault(body=b"<html>", headers={"Content-Type": "text/html"}),
            7,
            "sent a web page instead of model.safetensors",
        ),
        (Fault(body=b"<html>log in</html>" * 999_999), 6, "the header's length is "),
        (Fault(body=b""), 7, "no connection to "),
        (Fault(body=(1 << 62).to_bytes(8, "little") * 1_000_000), 6, "the header's length is "),
        (Fault(body=(90_000_000).to_bytes(8, "little") * 1_000_000), 6, "the file ends inside its header"),
        (Fault(body=(300_000).to_bytes(8, "little") * 1_000_000), 6, "the header does not start with `{`"),
        (Fault(cut_after=99), 7, "no connection to "),
        (Fault(status=500), 7, "the hub is not working (status 500)"),
    ],
)
def test_headers_may_be_anything(
    fault: Fault,
    code: int,
    words: str,
    server: HubServer,
    temporary: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "pause", lambda _: None)
    server.faults["model.safetensors"] = [fault] * 9
    assert run(["convert", NAME, "--dry-run"]) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert list(temporary.iterdir()) == []


def test_a_header_that_is_cut_once_is_read_again(
    server: HubServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "pause", lambda _: None)
    server.faults["model.safetensors"] = [Fault(cut_after=5), Fault(status=503)]
    assert plan_of(capsys, NAME, "-q") == plan_of(capsys, str(V01), "-q")


def test_adapters_and_bases_are_named_like_sources(server: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = read_safetensors(V01 / "model.safetensors")
    poet = write_peft(Path("poet"), pairs_for(tensors, ["model.layers.0.self_attn.q_proj"]))
    server.add("someone/poet-lora", {path.name: path.read_bytes() for path in poet.iterdir()})
    assert run(["convert", NAME, "--lora", "someone/poet-lora:0.5", "-t", "F32"]) == 0
    assert capsys.readouterr().out == "Mistral-7B-Instruct-v0.1+poet-lora-F32.gguf\n"
    made = read_gguf("Mistral-7B-Instruct-v0.1+poet-lora-F32.gguf")
    assert made.metadata["general.name"] == "Mistral-7B-Instruct-v0.1+poet-lora"
    assert made.metadata["mistral_chat.source"] == f"{NAME}+someone/poet-lora"
    assert run(["convert", str(V01), "--lora", "poet:0.5", "-t", "F32", "-o", "direct.gguf", "-q"]) == 0
    assert tensor_bytes(made.path)[1] == tensor_bytes(Path("direct.gguf"))[1]
    capsys.readouterr()
    before = len(server.ranges())
    for base in (NAME, "mistral-7b-instruct-v0.1"):
        assert run(["convert", "someone/poet-lora", "--base", base, "-q", "--overwrite", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["output"], report["base"]) == ("poet-lora-F32.gguf", NAME)
    assert run(["convert", "poet", "--base", str(V01), "-q", "-o", "local.gguf"]) == 0
    assert tensor_bytes(Path("poet-lora-F32.gguf"))[1] == tensor_bytes(Path("local.gguf"))[1]
    assert len(server.ranges()) == before  # of the base, which is here since the merge


def test_a_base_of_the_hub_is_not_downloaded(server: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = read_safetensors(V01 / "model.safetensors")
    write_peft(Path("poet"), pairs_for(tensors, ["model.layers.0.self_attn.q_proj"]))
    assert run(["convert", "poet", "--base", NAME]) == 0
    shown = capsys.readouterr()
    assert "of weights are not downloaded\n" in shown.err
    assert (shown.out, server.ranges()[-1]) == ("poet-F32.gguf\n", "bytes=0-262143")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--lora", "someone/none"], 3, "error: the hub has no repository someone/none"),
        (["--lora", "mistral"], 3, "error: mistral: no such adapter"),  # an official model is no adapter
        (["--lora", "no:such:0.5"], 3, "error: no:such: no such adapter"),
        (["--lora", "x:inf"], 2, "error: `--lora x:inf`: the scale must be a finite number"),
        (["--lora", NAME], 3, "no adapter there"),
    ],
)
def test_an_adapter_that_is_none_is_one_sentence(
    arguments: list[str], code: int, words: str, server: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", str(V01), *arguments]) == code
    assert words in capsys.readouterr().err
    assert list(Path().iterdir()) == []
