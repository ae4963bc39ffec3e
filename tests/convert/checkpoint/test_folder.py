"""The index decides which files are read, and no file outside the folder ever is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.errors import ChatError, DataError, ModelError
from convert.checkpoint import json_file
from convert.checkpoint.folder import open_checkpoint
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from convert.tensors.text_model import read_text_model
from tests.convert.samples import (
    V01,
    V03,
    Sizes,
    copy_checkpoint,
    make_checkpoint,
    read_safetensors,
    write_safetensors,
)

INDEX = "model.safetensors.index.json"


def set_index(folder: Path, weight_map: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_shards_and_one_file_give_the_same_tensors() -> None:
    sharded, whole = open_checkpoint(V03), open_checkpoint(V01)
    assert sharded.tensors.keys() == whole.tensors.keys()
    assert [file.path.name for file in sharded.files] == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert sharded.nbytes == sum(path.stat().st_size for path in V03.glob("*.safetensors"))


def test_of_two_layouts_in_one_folder_only_one_is_opened(tmp_path: Path) -> None:
    folder = copy_checkpoint(V03, tmp_path / "model")
    (folder / "consolidated.safetensors").write_bytes(b"not even a header")
    (folder / "params.json").write_text("not even JSON")
    opened = open_checkpoint(folder)
    assert [file.path.name for file in opened.files] == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert opened.config_path.name == "config.json"


def save_whole(folder: Path) -> None:
    """The folder's weights in one file as well, all other than those in the shards."""
    tensors = {name: array for path in folder.glob("model-*") for name, array in read_safetensors(path).items()}
    write_safetensors(folder / "model.safetensors", {name: array[::-1] for name, array in tensors.items()})


@pytest.mark.parametrize("left", ["shards and index", "shards", "index"])
def test_a_whole_file_is_read_rather_than_the_shards_of_the_release_beside_it(left: str, tmp_path: Path) -> None:
    """Saving a fine-tune into the release's folder leaves the old shards there, which were converted instead."""
    folder = copy_checkpoint(V03, tmp_path / "model")
    save_whole(folder)
    for path in folder.glob("model-*" if left == "index" else INDEX if left == "shards" else "x"):
        path.unlink()
    opened = open_checkpoint(folder)
    assert [file.path.name for file in opened.files] == ["model.safetensors"]
    other = f"`{INDEX}`" if left == "index" else "`model-00001-of-00002.safetensors` and 1 more shards"
    assert opened.warnings == (f"{folder}: converts `model.safetensors`, not {other} beside it, as transformers would",)
    assert read_text_model(opened).warnings == opened.warnings


def test_an_index_of_the_one_file_is_no_reason_to_warn(tmp_path: Path) -> None:
    folder = copy_checkpoint(V01, tmp_path / "model")
    set_index(folder, dict.fromkeys(open_checkpoint(V01).tensors, "model.safetensors"))
    assert open_checkpoint(folder).warnings == ()


def test_a_tensor_that_the_index_leaves_out_is_read(tmp_path: Path) -> None:
    folder = copy_checkpoint(V03, tmp_path / V03.name)
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    del weight_map["lm_head.weight"], weight_map["model.layers.0.mlp.up_proj.weight"]
    set_index(folder, weight_map)
    assert open_checkpoint(folder).tensors.keys() == open_checkpoint(V03).tensors.keys()
    assert make_draft(ConversionOptions(folder)).header == make_draft(ConversionOptions(V03)).header


def test_what_an_index_leaves_out_need_not_be_of_the_model(tmp_path: Path) -> None:
    folder = copy_checkpoint(V03, tmp_path / "model")
    shard = folder / "model-00002-of-00002.safetensors"
    write_safetensors(shard, {**read_safetensors(shard), "optimizer.step": np.zeros(1, np.float32)})
    names = [tensor.entry.name for tensor in read_text_model(open_checkpoint(folder)).tensors]
    assert sorted(names) == sorted(open_checkpoint(V03).tensors)


def test_a_tensor_that_two_shards_hold_and_the_index_leaves_out_is_refused(tmp_path: Path) -> None:
    folder = copy_checkpoint(V03, tmp_path / "model")
    for shard in folder.glob("model-*"):
        write_safetensors(shard, {**read_safetensors(shard), "extra": np.zeros(1, np.float32)})
    with pytest.raises(DataError, match=r"tensor `extra` is also in `model-00001-of-00002.safetensors`"):
        open_checkpoint(folder)


def test_shards_whose_index_is_lost_are_read_all_the_same(tmp_path: Path) -> None:
    folder = copy_checkpoint(V03, tmp_path / "model")
    (folder / INDEX).unlink()
    assert open_checkpoint(folder).tensors.keys() == open_checkpoint(V03).tensors.keys()
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DataError, match=r"lacks what becomes `output_norm.weight` and 6 more tensors"):
        make_draft(ConversionOptions(folder))


