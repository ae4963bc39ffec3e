"""The hub's cache is read where other programs put it, and what is removed leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chat.errors import FileError
from chat.hub import CachedRepository, cached_gguf_files, gguf_here, hub_cache, read_hub_name, remove_cached

OLD, NEW = "a" * 40, "b" * 40


def add_file(repository: CachedRepository, commit: str, name: str, data: bytes, etag: str) -> Path:
    """A file as the hub library leaves it."""
    blob = repository.blob(etag)
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    return repository.link(name, commit, etag)


@pytest.fixture
def repository() -> CachedRepository:
    return CachedRepository("someone/Model-GGUF")


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HUB_CACHE": "/x/cache"}, "/x/cache"),
        ({"HUGGINGFACE_HUB_CACHE": "/x/old"}, "/x/old"),
        ({"HF_HOME": "/x/home"}, "/x/home/hub"),
        ({"HF_HOME": "$ROOT_OF_ALL/home", "ROOT_OF_ALL": "/x"}, "/x/home/hub"),
        ({"XDG_CACHE_HOME": "/x/xdg"}, "/x/xdg/huggingface/hub"),
        ({"HOME": "/x/me"}, "/x/me/.cache/huggingface/hub"),
        ({"HF_HUB_CACHE": "~/here", "HOME": "/x/me"}, "/x/me/here"),
    ],
)
def test_the_cache_is_where_the_hub_library_has_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], place: str
) -> None:
    monkeypatch.delenv("HF_HOME")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_cache() == Path(place)

    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert theirs.stdout.strip() == place


def test_names_link_to_bytes_inside_the_cache(repository: CachedRepository) -> None:
    path = add_file(repository, OLD, "deep/er/x.Q4_K_M.gguf", b"data", "e")
    assert path.is_symlink()
    assert path.readlink() == Path("../../../../blobs/e")
    assert path.read_bytes() == b"data"


def test_a_gguf_that_is_here_is_found_by_its_revision(repository: CachedRepository) -> None:
    asked = read_hub_name("hf:someone/Model-GGUF")
    assert gguf_here(asked) is None
    path = add_file(repository, NEW, "x.Q4_K_M.gguf", b"data", "e")
    assert gguf_here(read_hub_name("hf:someone/Model-GGUF@main")) is None, "it is not known which commit that is"
    assert gguf_here(asked) == path
    repository.remember(None, NEW)
    add_file(repository, OLD, "x.Q4_K_M.gguf", b"old", "o")
    assert gguf_here(asked) == path, "what `main` meant last goes before what came last"
    assert gguf_here(read_hub_name("hf:someone/Model-GGUF@main")) == path
    assert gguf_here(read_hub_name(f"hf:someone/Model-GGUF@{NEW}:Q4_K_M")) == path
    assert gguf_here(read_hub_name("hf:someone/Model-GGUF:Q8_0")) is None
    repository.blob("e").unlink()
    assert gguf_here(read_hub_name("hf:someone/Model-GGUF@main")) is None, "a link that leads nowhere is no file"


def test_every_gguf_of_the_cache_is_listed_once(repository: CachedRepository) -> None:
    add_file(repository, OLD, "x.gguf", b"data", "e")
    add_file(repository, NEW, "x.gguf", b"data", "e")
    add_file(repository, NEW, "config.json", b"{}", "f")
    add_file(CachedRepository("other/One"), NEW, "Q8_0/y.gguf", b"more", "g")
    found = [(each.repository, name, path.read_bytes()) for each, name, path in cached_gguf_files()]
    assert found == [("other/One", "Q8_0/y.gguf", b"more"), ("someone/Model-GGUF", "x.gguf", b"data")]


def test_removing_a_file_frees_its_bytes_in_every_commit(repository: CachedRepository) -> None:
    add_file(repository, OLD, "x.gguf", b"old", "e1")
    add_file(repository, NEW, "x.gguf", b"newer", "e2")
    kept = add_file(repository, NEW, "config.json", b"{}", "f")
    assert remove_cached(repository, "x.gguf") == 8
    assert sorted(path.name for path in repository.folder.rglob("*") if path.is_file()) == ["config.json", "f"]
    assert kept.read_bytes() == b"{}"
    assert not repository.snapshot(OLD).exists()


def test_bytes_that_another_name_needs_stay(repository: CachedRepository) -> None:
    add_file(repository, OLD, "x.gguf", b"data", "e")
    other = add_file(repository, OLD, "copy.gguf", b"data", "e")
    assert remove_cached(repository, "x.gguf") == 0
    assert other.read_bytes() == b"data"


def test_the_last_file_takes_the_repository_with_it(repository: CachedRepository) -> None:
    add_file(repository, OLD, "x[1].gguf", b"data", "e")
    repository.remember(None, OLD)
    assert remove_cached(repository, "x[1].gguf") == 4
    assert list(hub_cache().iterdir()) == []


def test_a_repository_that_is_still_downloading_stays(repository: CachedRepository) -> None:
    add_file(repository, OLD, "x.gguf", b"data", "e")
    repository.partial("f").write_bytes(b"half")
    remove_cached(repository, "x.gguf")
    assert repository.partial("f").read_bytes() == b"half"


def test_bytes_in_the_shared_store_are_left_to_the_hub_library(repository: CachedRepository) -> None:
    shared = hub_cache() / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    shared.write_bytes(b"data")
    repository.blob("e").parent.mkdir(parents=True)
    repository.blob("e").symlink_to(Path("../../blobs/ab") / shared.name)
    repository.link("x.gguf", OLD, "e")
    assert remove_cached(repository, "x.gguf") == 0
    assert shared.read_bytes() == b"data"
    assert not repository.folder.exists()


@pytest.mark.parametrize("target", ["{outside}/precious.gguf", "../../blobs/../../../outside/precious.gguf"])
def test_what_a_link_out_of_the_cache_leads_to_is_never_removed(
    target: str, repository: CachedRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing a model of the cache deleted whatever file its name linked to, anywhere on the disk."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    precious = tmp_path / "outside" / "precious.gguf"
    precious.parent.mkdir()
    precious.write_bytes(b"precious")
    repository.blob("e").parent.mkdir(parents=True)
    pointer = repository.snapshot(OLD) / "x.gguf"
    pointer.parent.mkdir(parents=True)
    pointer.symlink_to(target.format(outside=precious.parent))
    assert pointer.read_bytes() == b"precious"
    assert remove_cached(repository, "x.gguf") == 0
    assert precious.read_bytes() == b"precious"
    assert not pointer.is_symlink()


def test_a_file_behind_a_folder_that_is_a_link_out_of_the_cache_stays(
    repository: CachedRepository, tmp_path: Path
) -> None:
    (tmp_path / "x.gguf").write_bytes(b"precious")
    repository.snapshot(OLD).parent.mkdir(parents=True)
    repository.snapshot(OLD).symlink_to(tmp_path)
    with pytest.raises(FileError, match=r"x\.gguf: lies outside of the hub's cache, so it is not removed$"):
        remove_cached(repository, "x.gguf")
    assert (tmp_path / "x.gguf").read_bytes() == b"precious"
