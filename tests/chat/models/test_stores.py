"""Where GGUF files are found, under which names, and what is passed over."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chat.errors import ChatError
from chat.models import inventory, stores
from chat.models.resolve import resolve

Put = Callable[[str], Path]
MODEL = "application/vnd.ollama.image.model"
ADAPTER = "application/vnd.ollama.image.adapter"


class Ollama:
    """Ollama's folder of models, with manifests as `ollama pull` writes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, data: bytes = b"GGUF", *, adapter: bool = False) -> Path:
        """Store a model under the path of its manifest; the path of its blob."""
        digest = f"{abs(hash(name)):064x}"
        blob = self.folder / "blobs" / f"sha256-{digest}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        layers = [{"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:" + "0" * 64, "size": 3}]
        layers.append({"mediaType": MODEL, "digest": f"sha256:{digest}", "size": len(data)})
        if adapter:
            layers.append({"mediaType": ADAPTER, "digest": f"sha256:{digest}", "size": 1})
        self.manifest(name, json.dumps({"schemaVersion": 2, "config": {}, "layers": layers}).encode())
        return blob

    def manifest(self, name: str, data: bytes) -> None:
        path = self.folder / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.fixture
def ollama(own_home: Path) -> Ollama:
    return Ollama(own_home / "ollama")


def refusal(name: str) -> tuple[str, str | None]:
    with pytest.raises(ChatError) as caught:
        resolve(name)
    return caught.value.message, caught.value.hint


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_all_places_are_searched_ours_first(
    own_home: Path, pulled: Put, ollama: Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "here.gguf")
    touch(tmp_path / "-odd.GGUF")
    touch(tmp_path / "deeper" / "unseen.gguf")
    touch(tmp_path / "here-mmproj-f16.gguf")
    touch(tmp_path / "here-Q4_K_M.imatrix.gguf")
    pulled("mine")
    ollama.add("registry.ollama.ai/library/mistral/7b")
    ollama.add("registry.ollama.ai/someone/tuned/latest")
    ollama.add("hf.co/bartowski/Tiny-GGUF/Q4_K_M")
    touch(own_home / ".lmstudio/models/maker/Tiny-GGUF/Tiny-Q4_K_M.gguf")
    touch(own_home / ".lmstudio/models/maker/Tiny-GGUF/mmproj-Tiny-f16.gguf")
    touch(own_home / ".cache/lm-studio/models/other/Same-GGUF/Same.gguf")
    touch(own_home / ".cache/llama.cpp/Same.gguf")
    monkeypatch.setattr("sys.platform", "linux")
    assert [(file.name, file.where) for file in stores.found_files()] == [
        ("mine", "models"),
        ("./-odd.GGUF", "current folder"),
        ("here.gguf", "current folder"),
        ("ollama:hf.co/bartowski/Tiny-GGUF:Q4_K_M", "Ollama"),
        ("ollama:mistral:7b", "Ollama"),
        ("ollama:someone/tuned:latest", "Ollama"),
        ("Tiny-Q4_K_M", "LM Studio"),
        ("~/.cache/lm-studio/models/other/Same-GGUF/Same.gguf", "LM Studio"),
        ("~/.cache/llama.cpp/Same.gguf", "llama.cpp"),
    ]


def test_every_name_is_what_m_takes(own_home: Path, ollama: Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "~odd.gguf")
    ollama.add("registry.ollama.ai/library/mistral/7b")
    touch(own_home / ".lmstudio/models/a/b/Tiny.gguf")
    touch(own_home / ".lmstudio/models/a/b/Same.gguf")
    touch(own_home / ".lmstudio/models/a/c/Same.gguf")
    files = stores.found_files()
    assert len(files) == 5
    assert [resolve(file.name).absolute() for file in files] == [file.path for file in files]


