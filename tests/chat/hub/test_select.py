"""What is chosen from a repository's names, and what a name on the hub means."""

from __future__ import annotations

import random
import re

import pytest

from chat.errors import ModelError, UsageError
from chat.hub import HubName, choose_gguf, needed_for_conversion, quant_of, read_hub_name
from chat.hub.select import choose_projector

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
BINS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
HF = ("config.json", "generation_config.json", "model.safetensors.index.json", *SHARDS)
NOISE = (".gitattributes", "README.md", "LICENSE", "example.py", "images/logo.png", "onnx/model.safetensors")
V03 = ("consolidated.safetensors", "params.json", "tokenizer.model", "tokenizer.model.v3", "tokenizer_config.json")

RELEASES = {  # name -> (what the repository holds, what is taken)
    "7B v0.1 on the hub: shards, not pickles": (
        (*HF, *BINS, "pytorch_model.bin.index.json", "tokenizer.model", "special_tokens_map.json", *NOISE),
        (*HF, "tokenizer.model", "special_tokens_map.json"),
    ),
    "v0.3: shards, not the consolidated file beside them": (
        (*HF, *V03, *NOISE),
        (*HF, "params.json", "tokenizer.model", "tokenizer.model.v3", "tokenizer_config.json"),
    ),
    "the torrent": (
        ("consolidated.00.pth", "params.json", "tokenizer.model", "RELEASE"),
        ("consolidated.00.pth", "params.json", "tokenizer.model"),
    ),
    "Mixtral's fused files": (
        ("consolidated.00.pt", "consolidated.01.pt", "params.json", "tokenizer.model"),
        ("consolidated.00.pt", "consolidated.01.pt", "params.json", "tokenizer.model"),
    ),
    "Nemo's own layout without config.json": (
        ("consolidated.safetensors", "params.json", "tekken.json", "model.safetensors"),
        ("consolidated.safetensors", "params.json", "tekken.json"),
    ),
    "consolidated shards with an index": (
        (
            "consolidated-00001-of-00002.safetensors",
            "consolidated-00002-of-00002.safetensors",
            "consolidated.safetensors.index.json",
            "params.json",
        ),
        (
            "consolidated-00001-of-00002.safetensors",
            "consolidated-00002-of-00002.safetensors",
            "consolidated.safetensors.index.json",
            "params.json",
        ),
    ),
    "pickles where there is nothing else": (
        (*BINS, "pytorch_model.bin.index.json", "config.json", "training_args.bin"),
        (*BINS, "pytorch_model.bin.index.json", "config.json"),
    ),
    "a model that sees: how it prepares pictures": (
        (
            "model.safetensors",
            "config.json",
            "preprocessor_config.json",
            "processor_config.json",
            "tekken.json",
            *NOISE,
        ),
        ("model.safetensors", "config.json", "preprocessor_config.json", "processor_config.json", "tekken.json"),
    ),
    "one pickle": (("pytorch_model.bin", "config.json"), ("pytorch_model.bin", "config.json")),
    "a fine-tune with its template": (
        ("model.safetensors", "config.json", "chat_template.jinja", "tokenizer.json", "added_tokens.json", "runs/x"),
        ("model.safetensors", "config.json", "chat_template.jinja", "tokenizer.json", "added_tokens.json"),
    ),
    "named templates beside the one": (
        ("model.safetensors", "config.json", "additional_chat_templates/tool_use.jinja", "other/a.jinja"),
        ("model.safetensors", "config.json", "additional_chat_templates/tool_use.jinja"),
    ),
    "GPTQ under its own name": (
        ("gptq_model-4bit-128g.safetensors", "quantize_config.json", "config.json"),
        ("gptq_model-4bit-128g.safetensors", "quantize_config.json", "config.json"),
    ),
    "a PEFT adapter": (
        ("adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "optimizer.pt"),
        ("adapter_model.safetensors", "adapter_config.json", "tokenizer.json"),
    ),
    "a mistral-finetune adapter": (("lora.safetensors", "params.json"), ("lora.safetensors", "params.json")),
}


@pytest.mark.parametrize("release", RELEASES)
def test_a_conversion_needs_one_layout_and_what_describes_it(release: str) -> None:
    held, taken = RELEASES[release]
    shuffled = random.Random(release).sample(held, len(held))
    chosen = needed_for_conversion(shuffled)
    assert sorted(chosen) == sorted(taken)
    assert len(set(chosen)) == len(chosen)
    small = [name.endswith((".json", ".jinja", ".v3", ".model")) for name in chosen]
    assert small == sorted(small, reverse=True), "small files come first"


@pytest.mark.parametrize(
    ("held", "message", "hint"),
    [
        (
            ("config.json", "model.safetensors.index.json", SHARDS[1]),
            f"{SHARDS[0]} is missing",
            "the repository is incomplete: tell its owner",
        ),
        (
            ("README.md",),
            "there is no checkpoint to convert",
            "a conversion reads safetensors with config.json, consolidated files with params.json, .bin files or an "
            "adapter",
        ),
        (
            ("a.Q4_K_M.gguf", "config.json"),
            "there is no checkpoint to convert",
            "it holds GGUF files, which need no conversion: `mistral-chat models pull hf:OWNER/NAME`",
        ),
        (
            ("config.json", "model.safetensors.index.json", "model-00001-of-99999999999.safetensors"),
            "model-00001-of-99999999999.safetensors: claims 99999999999 parts",
            None,
        ),
    ],
)
def test_a_repository_that_cannot_be_converted_says_why(held: tuple[str, ...], message: str, hint: str | None) -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$") as caught:
        needed_for_conversion(held)
    assert caught.value.hint == hint


GGUFS = (
    "README.md",
    "mistral-7b-instruct-v0.2.Q2_K.gguf",
    "mistral-7b-instruct-v0.2.Q4_0.gguf",
    "mistral-7b-instruct-v0.2.Q4_K_M.gguf",
    "mistral-7b-instruct-v0.2.Q4_K_S.gguf",
    "mistral-7b-instruct-v0.2.Q8_0.gguf",
    "mistral-7b-instruct-v0.2-UD-Q4_K_XL.gguf",
    "mistral-7b-instruct-v0.2.IQ4_XS.gguf",
    "BF16/mistral-7b-instruct-v0.2.gguf",
    "mmproj-Q4_K_M.gguf",
    "imatrix_Q4_K_M.gguf",
)


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        (None, 3),
        ("Q4_K_M", 3),
        ("q4_k_m", 3),
        ("Q4_0", 2),
        ("Q4_K_S", 4),
        ("UD-Q4_K_XL", 6),
        ("iq4_xs", 7),
        ("bf16", 8),
        ("mistral-7b-instruct-v0.2.Q8_0.gguf", 5),
    ],
)
def test_a_quantization_names_exactly_one_file(wanted: str | None, number: int) -> None:
    assert choose_gguf(GGUFS, HubName("a/b", None, wanted)) == GGUFS[number]


