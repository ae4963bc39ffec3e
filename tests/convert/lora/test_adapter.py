"""Adapters merged while converting, compared with a checkpoint that plain numpy merged before."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.cli.main import run
from chat.errors import ChatError, DataError, ModelError
from chat.gguf.validate_lora import MERGE_HINT
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from convert.pipeline import convert
from tests.convert.adapters import linear_modules, make_original, merged, pairs_for, write_mistral, write_peft
from tests.convert.samples import (
    V01,
    Array,
    Sizes,
    bfloat16,
    float32,
    hugging_face_tensors,
    make_checkpoint,
    params_of,
    tensor_bytes,
    write_safetensors,
)
from tests.convert.torch_writer import Saved, checkpoint

SIZES = Sizes(layers=2)
TENSORS = hugging_face_tensors(SIZES)
MODULES = linear_modules(TENSORS)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base", SIZES, TENSORS)


def made_with(base: Path, *adapters: Path | tuple[Path, float], type_name: str = "F32") -> dict[str, bytes]:
    out = base.parent / "with.gguf"
    with_scales = tuple(each if isinstance(each, tuple) else (each, 1.0) for each in adapters)
    convert(ConversionOptions(base, out, type_name, overwrite=True, show_progress=False, adapters=with_scales))
    return tensor_bytes(out)[1]


def expected(tensors: dict[str, Array], folder: Path, sizes: Sizes = SIZES, type_name: str = "F32") -> dict[str, bytes]:
    """What the converter makes of weights that are merged already."""
    return made_with(make_checkpoint(folder / "merged", sizes, tensors), type_name=type_name)


@pytest.mark.slow
@pytest.mark.parametrize("type_name", ["F32", "Q8_0", "Q4_K_M"])
def test_a_peft_adapter_is_merged_as_numpy_would(base: Path, tmp_path: Path, type_name: str) -> None:
    pairs = pairs_for(TENSORS, MODULES)
    adapter = write_peft(tmp_path / "adapter", pairs)
    made = made_with(base, adapter, type_name=type_name)
    assert made == expected(merged(TENSORS, pairs, 8 / 4), tmp_path, type_name=type_name)
    assert made != made_with(base, type_name=type_name)


def test_rank_stabilised_scales_divide_by_the_root(base: Path, tmp_path: Path) -> None:
    pairs = pairs_for(TENSORS, MODULES[:3])
    adapter = write_peft(tmp_path / "adapter", pairs, use_rslora=True)
    assert made_with(base, adapter) == expected(merged(TENSORS, pairs, 8 / np.sqrt(4)), tmp_path)


def test_patterns_give_modules_their_own_rank_and_alpha(base: Path, tmp_path: Path) -> None:
    """PEFT matches a pattern with the end of a module's name, after a dot or the beginning; the first one wins."""
    modules = [f"model.layers.{layer}.self_attn.{part}_proj" for layer in (0, 1) for part in "qv"]
    ranks = {"model.layers.0.self_attn.q_proj": 2, "model.layers.0.self_attn.v_proj": 8}
    ranks["model.layers.1.self_attn.v_proj"] = 8
    pairs = pairs_for(TENSORS, modules, ranks=ranks)
    adapter = write_peft(
        tmp_path / "adapter",
        pairs,
        rank_pattern={"model.layers.0.self_attn.q_proj": 2, "v_proj": 8},
        alpha_pattern={r"layers\.[01]\.self_attn\.v_proj": 24, "v_proj": 1, "ayers.1.self_attn.q_proj": 99},
    )
    scales = {
        "model.layers.0.self_attn.q_proj": 8 / 2,
        "model.layers.1.self_attn.q_proj": 8 / 4,
        "model.layers.0.self_attn.v_proj": 24 / 8,
        "model.layers.1.self_attn.v_proj": 24 / 8,
    }
    assert made_with(base, adapter) == expected(merged(TENSORS, pairs, scales), tmp_path)