def test_variables_move_the_stores(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "cache"))
    touch(tmp_path / "cache" / "a.gguf")
    touch(own_home / ".cache/llama.cpp/b.gguf")
    assert [file.name for file in stores.found_files()] == ["a"]
    monkeypatch.delenv("LLAMA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    touch(tmp_path / "xdg" / "llama.cpp" / "c.gguf")
    assert [file.name for file in stores.found_files()] == ["c"]
    monkeypatch.delenv("OLLAMA_MODELS")
    monkeypatch.setattr(stores, "OLLAMA_SYSTEM_STORE", tmp_path / "service")
    Ollama(own_home / ".ollama/models").add("registry.ollama.ai/library/a/1b")
    Ollama(tmp_path / "service").add("registry.ollama.ai/library/b/1b")
    assert [file.name for file in stores.ollama_files()] == ["ollama:a:1b", "ollama:b:1b"]


def test_an_exact_name_of_ollama_leads_to_its_manifest(ollama: Ollama) -> None:
    for name in ("library/mistral/7b", "someone/tuned/latest", "bare/1b"):
        ollama.add(f"registry.ollama.ai/{name}")
    ollama.add("hf.co/bartowski/Tiny-GGUF/Q4_K_M")
    found = stores.ollama_files()
    assert len(found) == 4
    assert [stores.ollama_file(file.name) for file in found] == list(found)
    for name in ("mistral", "mistral:", "library/mistral:7b", "../manifests/registry.ollama.ai/bare:1b", "a\0b:1"):
        assert stores.ollama_file(f"ollama:{name}") is None


def test_manifests_that_name_no_whole_gguf_are_passed_over(ollama: Ollama) -> None:
    """A digest with `..` in it must not lead out of the store."""
    layer = {"mediaType": MODEL, "digest": "sha256:../../../etc/passwd"}
    bad = {
        "outside": json.dumps({"layers": [layer]}).encode(),
        "gone": json.dumps({"layers": [{**layer, "digest": "sha256:" + "1" * 64}]}).encode(),
        "cloud": b'{"layers": []}',
        "list": b"[]",
        "deep": b"[" * 100_000,
        "cut": b'{"layers": [',
        "binary": b"\xff\xfe\x00",
        "number": b'{"layers": [{"mediaType": 1, "digest": 2}]}',
        "type": json.dumps({"layers": [{"mediaType": MODEL, "digest": 2}]}).encode(),
        "large": b" " * (stores.MAX_MANIFEST_BYTES + 1),
    }
    for name, data in bad.items():
        ollama.manifest(f"registry.ollama.ai/library/{name}/latest", data)
    ollama.manifest("stray", b"{}")
    ollama.add("registry.ollama.ai/library/adapted/latest", adapter=True)
    assert stores.ollama_files() == ()
    assert refusal("ollama:adapted") == (
        "Ollama has no GGUF model called `adapted` here",
        "`mistral-chat models list` shows the models that can be used; OLLAMA_MODELS names Ollama's folder",
    )


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        ("mistral:7b", "library/mistral/7b"),
        ("ollama:mistral:7b", "library/mistral/7b"),
        ("OLLAMA:x".lower(), "library/x/latest"),
        ("qwen", "library/qwen/latest"),
        ("only", "library/only/3b"),
        ("someone/tuned", "someone/tuned/latest"),
    ],
)
def test_a_name_of_ollama_is_found_with_and_without_its_mark(ollama: Ollama, name: str, manifest: str) -> None:
    blob = ollama.add(f"registry.ollama.ai/{manifest}")
    ollama.add("registry.ollama.ai/library/other/7b")
    assert resolve(name) == blob


def test_a_name_with_several_tags_is_refused_with_the_choices(ollama: Ollama) -> None:
    ollama.add("registry.ollama.ai/library/qwen/7b")
    ollama.add("registry.ollama.ai/library/qwen/14b")
    said = ("`{}` matches 2 models: ollama:qwen:14b, ollama:qwen:7b", "type more of the name")
    assert refusal("qwen") == (said[0].format("qwen"), said[1])
    assert refusal("ollama:qwen") == (said[0].format("qwen"), said[1])
    assert refusal("ollama:qwne:7b") == (
        "Ollama has no GGUF model called `qwne:7b` here",
        "did you mean `ollama:qwen:7b` or `ollama:qwen:14b`?",
    )


