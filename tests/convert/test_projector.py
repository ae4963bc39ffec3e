"""A model that sees gets an mmproj file: llama.cpp's tensors and keys, and transformers' embeddings."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.cli.main import run
from chat.errors import ChatError, DataError, FileError, ModelError, UsageError
from chat.gguf.reader import read_gguf
from convert.draft import ConversionOptions, ConversionReport
from convert.drafting import make_draft
from convert.pipeline import convert, convert_all
from tests.convert import vision_child
from tests.convert.adapters import write_peft
from tests.convert.make_vision_references import CASES, COLUMNS
from tests.convert.quantizers import float8, write_tensors
from tests.convert.samples import V03, float32, read_safetensors, tensor_bytes, write_safetensors
from tests.convert.vision_samples import (
    IMAGE_BREAK,
    KINDS,
    config_of,
    make_original_seeing,
    make_seeing,
    params_of,
    pictures_for,
)
from tests.folders import CHECKPOINTS

NEAR = 1e-3
BREAK = "v.token_embd.img_break"


@cache
def references() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHECKPOINTS / "vision.json").read_text())
    return found


def made_of(folder: Path, out: Path | None = None, **options: Any) -> ConversionReport:
    target = out or folder.parent / f"{folder.name}.gguf"
    return convert(ConversionOptions(folder, target, show_progress=False, **{"type": "F32"} | options))


def projector_of(folder: Path, kind: str = "F32") -> Path:
    """The mmproj file alone."""
    out = folder.parent / f"mmproj-{folder.name}-{kind}.gguf"
    made_of(folder, out, type=None, projector="only", projector_type=kind)
    return out


# --------------------------------------------------------------------------------------------------------------------
# The file
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "layout", "kind"), CASES, ids=[" ".join(case) for case in CASES])
def test_tensors_and_keys_are_llama_cpps(name: str, layout: str, kind: str, tmp_path: Path) -> None:
    make = make_seeing if layout == "hugging-face" else make_original_seeing
    folder = make(tmp_path / name, name)
    file, tensors = tensor_bytes(projector_of(folder, kind.upper()))
    made = {
        each: [file.tensors[each].type, list(file.tensors[each].shape), hashlib.sha256(raw).hexdigest()]
        for each, raw in tensors.items()
    }
    expected = dict(references()[f"{name} {layout} {kind}"]["tensors"])
    if layout == "hugging-face":  # llama.cpp's converter loses it there, and its clip.cpp demands it
        weights = read_safetensors(folder / "model.safetensors")
        row = float32(weights["language_model.model.embed_tokens.weight"])[IMAGE_BREAK]
        expected[BREAK] = ["F32", [len(row)], hashlib.sha256(row.tobytes()).hexdigest()]
    assert made == expected
    for key, value in references()[f"{name} {layout} {kind}"]["keys"].items():
        found = file.metadata[key]
        assert (list(found) if isinstance(found, tuple) else found) == value, key
    own = set(file.metadata) - set(references()[f"{name} {layout} {kind}"]["keys"])
    assert own == {"general.name", "general.size_label", "mistral_chat.source", "mistral_chat.mmproj_sha256"}


@pytest.mark.parametrize("kind", ["small3", "pixtral"])
def test_both_layouts_and_the_names_of_transformers_5_mean_the_same(kind: str, tmp_path: Path) -> None:
    folders = (
        make_seeing(tmp_path / "old", kind),
        make_seeing(tmp_path / "new", kind, is_newer=True),
        make_original_seeing(tmp_path / "original", kind),
    )
    old, new, original = (tensor_bytes(projector_of(folder)) for folder in folders)
    assert old[1] == new[1] == original[1]


def test_names_that_a_wrapper_left_are_understood(tmp_path: Path) -> None:
    folder = make_seeing(tmp_path / "model", is_newer=True)
    plain = tensor_bytes(projector_of(folder))[1]
    wrapped = {f"module.{name}": array for name, array in read_safetensors(folder / "model.safetensors").items()}
    wrapped["module.model.vision_tower.patch_positional_embedding.inv_freq"] = np.zeros(8, np.float32)
    write_safetensors(folder / "model.safetensors", wrapped)
    made_of(folder, tmp_path / "wrapped.gguf", projector_type="F32")
    assert tensor_bytes(tmp_path / "mmproj-wrapped-F32.gguf")[1] == plain


def test_fp8_of_mistral_is_bytes_times_scales(tmp_path: Path) -> None:
    folder = make_original_seeing(tmp_path / "model")
    tensors = dict(read_safetensors(folder / "consolidated.safetensors"))
    name = "vision_encoder.transformer.layers.1.feed_forward.w1"
    codes, meaning = float8(*tensors[f"{name}.weight"].shape, 3)
    scale = np.array(0.00021, np.float32)
    tensors |= {f"{name}.weight": codes, f"{name}.qscale_weight": scale, f"{name}.qscale_act": scale}
    write_tensors(folder / "consolidated.safetensors", tensors, {f"{name}.weight": "F8_E4M3"})
    made = tensor_bytes(projector_of(folder))[1]["v.blk.1.ffn_gate.weight"]
    assert made == (meaning * np.float64(scale)).astype(np.float32).tobytes()


def test_the_row_between_lines_is_that_of_the_merged_embedding(tmp_path: Path) -> None:
    """An adapter may have taught the embedding; the text model reads the row of its own [IMG_BREAK]."""
    folder = make_seeing(tmp_path / "model")
    whole = np.random.default_rng(2).standard_normal((512, 256), dtype=np.float32)
    adapter = write_peft(tmp_path / "adapter", {}, {"model.embed_tokens.weight": whole})
    made_of(folder, tmp_path / "x.gguf", projector_type="F32", adapters=((adapter, 1.0),))
    assert tensor_bytes(tmp_path / "mmproj-x-F32.gguf")[1][BREAK] == whole[IMAGE_BREAK].tobytes()


@pytest.mark.engine
@pytest.mark.slow
def test_embeddings_are_those_of_transformers(tmp_path: Path) -> None:
    """They are up to the rounding of GELU: ggml takes it from a table of float16.

    The pixels are rounded to float16 for both, as libmtmd rounds them (`make_vision_references.py`). Flash attention,
    which the child leaves out, would round keys and values, too.
    """
    asked, pictures = [], {}
    for number, kind in enumerate(KINDS):
        folder = make_seeing(tmp_path / kind, kind)
        made_of(folder, projector_type="F32")
        asked.append([str(tmp_path / f"{kind}.gguf"), str(tmp_path / f"mmproj-{kind}-F32.gguf")])
        pictures |= {f"{number}-{place}": each for place, each in enumerate(pictures_for(KINDS[kind].eyes))}
    np.savez(tmp_path / "pictures.npz", **pictures)
    out = tmp_path / "out.npz"
    command = [sys.executable, vision_child.__file__, json.dumps(asked), str(tmp_path / "pictures.npz"), str(out)]
    subprocess.run(command, check=True, capture_output=True)
    made, expected = np.load(out), np.load(CHECKPOINTS / "vision.npz")
    for number, kind in enumerate(KINDS):
        for place in range(len(pictures_for(KINDS[kind].eyes))):
            rows, wanted = made[f"{number}-{place}"][:, COLUMNS], expected[f"{kind}-{place}"]
            assert rows.shape == wanted.shape
            worst, largest = float(np.abs(rows - wanted).max()), float(np.abs(wanted).max())
            assert worst < NEAR * max(1.0, largest), f"{kind}: {worst} of {largest}"
            assert largest > 0.3


# --------------------------------------------------------------------------------------------------------------------
# Two files in one pass
# --------------------------------------------------------------------------------------------------------------------


def test_the_model_names_the_file_beside_it(tmp_path: Path) -> None:
    folder = make_seeing(tmp_path / "Tiny")
    report = made_of(folder, tmp_path / "Tiny-Q8_0.gguf", type="Q8_0")
    beside = tmp_path / "mmproj-Tiny-F16.gguf"
    model, projector = read_gguf(tmp_path / "Tiny-Q8_0.gguf"), read_gguf(beside)
    assert model.metadata["mistral_chat.mmproj"] == beside.name
    assert model.metadata["mistral_chat.mmproj_sha256"] == projector.metadata["mistral_chat.mmproj_sha256"]
    assert (report.warnings, report.verified) == ((), True)
    values = report.to_json()["mmproj"]
    assert set(values.pop("seconds")) == {"write", "verify", "total"}
    assert len(values.pop("sha256")) == 64
    assert values == {
        "output": str(beside),
        "size": beside.stat().st_size,
        "type": "F16",
        "architecture": "clip",
        "image_size": 280,
        "patch_size": 14,
        "merge_size": 2,
        "parameters": 241152,
        "tensors": 34,
        "tensor_bytes": sum(tensor.bytes for tensor in projector.tensors.values()),
        "source": "Tiny",
        "kept": False,
        "warnings": (),
        "verified": True,
    }


def test_the_text_model_is_the_same_with_and_without_it(tmp_path: Path) -> None:
    folder = make_seeing(tmp_path / "model")
    report = made_of(folder, tmp_path / "without.gguf", projector="off")
    made_of(folder, tmp_path / "with.gguf")
    without, whole = tensor_bytes(tmp_path / "without.gguf"), tensor_bytes(tmp_path / "with.gguf")
    assert without[1] == whole[1]
    assert {name for name in whole[0].metadata if "mmproj" in name} == set(whole[0].metadata) - set(without[0].metadata)
    assert (report.warnings, report.projector, list(tmp_path.glob("mmproj-without*"))) == ((), None, [])


def test_several_types_of_a_model_share_one(tmp_path: Path) -> None:
    folder = make_seeing(tmp_path / "Tiny")
    (tmp_path / "out").mkdir()
    options = ConversionOptions(folder, tmp_path / "out", "Q8_0", further_types=("F16",), show_progress=False)
    reports = convert_all(options)
    names = ["Tiny-F16.gguf", "Tiny-Q8_0.gguf", "mmproj-Tiny-F16.gguf"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert {report.projector.output for report in reports if report.projector} == {
        str(tmp_path / "out/mmproj-Tiny-F16.gguf")
    }


def test_one_that_is_there_is_kept_if_it_is_this_models_and_else_in_the_way(tmp_path: Path) -> None:
    folder = make_seeing(tmp_path / "Tiny")
    made_of(folder, tmp_path / "Tiny-F32.gguf")
    beside = tmp_path / "mmproj-Tiny-F16.gguf"
    before = beside.stat()
    report = made_of(folder, tmp_path / "Tiny-Q8_0.gguf", type="Q8_0")
    assert report.to_json()["mmproj"]["kept"] is True
    assert beside.stat().st_mtime_ns == before.st_mtime_ns
    raw = bytearray(beside.read_bytes())
    raw[raw.index(b"clip.vision.image_size") + 30] ^= 1
    beside.write_bytes(raw)
    with pytest.raises(FileError, match=r"mmproj-Tiny-F16.gguf exists already"):
        made_of(folder, tmp_path / "Tiny-F16.gguf", type="F16")
    assert not (tmp_path / "Tiny-F16.gguf").exists()
    report = made_of(folder, tmp_path / "Tiny-F16.gguf", type="F16", overwrite=True)
    assert report.to_json()["mmproj"]["kept"] is False
    assert beside.read_bytes() != raw


def test_neither_file_is_named_if_the_second_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convert.output import verify

    def spoil(path: Path, jobs: Any, checksums: Any, progress: Any) -> None:
        if "mmproj" in path.name:
            raise DataError("bad")
        verify.verify(path, jobs, checksums, progress)

    monkeypatch.setattr("convert.pipeline.verify", spoil)
    folder = make_seeing(tmp_path / "model")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"^bad$"):
        made_of(folder, tmp_path / "out/x.gguf")
    assert list((tmp_path / "out").iterdir()) == []


def test_as_a_user_sees_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_seeing(tmp_path / "Tiny")
    monkeypatch.chdir(tmp_path)
    assert run(["convert", str(folder), "-t", "q8_0", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("Tiny-Q8_0.gguf: ")
    assert lines[-1].startswith("mmproj-Tiny-F16.gguf: ")
    assert list(tmp_path.glob("*.gguf")) == []
    assert run(["convert", str(folder), "-t", "q8_0", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["mmproj"]["plan"]) == plan["mmproj"]["tensors"] == 34
    assert run(["convert", str(folder), "-t", "q8_0"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "Tiny-Q8_0.gguf\n"
    assert shown.err.splitlines()[-1] == (
        "mmproj-Tiny-F16.gguf for pictures of up to 280 pixels a side, F16, 241,152 weights, 487 kB"
    )
    assert (tmp_path / "mmproj-Tiny-F16.gguf").stat().st_size == plan["mmproj"]["size"]
    assert run(["convert", str(folder), "-t", "f16"]) == 0
    assert capsys.readouterr().err.splitlines()[-1].endswith(", 487 kB, was there already")
    assert run(["convert", str(folder), "--mmproj", "--mmproj-type", "q8_0", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["output"], report["type"], report["verified"]) == ("mmproj-Tiny-Q8_0.gguf", "Q8_0", True)


# --------------------------------------------------------------------------------------------------------------------
# Options that do not go together, and bad input: one sentence
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"type": "Q8_0", "projector": "only"}, "`--mmproj` writes no model, so `-t` has no effect"),
        ({"projector": "only", "tensor_types": ("x=F16",)}, "`--mmproj` writes no model, so `--tensor-type` has no"),
        ({"projector": "only", "calibrate": Path("x")}, "`--mmproj` writes no model, so `--calibrate` has no effect"),
        ({"projector_type": "Q4_K_M"}, "a picture encoder cannot be of type `Q4_K_M`"),
    ],
)
def test_options_that_do_not_go_together(options: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        convert(ConversionOptions(make_seeing(tmp_path / "model"), **options))


def test_what_has_no_encoder_needs_no_option_for_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no picture encoder that can be converted"):
        make_draft(ConversionOptions(V03, projector="only"))
    with pytest.raises(UsageError, match="`--mmproj` has no effect: an adapter has no picture encoder"):
        make_draft(ConversionOptions(V03, base=V03, projector="only"))
    made_of(V03, tmp_path / "x.gguf")
    asked = (
        ConversionOptions(tmp_path / "x.gguf", projector="only"),
        ConversionOptions(tmp_path / "x.gguf", projector_type="F32", type="F16"),
    )
    for options in asked:
        with pytest.raises(UsageError, match="has no effect: a GGUF of a model holds no picture encoder"):
            make_draft(options)


def spoil(**vision: Any) -> Callable[[Path], None]:
    """Change values of `vision_config`; those of the outer object begin with an underscore."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        for name, value in vision.items():
            (config if name.startswith("_") else config["vision_config"])[name.removeprefix("_")] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