def test_the_scale_after_the_colon_multiplies_and_adapters_add_up(base: Path, tmp_path: Path) -> None:
    first, second = pairs_for(TENSORS, MODULES[:4]), pairs_for(TENSORS, MODULES[2:6], rank=3)
    one = write_peft(tmp_path / "one", first)
    two = write_peft(tmp_path / "two", second, r=3)
    made = made_with(base, (one, 0.5), (two, -1.0))
    wanted = merged(merged(TENSORS, first, 0.5 * 2), second, -8 / 3)
    worst = 0.0
    for name, raw in expected(wanted, tmp_path).items():  # two roundings to float32 in the reference, here one
        difference = np.abs(np.frombuffer(made[name], "<f4") - np.frombuffer(raw, "<f4")).max()
        worst = max(worst, float(difference))
    assert worst < 1e-6, worst
    assert made_with(base, (one, 0.0)) == made_with(base)


def test_whole_modules_replace_the_bases(base: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    names = ("lm_head", "model.embed_tokens", "model.layers.0.input_layernorm", "model.layers.1.self_attn.q_proj")
    wholes = {
        f"{name}.weight": bfloat16(generator.standard_normal(TENSORS[f"{name}.weight"].shape, dtype=np.float32))
        for name in names
    }
    stored = {
        name if "lm_head" not in name else "lm_head.modules_to_save.default.weight": array
        for name, array in wholes.items()
    }
    pairs = pairs_for(TENSORS, MODULES[:2])
    adapter = write_peft(tmp_path / "adapter", pairs, stored, modules_to_save=["lm_head", "embed_tokens"])
    assert made_with(base, adapter) == expected(merged({**TENSORS, **wholes}, pairs, 2.0), tmp_path)


def test_an_embeddings_adapter_is_the_transposed_product(base: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    a = generator.standard_normal((4, SIZES.vocabulary), dtype=np.float32)
    b = generator.standard_normal((SIZES.width, 4), dtype=np.float32)
    adapter = write_peft(
        tmp_path / "adapter",
        {},
        {
            "model.embed_tokens.lora_embedding_A": a,
            "model.embed_tokens.lora_embedding_B": b,
            "model.embed_tokens.base_layer.weight": TENSORS["model.embed_tokens.weight"],
        },
    )
    wanted = merged(TENSORS, {"model.embed_tokens": (b.T, a.T)}, 2.0)
    assert made_with(base, adapter) == expected(wanted, tmp_path)


def test_experts_and_their_router_are_merged_each_at_its_place(tmp_path: Path) -> None:
    sizes = Sizes(experts=4, layers=1)
    tensors = hugging_face_tensors(sizes)
    modules = linear_modules(tensors, ("w1", "w2", "w3", "gate", "k_proj"))
    del modules[2]  # not every expert has one
    pairs = pairs_for(tensors, modules)
    base = make_checkpoint(tmp_path / "base", sizes, tensors)
    adapter = write_peft(tmp_path / "adapter", pairs)
    assert made_with(base, adapter) == expected(merged(tensors, pairs, 2.0), tmp_path, sizes)


@pytest.mark.parametrize("is_original", [False, True], ids=["hugging-face-base", "original-base"])
@pytest.mark.parametrize("kind", ["peft", "mistral"])
def test_each_kind_of_adapter_fits_each_layout_of_the_base(kind: str, is_original: bool, tmp_path: Path) -> None:
    """Query and key rows differ in order between the two layouts, of bases and of adapters."""
    folder = tmp_path / "base"
    if is_original:
        make_original(folder, TENSORS, 32, params_of(SIZES))
        shutil.copy(V01 / "tokenizer.model", folder)
    else:
        make_checkpoint(folder, SIZES, TENSORS)
    modules = [module for module in MODULES if module != "lm_head"]
    pairs = pairs_for(TENSORS, modules)
    writers = {"peft": write_peft, "mistral": lambda place, pairs: write_mistral(place, pairs, 32)}
    adapter = writers[kind](tmp_path / "adapter", pairs)
    assert made_with(folder, adapter) == expected(merged(TENSORS, pairs, 2.0), tmp_path)


def test_mistral_finetunes_own_scale_is_used_where_it_says_one(base: Path, tmp_path: Path) -> None:
    pairs = pairs_for(TENSORS, MODULES[:4])
    adapter = write_mistral(tmp_path / "adapter", pairs, 32, lora={"enable": True, "rank": 4, "scaling": 0.25})
    assert made_with(base, adapter / "lora.safetensors") == expected(merged(TENSORS, pairs, 0.25), tmp_path)


def test_half_precision_and_pickled_adapters_are_read(base: Path, tmp_path: Path) -> None:
    rounded = {m: (bfloat16(a), bfloat16(b)) for m, (a, b) in pairs_for(TENSORS, MODULES[:4]).items()}
    exact = {module: (float32(a), float32(b)) for module, (a, b) in rounded.items()}
    safe = write_peft(tmp_path / "safe", rounded)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    shutil.copy(safe / "adapter_config.json", pickled)
    saved = []
    for module, pair in rounded.items():
        for half, array in zip("AB", pair, strict=True):
            name = f"base_model.model.{module}.lora_{half}.weight"
            saved.append(Saved(name, "BFloat16", array.shape, array.tobytes(), key=str(len(saved))))
    (pickled / "adapter_model.bin").write_bytes(checkpoint(saved))
    made = made_with(base, safe)
    assert made == expected(merged(TENSORS, exact, 2.0), tmp_path)
    assert made_with(base, pickled) == made


def test_the_merge_does_not_depend_on_how_rows_are_cut(base: Path, tmp_path: Path, monkeypatch: Any) -> None:
    adapter = write_peft(tmp_path / "adapter", pairs_for(TENSORS, MODULES))
    made = made_with(base, adapter)
    monkeypatch.setattr("convert.output.tensor_writer.CHUNK_NUMBERS", 256 * 7)
    assert made_with(base, adapter) == made


def test_the_name_and_the_fingerprint_tell_a_merged_model_from_its_base(base: Path, tmp_path: Path) -> None:
    adapter = write_peft(tmp_path / "poet", pairs_for(TENSORS, MODULES[:1]))
    out = tmp_path / "out.gguf"
    plain = make_draft(ConversionOptions(base, out))
    with_one = make_draft(ConversionOptions(base, None, adapters=((adapter, 1.0),)))
    half = make_draft(ConversionOptions(base, out, adapters=((adapter, 0.5),)))
    assert (plain.source, with_one.source) == ("base", "base+poet")
    assert with_one.path == Path("base+poet-Q4_K_M.gguf")
    reports = [draft.report().to_json() for draft in (plain, with_one, half)]
    assert len({report.pop("source_sha256") for report in reports}) == 3
    assert reports[1]["parameters"] == reports[0]["parameters"]


def test_the_command_line_merges(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = pairs_for(TENSORS, MODULES[:2])
    adapter = write_peft(tmp_path / "adapter", pairs)
    out = tmp_path / "out.gguf"
    assert run(["convert", str(base), "--lora", f"{adapter}:2", "-t", "F32", "-o", str(out), "-q"]) == 0
    assert capsys.readouterr() == (f"{out}\n", "")
    assert tensor_bytes(out)[1] == expected(merged(TENSORS, pairs, 4.0), tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# What cannot be merged: one sentence, the right class, nothing written
# ---------------------------------------------------------------------------------------------------------------------

Q = "model.layers.0.self_attn.q_proj"
PAIR = pairs_for(TENSORS, [Q])


def config(**values: Any) -> Any:
    return lambda folder: write_peft(folder, PAIR, **values)


def tensors(**arrays: Array) -> Any:
    """An adapter of these tensors: `__` stands for a dot."""

    def write(folder: Path) -> None:
        write_peft(folder, PAIR)
        named = {name.replace("__", "."): array for name, array in arrays.items()}
        write_safetensors(folder / "adapter_model.safetensors", named)

    return write


def without_config(folder: Path) -> None:
    (write_peft(folder, PAIR) / "adapter_config.json").unlink()


def cut(folder: Path) -> None:
    path = write_peft(folder, PAIR) / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def with_nan(folder: Path) -> None:
    a, b = PAIR[Q]
    spoiled = b.copy()
    spoiled[5, 1] = np.nan
    write_peft(folder, {Q: (a, spoiled)})


A, B = np.zeros((4, 256), np.float32), np.zeros((256, 4), np.float32)
FAULTS = [
    (config(use_dora=True), ModelError, "is a DoRA: it also scales every row to a length"),
    (config(peft_type="IA3"), ModelError, "is a IA3 adapter, but only LoRA can be merged"),
    (config(peft_type="LOHA"), ModelError, "is a LOHA adapter, but only LoRA can be merged"),
    (config(peft_type="VERA"), ModelError, "is a VERA adapter, but only LoRA can be merged"),
    (config(peft_type=None), ModelError, "is a None adapter"),
    (config(peft_type=None, fine_tune_type="lora"), ModelError, "is an adapter of MLX"),
    (config(init_lora_weights="pissa_niter_16"), ModelError, "started with pissa_niter_16, which changes the base"),
    (config(bias="all"), ModelError, "trains biases"),
    (config(lora_bias=True), ModelError, "has biases"),
    (config(layer_replication=[[0, 1], [0, 2]]), ModelError, "repeats layers"),
    (config(alora_invocation_tokens=[1, 2]), ModelError, "acts on some tokens only"),
    (config(r=0), DataError, "`r` is 0, but must be a whole number from 1"),
    (config(r="4"), DataError, "`r` is 4, but must be a whole number from 1"),
    (config(lora_alpha=None), DataError, "`lora_alpha` is None, but must be a number"),
    (config(lora_alpha=1e300), DataError, "`lora_alpha` is 1e.300, but must be a number"),
    (config(r=8), DataError, "is of rank 4, but adapter_config.json says 8"),
    (config(rank_pattern={"(a+)+$": 4}), DataError, "is too complicated"),
    (config(alpha_pattern={"[": 4}), DataError, "is not a pattern"),
    (config(alpha_pattern=[1]), DataError, "`alpha_pattern` must be an object"),
    (without_config, DataError, "`adapter_config.json` is missing"),
    (cut, DataError, "but the file holds"),
    (with_nan, DataError, r"blk.0.attn_q.weight: nan in row \d+, column 0"),
    (tensors(**{f"{Q}.lora_A.weight": A}), DataError, "has no partner"),
    (tensors(**{f"{Q}.lora_A.weight": A, f"{Q}.lora_B.weight": B[:, :3]}), DataError, "its lora_A is of rank 4"),
    (tensors(**{f"{Q}.lora_A.weight": A[0], f"{Q}.lora_B.weight": B}), DataError, "but must be a matrix"),
    (
        tensors(**{f"{Q}.lora_A.weight": A[:, :128].copy(), f"{Q}.lora_B.weight": B}),
        ModelError,
        "changes 256 x 128 weights, but the model has 256 x 256",
    ),
    (
        tensors(
            **{"model.layers.7.self_attn.q_proj.lora_A.weight": A, "model.layers.7.self_attn.q_proj.lora_B.weight": B}
        ),
        ModelError,
        "has no place in the model",
    ),
    (tensors(**{f"{Q}.lora_A.weight": A.astype(np.int8), f"{Q}.lora_B.weight": B}), DataError, "holds I8, not floats"),
    (tensors(**{f"{Q}.lora_C.weight": A}), DataError, "unknown tensor `model.layers.0.self_attn.q_proj.lora_C.weight`"),
    (tensors(**{f"{Q}.lora_magnitude_vector": A}), DataError, "does not belong to a LoRA adapter"),
    (tensors(**{"lm_head.weight": np.zeros((520, 256), np.float32)}), ModelError, r"\[520, 256\], but the model's is"),
    (tensors(**{"visual.weight": A}), DataError, "unknown tensor `visual.weight`"),
    (lambda folder: folder.mkdir(), ModelError, "no adapter there"),
]


@pytest.mark.parametrize(("write", "kind", "words"), FAULTS, ids=[str(number) for number in range(len(FAULTS))])
def test_an_adapter_that_cannot_be_merged_is_one_sentence(
    write: Any, kind: type[ChatError], words: str, base: Path, tmp_path: Path
) -> None:
    write(tmp_path / "adapter")
    target = tmp_path / "made"
    target.mkdir()
    with pytest.raises(kind, match=words) as caught:
        convert(ConversionOptions(base, target / "out.gguf", adapters=((tmp_path / "adapter", 1.0),)))
    assert type(caught.value) is kind
    assert "\n" not in caught.value.message
    assert not caught.value.message.endswith(".")
    assert list(target.iterdir()) == []


def test_whole_tensors_cannot_be_merged_in_part(base: Path, tmp_path: Path) -> None:
    adapter = write_peft(tmp_path / "adapter", {}, {"lm_head.weight": TENSORS["lm_head.weight"]})
    with pytest.raises(ModelError, match=r"replaces whole tensors .* cannot be merged in part"):
        make_draft(ConversionOptions(base, adapters=((adapter, 0.5),)))


TIED = Sizes(layers=1, is_tied=True)
TIED_TENSORS = hugging_face_tensors(TIED)
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.mark.parametrize("names", [(EMBEDDING,), (HEAD,), (EMBEDDING, HEAD)])
def test_a_tied_model_is_untied_by_whole_modules_as_peft_does(names: tuple[str, ...], tmp_path: Path) -> None:
    """PEFT 0.21 sets `tie_word_embeddings` to false when it merges them; the other end keeps the base's numbers."""
    wholes = {name: bfloat16(np.full((512, 256), 0.5 + n, np.float32)) for n, name in enumerate(names)}
    adapter = write_peft(tmp_path / "adapter", {}, wholes)
    base = make_checkpoint(tmp_path / "tied", TIED, TIED_TENSORS)
    draft = make_draft(ConversionOptions(base, adapters=((adapter, 1.0),)))
    assert draft.warnings == (
        f"{adapter}/adapter_model.safetensors: the model uses its embedding as the output layer too, and the adapter "
        "replaces one of them: they are written apart, as PEFT merges them",
    )
    apart = {EMBEDDING: TIED_TENSORS[EMBEDDING], HEAD: TIED_TENSORS[EMBEDDING], **wholes}
    assert made_with(base, adapter) == expected({**TIED_TENSORS, **apart}, tmp_path, Sizes(layers=1))


def test_an_adapter_of_a_tied_embedding_changes_both_ends_with_a_word(tmp_path: Path) -> None:
    adapter, pair = embedding_adapter(tmp_path / "adapter")
    base = make_checkpoint(tmp_path / "tied", TIED, TIED_TENSORS)
    (warning,) = make_draft(ConversionOptions(base, adapters=((adapter, 1.0),))).warnings
    assert warning.endswith("the adapter changes both, though it was trained on one of them, as PEFT merges it")
    made = made_with(base, adapter)
    wanted = float32(TIED_TENSORS[EMBEDDING]) + 2.0 * (pair[1] @ pair[0]).T
    assert "output.weight" not in made
    assert np.allclose(np.frombuffer(made["token_embd.weight"], "<f4").reshape(512, 256), wanted, atol=1e-6)


def embedding_adapter(folder: Path) -> tuple[Path, tuple[Array, Array]]:
    """An adapter of the embedding as PEFT writes it, and its matrices (4, pieces) and (width, 4)."""
    generator = np.random.default_rng(4)
    a, b = (generator.standard_normal(shape, dtype=np.float32) for shape in ((4, 512), (256, 4)))
    at = "model.embed_tokens."
    tensors = {
        f"{at}lora_embedding_A": a,
        f"{at}lora_embedding_B": b,
        f"{at}base_layer.weight": np.zeros((512, 256), np.float32),
    }
    return write_peft(folder, {}, tensors), (a, b)


@pytest.mark.parametrize("name", ["", ".default", ".my-adapter"])
def test_of_three_tensors_of_a_module_the_trained_one_is_merged(name: str, base: Path, tmp_path: Path) -> None:
    """Who saves all of a wrapped model keeps the module, the copy that was trained, and the base's own."""
    trained = bfloat16(np.full((512, 256), 0.25, np.float32))
    modules = ("lm_head", "model.embed_tokens")
    wholes = {
        f"{module}{kind}.weight": TENSORS[f"{module}.weight"] if kind != f".modules_to_save{name}" else trained
        for module in modules
        for kind in ("", f".modules_to_save{name}", ".original_module")
    }
    pairs = pairs_for(TENSORS, MODULES[:2])
    named = {
        f"{module}.lora_{half}{name}.weight": m
        for module, ms in pairs.items()
        for half, m in zip("AB", ms, strict=True)
    }
    adapter = write_peft(tmp_path / "adapter", {}, {**named, **dict(reversed(wholes.items()))})
    replaced = dict.fromkeys((f"{module}.weight" for module in modules), trained)
    assert made_with(base, adapter) == expected(merged({**TENSORS, **replaced}, pairs, 2.0), tmp_path)


def test_the_bases_own_module_alone_changes_nothing(base: Path, tmp_path: Path) -> None:
    pairs = pairs_for(TENSORS, MODULES[:2])
    original = {"lm_head.original_module.weight": bfloat16(np.ones((512, 256), np.float32))}
    with_original = write_peft(tmp_path / "with", pairs, original)
    assert made_with(base, with_original) == made_with(base, write_peft(tmp_path / "plain", pairs))


def test_two_trained_copies_of_a_module_are_refused(base: Path, tmp_path: Path) -> None:
    copies = {f"lm_head.modules_to_save.{name}.weight": TENSORS["lm_head.weight"] for name in ("a", "b")}
    with pytest.raises(DataError, match=r"`base_model.model.lm_head.modules_to_save.b.weight` .*is there twice"):
        make_draft(ConversionOptions(base, adapters=((write_peft(tmp_path / "adapter", {}, copies), 1.0),)))


def test_an_output_layer_that_a_tied_model_lacks_is_written_apart(tmp_path: Path) -> None:
    """Such an adapter was trained with the embedding as it is; PEFT 0.21 says to untie before merging.

    See `_check_merge_allowed` of its tuners_utils.py.
    """
    pairs = pairs_for(TENSORS, ["lm_head", "model.layers.0.self_attn.q_proj"])
    adapter = write_peft(tmp_path / "adapter", pairs)
    base = make_checkpoint(tmp_path / "tied", TIED, TIED_TENSORS)
    (warning,) = make_draft(ConversionOptions(base, adapters=((adapter, 1.0),))).warnings
    assert warning.endswith("the adapter changes the latter: they are written apart, as PEFT advises")
    apart = merged({**TIED_TENSORS, HEAD: TIED_TENSORS[EMBEDDING]}, pairs, 2.0)
    assert made_with(base, adapter) == expected(apart, tmp_path, Sizes(layers=1))
    both, _ = embedding_adapter(tmp_path / "embedding")
    draft = make_draft(ConversionOptions(base, adapters=((both, 1.0), (adapter, 1.0))))
    assert draft.warnings == (warning,), "the embedding is no longer the output layer"


def test_an_adapter_of_an_output_layer_that_a_tied_model_lacks_is_not_written(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "tied", TIED, TIED_TENSORS)
    adapter = write_peft(tmp_path / "adapter", pairs_for(TENSORS, ["lm_head"]))
    words = "has no place in the model; the model has no output layer of its own"
    with pytest.raises(ModelError, match=words) as fault:
        make_draft(ConversionOptions(adapter, base=base))
    assert fault.value.hint == MERGE_HINT


def test_a_link_out_of_the_adapters_folder_is_refused(base: Path, tmp_path: Path) -> None:
    elsewhere = write_peft(tmp_path / "elsewhere", PAIR)
    adapter = write_peft(tmp_path / "adapter", PAIR)
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.safetensors").symlink_to(elsewhere / "adapter_model.safetensors")
    with pytest.raises(DataError, match="is a link that leads out of the folder"):
        make_draft(ConversionOptions(base, adapters=((adapter, 1.0),)))


def test_an_adapter_of_the_wrong_kind_of_file_is_named(base: Path, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    for name, words in (("a.gguf", "is a GGUF, which cannot be merged"), ("missing", "no such adapter")):
        with pytest.raises(ModelError, match=words):
            make_draft(ConversionOptions(base, adapters=((tmp_path / name, 1.0),)))


def test_json_faults_of_the_configuration_are_named(base: Path, tmp_path: Path) -> None:
    adapter = write_peft(tmp_path / "adapter", PAIR)
    (adapter / "adapter_config.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match=re.escape("adapter_config.json is not a JSON object")):
        make_draft(ConversionOptions(base, adapters=((adapter, 1.0),)))