def test_a_folder_of_ggufs_is_told_from_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "b.gguf").write_bytes(b"GGUF")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="no checkpoint there") as caught:
        open_checkpoint(tmp_path)
    assert caught.value.hint == f"the folder holds a GGUF: name the file itself, `{tmp_path}/a.gguf`"


def test_a_consolidated_file_goes_with_params_json(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert open_checkpoint(folder).config_path.name == "config.json"
    (folder / "params.json").write_text('{"dim": 256}')
    assert open_checkpoint(folder).config_path.name == "params.json"


def test_a_checkpoint_of_the_hubs_cache_is_read_through_its_links_and_named_by_its_repository(tmp_path: Path) -> None:
    home = tmp_path / "models--mistralai--Mistral-7B-v0.1"
    snapshot = home / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    for number, path in enumerate(sorted(copy_checkpoint(V01, tmp_path / "plain").iterdir())):
        shutil.copy(path, home / "blobs" / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    opened = open_checkpoint(snapshot)
    assert opened.name == "mistralai/Mistral-7B-v0.1"
    assert opened.tensors.keys() == open_checkpoint(V01).tensors.keys()


def test_a_folder_is_named_by_its_own_name_however_it_is_spelled(tmp_path: Path, monkeypatch: Any) -> None:
    folder = copy_checkpoint(V01, tmp_path / "My-Model")
    monkeypatch.chdir(folder)
    assert open_checkpoint(Path()).name == "My-Model"
    assert open_checkpoint(Path("../My-Model/")).name == "My-Model"


@pytest.mark.parametrize(
    "shard",
    [
        *("../outside.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ".", "", "a\\b", "a\0b"),
        *(None, 5, ["a"], {"a": 1}, True),
    ],
)
def test_an_index_names_files_of_its_folder_only(shard: Any, tmp_path: Path) -> None:
    folder = copy_checkpoint(V03, tmp_path / "model")
    write_safetensors(tmp_path / "outside.safetensors", {"a": np.zeros(1, np.float32)})
    set_index(folder, {"a": shard})
    with pytest.raises(DataError, match="not a name in its folder"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_link_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    folder = copy_checkpoint(V01, tmp_path / "model")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(DataError, match="is a link that leads out of the folder"):
        open_checkpoint(folder)


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    folder = copy_checkpoint(V01, tmp_path / "model")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")
    with pytest.raises(DataError, match=r"config\.json: is a link that leads nowhere$"):
        open_checkpoint(folder)


def test_json_of_very_many_values_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 MB of `[],[],[]` became 3 GB."""
    monkeypatch.setattr(json_file, "VALUE_LIMIT", 1000)
    for odd in ([], {}, 0):
        (tmp_path / "x.json").write_text(json.dumps({"a": [odd] * 1000}))
        with pytest.raises(DataError, match=r"x\.json holds more than 1,000 values$"):
            json_file.read_json_object(tmp_path / "x.json")


def test_a_fifo_as_shard_is_not_opened(tmp_path: Path) -> None:
    folder = copy_checkpoint(V03, tmp_path / "model")
    (folder / "model-00002-of-00002.safetensors").unlink()
    os.mkfifo(folder / "model-00002-of-00002.safetensors")
    with pytest.raises(DataError, match="is not a regular file"):
        open_checkpoint(folder)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", Sizes(layers=1))
    (folder / "model.safetensors").unlink()
    for name in ("a", "b"):
        write_safetensors(folder / f"{name}.safetensors", {name: np.zeros(1, np.float32), "c": np.zeros(1, np.float32)})
    set_index(folder, {"a": "a.safetensors", "b": "b.safetensors", "c": "b.safetensors"})
    with pytest.raises(DataError, match=r"a.safetensors: tensor `c` is also in `b.safetensors`"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({}, "`weight_map` must name the file of each tensor"),
        ([], "`weight_map` must name the file of each tensor"),
        (None, "`weight_map` must name the file of each tensor"),
        ({"a": "gone.safetensors"}, "the shard `gone.safetensors` is missing"),
        ({"a": "gone.safetensors", "b": "more.safetensors"}, "`gone.safetensors` and 1 more is missing"),
        ({"a": "model-00001-of-00002.safetensors"}, "tensor `a` is not in it, though the index says so"),
        ({str(n): f"{n}.safetensors" for n in range(1001)}, "names 1001 files"),
    ],
)
def test_an_index_that_does_not_fit_the_folder_is_refused(weight_map: Any, words: str, tmp_path: Path) -> None:
    folder = copy_checkpoint(V03, tmp_path / "model")
    set_index(folder, weight_map)
    with pytest.raises(ChatError, match=words) as caught:
        open_checkpoint(folder)
    assert caught.value.exit_code == 6