def test_a_name_in_two_stores_is_refused_with_the_choices(
    own_home: Path, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    ollama.add("registry.ollama.ai/library/tiny/latest")
    touch(own_home / ".cache/llama.cpp/tiny.gguf")
    assert refusal("tiny")[0] == "`tiny` matches 2 models: ollama:tiny:latest, tiny"


def test_a_name_of_the_catalogue_never_means_the_model_of_another_program(ollama: Ollama) -> None:
    ollama.add("registry.ollama.ai/library/mistral/latest")
    message, hint = refusal("mistral")
    assert message == "mistral-7b-instruct-v0.3 is not here yet"
    assert (hint or "").endswith("; `-m ollama:mistral:latest` is already here")


def test_ours_goes_before_other_programs(pulled: Put, ollama: Ollama) -> None:
    path = pulled("tiny")
    ollama.add("registry.ollama.ai/library/tiny/latest")
    assert resolve("tiny") == path


def test_a_split_model_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 3):
        (tmp_path / f"big-0000{number}-of-00003.gguf").write_bytes(b"x" * number)
    touch(tmp_path / "lost-00002-of-00003.gguf")
    (file,) = stores.found_files()
    assert (file.name, len(file.further_parts), file.size) == ("big-00001-of-00003.gguf", 2, 6)


def test_links_in_a_circle_and_closed_folders_are_passed_over(own_home: Path) -> None:
    maker = own_home / ".lmstudio/models/maker"
    touch(maker / "repo/a.gguf")
    (maker / "repo/again").symlink_to(maker)
    (maker / "repo/broken.gguf").symlink_to(own_home / "nowhere")
    (own_home / "ollama").mkdir()
    (own_home / "ollama/manifests").write_text("no folder")
    assert [file.name for file in stores.found_files()] == ["a"]


def test_a_folder_of_too_many_files_is_not_searched_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stores, "MAX_ENTRIES", 3)
    for number in range(5):
        touch(tmp_path / f"{number}.gguf")
    names = [file.name for file in stores.found_files()]
    assert len(names) == 3
    assert names == sorted(names)


def test_after_the_most_entries_no_other_folder_is_opened(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once each waiting folder was still read whole and sorted, only to keep none of its entries."""
    store = own_home / ".lmstudio/models"
    for number in range(4):
        touch(store / f"maker{number}/repo/{number}.gguf")
    opened: list[Path] = []
    scandir = os.scandir
    monkeypatch.setattr(stores, "MAX_ENTRIES", 4)
    monkeypatch.setattr(os, "scandir", lambda path: (opened.append(Path(path)), scandir(path))[1])
    assert stores.found_files() == ()
    assert [path for path in opened if path.is_relative_to(store)] == [store]


def test_a_removed_folder_and_a_missing_home_leave_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert stores.found_files() == ()
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "here.gguf")
    monkeypatch.delenv("MISTRAL_CHAT_HOME")
    monkeypatch.setattr(stores, "models_folder", _no_home)
    assert [file.name for file in stores.found_files()] == ["here.gguf"]


def _no_home() -> Path:
    from chat.errors import FileError

    raise FileError("there is no home folder")


def test_only_models_that_can_be_used_are_offered(pulled: Put, ollama: Ollama, gguf: Path) -> None:
    broken = pulled("broken")
    broken.write_bytes(b"<html>")
    ollama.add("registry.ollama.ai/library/tiny/latest", gguf.read_bytes())
    ollama.add("registry.ollama.ai/library/bad/latest", b"GGUF")
    assert [(model.name, model.summary) for model in inventory.usable_models(60)] == [
        ("ollama:tiny:latest", f"{gguf.stat().st_size // 1_000_000} MB, Q4_K_M"),
    ]
    assert [(model.name, bool(model.problem)) for model in inventory.listed_models()] == [
        ("broken", True),
        ("ollama:bad:latest", True),
        ("ollama:tiny:latest", False),
    ]


def test_when_the_time_is_over_models_are_offered_unread(pulled: Put) -> None:
    size = pulled("mine").stat().st_size
    (model,) = inventory.usable_models(0)
    assert (model.name, model.size, model.type) == ("mine", size, "")


def test_a_header_is_read_once_until_the_file_changes(pulled: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pulled("mine")
    reads: list[Path] = []
    original = inventory.read_checked
    monkeypatch.setattr(inventory, "read_checked", lambda each: reads.append(each) or original(each))
    inventory.usable_models(60)
    inventory.usable_models(60)
    os.utime(path, (1, 1))
    inventory.usable_models(60)
    assert reads == [path, path]