def test_the_only_file_needs_no_quantization() -> None:
    assert choose_gguf(["model.gguf", "config.json"], HubName("a/b")) == "model.gguf"


@pytest.mark.parametrize(
    ("held", "wanted", "message", "hint"),
    [
        (("config.json",), None, "a/b holds no GGUF file", "if it holds a checkpoint: `mistral-chat convert a/b`"),
        (
            ("x.Q8_0.gguf", "x.Q6_K.gguf"),
            None,
            "a/b holds no Q4_K_M, but Q6_K, Q8_0",
            "name one of them: `hf:a/b:Q6_K`",
        ),
        (("x.Q8_0.gguf",), "Q4_0", "a/b holds no Q4_0, but Q8_0", "name one of them: `hf:a/b:Q8_0`"),
        (
            ("x-Q4_K_M.gguf", "y-Q4_K_M.gguf"),
            None,
            "a/b holds 2 files for Q4_K_M: x-Q4_K_M.gguf, y-Q4_K_M.gguf",
            "name the file: `hf:a/b:x-Q4_K_M.gguf`",
        ),
        (
            ("Q4_K_M/x-Q4_K_M-00001-of-00002.gguf", "Q4_K_M/x-Q4_K_M-00002-of-00002.gguf"),
            None,
            "Q4_K_M of a/b is split into 2 parts, which are not read here",
            "`hf download a/b --include 'Q4_K_M/x-Q4_K_M-*-of-00002.gguf'`, then `llama-gguf-split --merge FIRST OUT`",
        ),
    ],
)
def test_a_gguf_that_cannot_be_chosen_says_why(
    held: tuple[str, ...], wanted: str | None, message: str, hint: str
) -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$") as caught:
        choose_gguf(held, HubName("a/b", None, wanted))
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("names", "model", "repository", "chosen"),
    [
        (
            ("mmproj-F32.gguf", "mmproj-F16.gguf", "mmproj-BF16.gguf"),
            "a.gguf",
            "x/Mistral-Small-3.2",
            "mmproj-F16.gguf",
        ),
        (("mmproj-model-Q8_0.gguf", "a.gguf"), "a.gguf", "x/Pixtral-12B", "mmproj-model-Q8_0.gguf"),
        (("one/mmproj-F16.gguf", "two/mmproj-F32.gguf"), "two/a.gguf", "x/Mistral", "two/mmproj-F32.gguf"),
        (("mmproj.safetensors", "a.gguf"), "a.gguf", "x/Mistral", None),
        (("mmproj-F16.gguf", "a.gguf"), "a.gguf", "x/gemma-3-12b", None),  # of a kind that cannot be used here
    ],
)
def test_the_picture_encoder_of_a_repository_goes_with_its_model(
    names: tuple[str, ...], model: str, repository: str, chosen: str | None
) -> None:
    assert choose_projector(names, model, repository) == chosen


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("Mistral-7B-Instruct-v0.3-Q4_K_M.gguf", "Q4_K_M"),
        ("ggml-model-f16.gguf", "F16"),
        ("model-fp16.gguf", "F16"),
        ("Q8_0/model.gguf", "Q8_0"),
        ("Mistral-Q4-tuned.Q5_K_M.gguf", "Q5_K_M"),
        ("model.gguf", None),
    ],
)
def test_a_file_name_tells_its_quantization(name: str, quant: str | None) -> None:
    assert quant_of(name) == quant


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf:mistralai/Mistral-7B-Instruct-v0.3", HubName("mistralai/Mistral-7B-Instruct-v0.3")),
        ("mistralai/Mistral-7B-v0.1", HubName("mistralai/Mistral-7B-v0.1")),
        ("hf:a/b:Q8_0", HubName("a/b", None, "Q8_0")),
        ("hf:a/b@v1.0:file.gguf", HubName("a/b", "v1.0", "file.gguf")),
        ("hf:a/b@refs/pr/3", HubName("a/b", "refs/pr/3")),
        ("https://huggingface.co/a/b/", HubName("a/b")),
        ("hf:hf.co/a/b:Q4_0", HubName("a/b", None, "Q4_0")),
    ],
)
def test_a_name_on_the_hub_is_read_and_written(text: str, name: HubName) -> None:
    assert read_hub_name(text) == name
    assert read_hub_name(str(name)) == name


@pytest.mark.parametrize(
    "text", ["hf:", "hf:mistral", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/b--c", "hf:a/b\n", "hf:é/b"]
)
def test_what_names_no_repository_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"names no repository$") as caught:
        read_hub_name(text)
    assert caught.value.hint == "write `hf:owner/name`, or `hf:owner/name:Q4_K_M`"


@pytest.mark.parametrize("text", ["hf:a/b@../x", "hf:a/b@/x", "hf:a/b@x y"])
def test_what_names_no_revision_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"names no revision after `@`$"):
        read_hub_name(text)