def weights(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        tensors = {name: array.copy() for name, array in read_safetensors(folder / "model.safetensors").items()}
        change(tensors)
        write_safetensors(folder / "model.safetensors", tensors)

    return rewrite


def without_encoder(tensors: dict[str, Any]) -> None:
    for name in [name for name in tensors if name.startswith(("vision_tower.", "multi_modal_projector."))]:
        del tensors[name]


def put(name: str, place: Any, value: int) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name][place] = value

    return change


def rename_piece(folder: Path) -> None:
    data = json.loads((folder / "tekken.json").read_text())
    data["special_tokens"][IMAGE_BREAK]["token_str"] = "[OTHER]"
    (folder / "tekken.json").write_text(json.dumps(data))
    (folder / "tokenizer_config.json").unlink()


PROJECTION = "multi_modal_projector.linear_2.weight"
FAULTS = [
    (weights(without_encoder), DataError, "model: has no tensors of the picture encoder in config.json"),
    (spoil(_vision_config=None), DataError, "does not describe the picture encoder, of which .* has 33 tensors"),
    (
        weights(lambda tensors: tensors.pop(PROJECTION)),
        DataError,
        "lacks what becomes `mm.2.weight` of the picture enc",
    ),
    (
        weights(lambda t: t.update({"vision_tower.x.weight": t[PROJECTION]})),
        DataError,
        "unknown tensor `vision_tower.x",
    ),
    (
        weights(lambda t: t.update({PROJECTION: t[PROJECTION][:4].copy()})),
        DataError,
        r"has shape \[4, 256\], but the model's sizes say \[256, 256\]",
    ),
    (
        weights(put("vision_tower.transformer.layers.0.attention.k_proj.weight", (3, 5), 0x7FC0)),
        DataError,
        "v.blk.0.attn_k.weight: nan in row 6, column 5",
    ),
    (spoil(hidden_act="relu"), ModelError, "the picture encoder's activation relu cannot be converted"),
    (spoil(_projector_hidden_act="silu"), ModelError, "the projector's activation 'silu' cannot be converted"),
    (spoil(patch_size=15), DataError, "pictures of 280 pixels do not divide into patches of 15 pixels"),
    (spoil(patch_size=20), DataError, r"has shape \[64, 3, 14, 14\], but the model's sizes say \[64, 3, 20, 20\]"),
    (spoil(num_attention_heads=3), DataError, "a picture encoder of 64 columns cannot have 3 heads"),
    (spoil(num_attention_heads=32), DataError, "a picture encoder of 64 columns cannot have 32 heads"),
    (spoil(num_hidden_layers=2), DataError, "has no place in a picture encoder of 2 layers and its projector"),
    (spoil(hidden_size=-1), DataError, "`hidden_size` is -1, but must be a whole number"),
    (spoil(image_size="x"), DataError, "`image_size` is 'x', but must be a whole number"),
    (spoil(rope_theta=500.0), ModelError, "a picture encoder with `rope_theta` 500 cannot be converted"),
    (spoil(num_channels=4), ModelError, "pictures of 4 channels cannot be converted"),
    (spoil(_vision_feature_layer=-2), ModelError, "a projector of the output of layer -2 cannot be converted"),
    (spoil(_spatial_merge_size=3), DataError, r"has shape \[64, 256\], but the model's sizes say \[64, 576\]"),
    (spoil(_image_token_index=11), DataError, r"gives `\[IMG\]` the id 11, but the tokenizer 10"),
    (rename_piece, DataError, r"the tokenizer has no piece `\[IMG_BREAK\]`, which pictures need"),
    (
        lambda folder: (folder / "preprocessor_config.json").write_text('{"image_std": [1, 0, 1]}'),
        DataError,
        r"`image_std` is \[1, 0, 1\], but must be 3 positive numbers",
    ),
    (
        lambda folder: (folder / "preprocessor_config.json").write_text('{"image_mean": [1, NaN, 1]}'),
        DataError,
        "`image_mean` is .* but must be 3 numbers|not JSON",
    ),
]


