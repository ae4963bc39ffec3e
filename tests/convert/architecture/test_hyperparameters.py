"""A model's sizes come from either file; what a release leaves out is found, and said."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest

from chat.errors import ChatError, DataError, ModelError
from convert.architecture.hyperparameters import Hyperparameters, Shape, read_hyperparameters
from convert.architecture.releases import RELEASES, Release
from convert.architecture.rope_scaling import RopeScaling
from tests.convert.samples import Sizes, config_of

PATH = Path("config.json")
SHAPES: dict[str, Shape] = {
    "token_embd.weight": (32000, 4096),
    "blk.0.attn_q.weight": (4096, 4096),
    "blk.0.attn_k.weight": (1024, 4096),
    "blk.0.ffn_gate.weight": (14336, 4096),
}
TORRENT = {  # params.json of the September 2023 torrent
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "norm_eps": 1e-05,
    "sliding_window": 4096,
    "vocab_size": 32000,
}
V01 = Hyperparameters(32, 4096, 32, 8, 128, 14336, 32000, 1e-5, 10000.0, 32768, (4096,) * 32)


MINISTRAL = {  # params.json of Ministral 8B, with the windows that its model card describes
    **TORRENT,
    "n_layers": 36,
    "hidden_dim": 12288,
    "vocab_size": 131072,
    "rope_theta": 1e8,
    "sliding_window": [131072, 32768, 32768, 32768],
}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}


def read(values: dict[str, Any], shapes: dict[str, Shape] = SHAPES) -> Hyperparameters:
    return read_hyperparameters(PATH, values, shapes.get)


def config(**changes: Any) -> dict[str, Any]:
    return {**config_of(Sizes()), **changes}


def test_the_torrents_file_lacks_theta_and_context_which_are_known() -> None:
    assert read(TORRENT) == Hyperparameters(
        **{**vars(V01), "filled_in": ("rope theta 10000", "context length 32768")},
    )


def test_without_a_window_the_original_releases_theta_is_a_million() -> None:
    mixtral = {key: value for key, value in TORRENT.items() if key != "sliding_window"}
    found = read({**mixtral, "moe": {"num_experts": 8, "num_experts_per_tok": 2}})
    assert (found.rope_theta, found.experts, found.experts_used, found.window) == (1e6, 8, 2, None)
    assert found.filled_in == ("rope theta 1000000", "context length 32768")


def test_sizes_that_are_missing_come_from_the_tensors() -> None:
    found = read({"n_layers": 32, "n_heads": 32, "norm_eps": 1e-5, "sliding_window": 4096, "vocab_size": -1})
    assert Hyperparameters(**{**vars(found), "filled_in": ()}) == V01
    assert found.filled_in == (
        "width 4096",
        "vocabulary 32000",
        "key-value heads 8",
        "feed-forward width 14336",
        "rope theta 10000",
        "context length 32768",
    )


def test_a_head_that_is_wider_than_its_share_is_said() -> None:
    found = read(config(head_dim=None, num_attention_heads=4), {"blk.0.attn_q.weight": (512, 256)})
    assert (found.head_dim, found.filled_in) == (128, ("head size 128",))


def test_hugging_faces_values_are_taken_as_they_are() -> None:
    found = read(config(sliding_window=64, rope_theta=5e5, tie_word_embeddings=True))
    windows = (64, 64)
    assert found == Hyperparameters(2, 256, 8, 2, 32, 512, 512, 1e-5, 5e5, 32768, windows, is_tied=True)


@pytest.mark.parametrize("where", ["rope_parameters", "rope_scaling"])
def test_theta_of_newer_configs_is_found(where: str) -> None:
    found = read(config(rope_theta=None, **{where: {"rope_theta": 1e6, "rope_type": "default"}}))
    assert (found.rope_theta, found.filled_in) == (1e6, ())


@pytest.mark.parametrize(("theta", "wanted"), [(5e4, 5e4), (None, 1e4)])
def test_of_old_and_new_rotary_values_the_old_are_taken(theta: float | None, wanted: float) -> None:
    """As `convert_rope_params_to_dict` of transformers 5.24 does, which looks no further for theta either."""
    new = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e6}
    old = {"type": "linear", "factor": 2.0}
    found = read(config(rope_theta=theta, rope_scaling=old, rope_parameters=new))
    assert (found.scaling, found.rope_theta) == (RopeScaling("linear", 2.0), wanted)
    assert read(config(rope_scaling={}, rope_parameters=new)).rope_theta == 1e6


def test_the_original_context_at_the_top_comes_first() -> None:
    """As in `standardize_rope_params` of transformers 5.24."""
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e6}
    found = read(config(original_max_position_embeddings=99, rope_parameters=yarn))
    assert found.scaling == RopeScaling("yarn", 4.0, 99)


@pytest.mark.parametrize("where", ["rope_parameters", "rope_scaling"])
def test_rotary_values_for_each_kind_of_layer_are_refused(where: str) -> None:
    """They were passed over, and positions taken as if nothing were stated."""
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e6}
    nested = {"full_attention": yarn, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    with pytest.raises(ModelError, match="positions of their own for `full_attention`, `sliding_attention` cannot"):
        read(config(**{where: nested}))


def test_a_vision_models_text_part_is_read() -> None:
    inner = config_of(Sizes())
    outer = {"architectures": ["MistralForCausalLM"], "text_config": inner, "vision_config": {"hidden_size": 1}}
    assert read(outer) == read(inner)


def test_windows_can_differ_by_layer() -> None:
    kinds = ["sliding_attention", "full_attention"]
    assert read(config(sliding_window=64, layer_types=kinds)).windows == (64, None)
    found = read({**TORRENT, "n_layers": 8, "sliding_window": [None, 4096, 4096, 4096]})
    assert found.windows == (None, 4096, 4096, 4096) * 2
    assert found.with_window(100).windows == (None, 100, 100, 100) * 2
    assert found.with_window(None).windows == (None,) * 8
    assert read(config()).with_window(7).windows == (7, 7)


def test_ministrals_widest_windows_are_full_attention() -> None:
    found = read(MINISTRAL)
    assert found.windows == (None, 32768, 32768, 32768) * 9
    assert (found.window, found.context, found.filled_in) == (32768, 131072, ("context length 131072",))
    assert read(MINISTRAL | {"max_seq_len": 32768}).windows == (None,) * 36


def test_the_largest_of_several_windows_is_the_context_of_an_unknown_model() -> None:
    found = read({**TORRENT, "n_layers": 8, "sliding_window": [512, 64, 64, 64]})
    assert (found.windows, found.context) == ((None, 64, 64, 64) * 2, 512)


def test_hugging_faces_window_that_is_the_context_is_none() -> None:
    assert read(config(sliding_window=32768)).windows == (None, None)
    assert read(config(sliding_window=32767)).windows == (32767, 32767)


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_what_a_release_leaves_out_is_what_it_is_known_to_have(release: Release) -> None:
    params: dict[str, Any] = {
        "dim": release.width,
        "n_layers": release.layers,
        "head_dim": 128,
        "hidden_dim": release.hidden,
        "n_heads": 32,
        "n_kv_heads": 8,
        "norm_eps": 1e-5,
        "vocab_size": release.vocabulary,
        "rope_theta": release.theta,
    }
    if release.experts:
        params["moe"] = {"num_experts": 8, "num_experts_per_tok": 2}
    found = read(params)
    assert (found.context, found.filled_in) == (release.context, (f"context length {release.context}",))
    del params["rope_theta"]
    first_of_its_sizes = next(
        each
        for each in RELEASES
        if replace(release, context=0, theta=0, name="", window=None)
        == replace(each, context=0, theta=0, name="", window=None)
        and each.window is None
    )
    assert read(params).rope_theta == first_of_its_sizes.theta
    if release.window is not None:
        assert read(params | {"sliding_window": release.window}).rope_theta == release.theta


def test_a_config_that_forgets_the_first_releases_window_gets_it() -> None:
    sizes = Sizes(32, 4096, 32, 8, 128, 14336, 32000)
    given = {name: value for name, value in config_of(sizes).items() if name != "sliding_window"}
    assert (read(given).window, read(given).filled_in) == (4096, ("window 4096",))
    assert read(given | {"sliding_window": None}).window is None  # said to be none
    assert read(given | {"rope_theta": 1e6}).window is None  # v0.2
    assert read(given | {"architectures": ["LlamaForCausalLM"]}).window is None


def test_transformers_defaults_differ_between_mistral_and_mixtral() -> None:
    dense = read(config(rope_theta=None, rms_norm_eps=None))
    assert (dense.rope_theta, dense.norm_epsilon, dense.filled_in) == (
        1e4,
        1e-6,
        ("rope theta 10000", "norm epsilon 1e-06"),
    )
    mixtral = config_of(Sizes(experts=8)) | {"rope_theta": None, "rms_norm_eps": None}
    assert (read(mixtral).rope_theta, read(mixtral).norm_epsilon) == (1e6, 1e-5)


@pytest.mark.parametrize(
    ("rope", "scaling", "context"),
    [
        ({"type": "linear", "factor": 2}, RopeScaling("linear", 2.0), 32768),
        (YARN, RopeScaling("yarn", 4.0, 8192), 32768),
        (YARN | {"factor": 16, "finetuned": True}, RopeScaling("yarn", 16.0, 8192), 131072),
        ({"rope_type": "yarn", "factor": 4}, RopeScaling("yarn", 4.0, 32768), 131072),
        (YARN | {"attention_factor": 1.0}, RopeScaling("yarn", 4.0, 8192, 1 / (0.1 * log(4) + 1)), 32768),
        (
            YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
            RopeScaling("yarn", 4.0, 8192, 1 / (0.1 * log(4) + 1), all_dimensions=1.0),
            32768,
        ),
        (YARN | {"beta_fast": 32, "beta_slow": 1.0}, RopeScaling("yarn", 4.0, 8192), 32768),
    ],
)
def test_stretched_positions_are_kept(rope: dict[str, Any], scaling: RopeScaling, context: int) -> None:
    found = read(config(rope_scaling=rope))
    assert (found.scaling, found.context) == (scaling, context)


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        (config(num_hidden_layers=0), DataError, "`num_hidden_layers` is 0, but must be a whole number from 1 to 512"),
        (config(num_hidden_layers=10**9), DataError, "`num_hidden_layers` is 1000000000, but must be"),
        (config(num_hidden_layers=True), DataError, "`num_hidden_layers` is True, but must be"),
        (config(num_hidden_layers="2"), DataError, "`num_hidden_layers` is '2', but must be"),
        (config(num_hidden_layers=None), DataError, "`num_hidden_layers` is missing"),
        (config(hidden_size=-1), DataError, "`hidden_size` is -1"),
        (config(num_attention_heads=1.5), DataError, "`num_attention_heads` is 1.5"),
        (config(rms_norm_eps=0), DataError, "`rms_norm_eps` is 0, but must be a positive number"),
        (config(rms_norm_eps=float("nan")), DataError, "`rms_norm_eps` is nan"),
        (config(rope_theta=float("inf")), DataError, "`rope_theta` is inf"),
        (config(rope_theta=[1]), DataError, r"`rope_theta` is \[1\]"),
        (config(head_dim=31), DataError, "heads of 31 columns cannot be turned by pairs"),
        (config(architectures="x" * 99), DataError, "`architectures` is 'x{59}…, but must be a list"),
        (config(sliding_window=0), DataError, "`sliding_window` is 0"),
        (config(hidden_size=None), DataError, "does not give the width, and there is no tensor to tell it from"),
        (config(layer_types=["full_attention"]), DataError, "`layer_types` must name each of the 2 layers"),
        (config(layer_types=["a", "b"]), ModelError, "layers of type a cannot be converted"),
        (
            config(rope_scaling={"type": "dynamic", "factor": 2}),
            ModelError,
            "dynamic rotary positions cannot be converted",
        ),
        (config(rope_scaling={"rope_type": "longrope"}), ModelError, "longrope rotary positions cannot be converted"),
        (config(rope_scaling={"rope_type": "llama3"}), DataError, "`factor` of the rotary positions is None"),
        (
            config(rope_scaling={"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}),
            DataError,
            "`low_freq_factor` is 4, but must be below `high_freq_factor`, 4",
        ),
        (config(rope_scaling={"type": "linear"}), DataError, "`factor` of the rotary positions is None, but must be"),
        (
            config(rope_scaling={"type": "yarn", "factor": 0.5}),
            DataError,
            "`factor` of the rotary positions is 0.5, but",
        ),
        (config(rope_scaling=YARN | {"factor": float("nan")}), DataError, "`factor` of the rotary positions is nan"),
        (config(rope_scaling=YARN | {"beta_fast": -16}), DataError, "`beta_fast` of the rotary positions is -16, but"),
        (config(rope_scaling=YARN | {"truncate": False}), ModelError, "YaRN with `truncate` off cannot be converted"),
        (
            config(rope_scaling=YARN | {"original_max_position_embeddings": -1}),
            DataError,
            "`original_max_position_embeddings` is -1, but must be",
        ),
        (config(rope_scaling=[]), None, ""),
        (config(rope_scaling=[1]), DataError, r"`rope_scaling` is \[1\], but must be an object"),
        (config(hidden_act="gelu"), ModelError, "the activation gelu cannot be converted"),
        (config(architectures=["Mistral5ForCausalLM"]), ModelError, "the architecture Mistral5ForCausalLM cannot"),
        (
            config(num_local_experts=8),
            DataError,
            "`num_experts_per_tok` is None, but must be a whole number from 1 to 8",
        ),
        (config(num_local_experts=4, num_experts_per_tok=5), DataError, "`num_experts_per_tok` is 5, but must be"),
        ({**TORRENT, "yarn": {"factor": 2}}, DataError, "`original_max_position_embeddings` is None, but must be"),
        ({**TORRENT, "yarn_factor": 2}, ModelError, "has `yarn_factor`, a form of scaled rotary positions that is not"),
        ({**TORRENT, "sliding_window": [1, 2, 3, 4]}, ModelError, "windows of different sizes in one model"),
        ({**TORRENT, "sliding_window": [1] * 5}, DataError, "a list of 5 windows cannot be repeated over 32 layers"),
        ({**TORRENT, "sliding_window": []}, DataError, "a list of 0 windows"),
    ],
)
def test_impossible_values_are_named(values: dict[str, Any], kind: type[ChatError] | None, words: str) -> None:
    shapes = {} if values.get("hidden_size", 1) is None else SHAPES
    if kind is None:
        read(values)
        return
    with pytest.raises(kind, match=words):
        read(values, shapes)