@pytest.mark.parametrize(("spoil", "kind", "words"), FAULTS, ids=[str(number) for number in range(len(FAULTS))])
def test_a_bad_encoder_is_one_sentence_and_leaves_nothing(
    spoil: Any, kind: type[ChatError], words: str, tmp_path: Path
) -> None:
    folder = make_seeing(tmp_path / "model")
    spoil(folder)
    (tmp_path / "out").mkdir()
    with pytest.raises(kind, match=words) as caught:
        made_of(folder, tmp_path / "out/x.gguf")
    assert type(caught.value) is kind
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert list((tmp_path / "out").iterdir()) == []
    assert make_draft(ConversionOptions(folder, projector="off")).warnings == ()  # the text part alone is sound


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"mm_projector_id": "other"}, ModelError, "a projector of the kind 'other' with a norm before it cannot be"),
        ({"add_pre_mm_projector_layer_norm": False}, ModelError, "of the kind 'patch_merge' with no norm before it"),
        ({"image_break_token_id": 14}, DataError, r"gives `\[IMG_BREAK\]` the id 14, but the tokenizer 12"),
        ({"hidden_size": None}, DataError, "`hidden_size` of the picture encoder is missing"),
    ],
)
def test_a_bad_original_is_one_sentence(change: Any, kind: type[ChatError], words: str, tmp_path: Path) -> None:
    vision = params_of("small3")["vision_encoder"] | change
    folder = make_original_seeing(tmp_path / "model", vision_encoder=vision)
    with pytest.raises(kind, match=words):
        make_draft(ConversionOptions(folder))


def test_a_number_too_large_for_float16_fits_another_type(tmp_path: Path) -> None:
    folder = make_seeing(tmp_path / "model")
    weights(put(PROJECTION, (1, 2), 0x4974))(folder)  # 999424
    with pytest.raises(DataError, match=r"mm.2.weight: 999424 in row 1 is too large for F16") as caught:
        made_of(folder, tmp_path / "x.gguf")
    assert caught.value.hint == "use `--mmproj-type BF16`"
    made_of(folder, tmp_path / "x.gguf", projector_type="BF16")


def test_ids_that_a_release_leaves_open_are_the_tokenizers(tmp_path: Path) -> None:
    vision = params_of("small3")["vision_encoder"] | {"image_break_token_id": -1, "image_token_id": -1}
    folder = make_original_seeing(tmp_path / "model", vision_encoder=vision)
    assert tensor_bytes(projector_of(folder))[1] == tensor_bytes(projector_of(make_seeing(tmp_path / "other")))[1]


def test_an_encoder_of_another_family_is_left_out_with_a_word(tmp_path: Path) -> None:
    folder = make_seeing(
        tmp_path / "model", vision_config=config_of("small3")["vision_config"] | {"model_type": "clip"}
    )
    report = made_of(folder)
    assert report.projector is None
    assert report.warnings == ("the model can see, but this file cannot: its 33 tensors for images are left out",)


@pytest.mark.usefixtures("tried_out")
@pytest.mark.parametrize("only", [True, False])
def test_an_encoder_that_computes_no_numbers_gets_no_name(only: bool, tmp_path: Path) -> None:
    """Its weights are finite, and all that was compared; the first picture of a user failed."""
    folder = make_seeing(tmp_path / "small3")
    weights = read_safetensors(folder / "model.safetensors")
    large = {name: np.full_like(each, 0x7F00) for name, each in weights.items() if ".linear_" in name}  # 1.7e38
    write_safetensors(folder / "model.safetensors", {**weights, **large})
    choice: dict[str, Any] = {"type": None, "projector": "only"} if only else {}
    with pytest.raises(DataError, match=r"cannot be run: the picture encoder computed NaN or infinity instead of num"):
        made_of(folder, projector_type="F32", **choice)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small3"]
