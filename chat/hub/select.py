"""Select the files of a repository that are needed, by their names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chat.errors import ModelError
from chat.hub.names import HubName

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_QUANT = "Q4_K_M"

# The first complete layout of the weights is taken: (files that it needs, pattern of the weights)
_LAYOUTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("config.json",), r"model\.safetensors"),
    (("config.json", "model.safetensors.index.json"), r"model-\d+-of-\d+\.safetensors"),
    (("params.json",), r"consolidated\.safetensors"),
    (("params.json", "consolidated.safetensors.index.json"), r"consolidated-\d+-of-\d+\.safetensors"),
    (("params.json",), r"consolidated\.\d+\.safetensors"),
    (("params.json",), r"consolidated\.\d+\.(?:pth|pt)"),
    (("config.json",), r"pytorch_model\.bin"),
    (("config.json", "pytorch_model.bin.index.json"), r"pytorch_model-\d+-of-\d+\.bin"),
    (("config.json",), r"(?:gptq_)?model[\w.-]*\.safetensors"),  # as AutoGPTQ names them
)
_ADAPTERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("adapter_config.json",), r"adapter_model\.(?:safetensors|bin)"),
    ((), r"lora\.safetensors"),
)
_BESIDE = re.compile(
    r"config\.json|params\.json|generation_config\.json|quantize_config\.json|quant_config\.json|adapter_config\.json"
    r"|tokenizer\.model(?:\.v\d+\w*)?|tekken\.json|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json"
    r"|added_tokens\.json|chat_template\.(?:jinja|json)|additional_chat_templates/[^/]+\.jinja|SYSTEM_PROMPT\.txt"
    r"|(?:pre)?processor_config\.json"
)
_SHARD = re.compile(r"(.*?)-(\d+)-of-(\d+)(\.\w+)")
_NO_MODEL = re.compile(r"(?:^|[/._-])(?:mmproj|imatrix)", re.IGNORECASE)
_SEES = re.compile("mistral|ministral|pixtral|magistral|devstral", re.IGNORECASE)
PROJECTOR_TYPES = ("F16", "BF16", "F32", "Q8_0")  # the first that is there is taken
_QUANT = re.compile(
    r"(?<![A-Za-z0-9])((?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|BF16|F16|F32|FP16|FP32))(?![A-Za-z0-9])",
    re.IGNORECASE,
)


def needed_for_conversion(names: Sequence[str]) -> tuple[str, ...]:
    """The files that a conversion reads: one layout of the weights, never two, and what describes them; small first.

    Hugging Face's files come first, then original files, then pickles, then an adapter; a whole file before shards.

    Raises:
        ModelError: there are no weights, or shards are missing.
    """
    present = set(names)
    for companions, pattern in (*_LAYOUTS, *_ADAPTERS):
        weights = sorted(name for name in names if re.fullmatch(pattern, name))
        if weights and present.issuperset(companions):
            _require_all_shards(weights)
            beside = {name for name in names if _BESIDE.fullmatch(name)} | set(companions)
            return (*sorted(beside), *weights)
    if any(name.endswith(".gguf") for name in names):
        hint = "it holds GGUF files, which need no conversion: `mistral-chat models pull hf:OWNER/NAME`"
        raise ModelError("there is no checkpoint to convert", hint=hint)
    known = "safetensors with config.json, consolidated files with params.json, .bin files or an adapter"
    raise ModelError("there is no checkpoint to convert", hint=f"a conversion reads {known}")


def is_model_weights(name: str) -> bool:
    """Whether a file holds a model's weights, which are large; an adapter's do not count."""
    return any(re.fullmatch(pattern, name) for _, pattern in _LAYOUTS)


def choose_gguf(names: Sequence[str], asked: HubName) -> str:
    """The one GGUF that is asked for, by quantization or file name; Q4_K_M, or the only one, if neither is given.

    Raises:
        ModelError: there is none, or more than one fits, or it is split into parts.
    """
    models = sorted(name for name in names if name.endswith(".gguf") and not _NO_MODEL.search(name))
    if not models:
        hint = f"if it holds a checkpoint: `mistral-chat convert {asked.repository}`"
        raise ModelError(f"{asked.repository} holds no GGUF file", hint=hint)
    fitting = _fitting(models, asked.wanted)
    if len(fitting) == 1 and (shard := _SHARD.fullmatch(fitting[0])) is None:
        return fitting[0]
    what = asked.wanted or DEFAULT_QUANT
    if fitting and (shard := _SHARD.fullmatch(fitting[0])):
        pattern = f"{shard[1]}-*-of-{shard[3]}.gguf"
        raise ModelError(
            f"{what} of {asked.repository} is split into {int(shard[3])} parts, which are not read here",
            hint=f"`hf download {asked.repository} --include '{pattern}'`, then `llama-gguf-split --merge FIRST OUT`",
        )
    if fitting:
        first = HubName(asked.repository, asked.revision, fitting[0])
        names_text = ", ".join(fitting)
        raise ModelError(
            f"{asked.repository} holds {len(fitting)} files for {what}: {names_text}", hint=f"name the file: `{first}`"
        )
    quants = sorted({quant_of(name) or name for name in models})
    example = HubName(asked.repository, asked.revision, quants[0])
    raise ModelError(
        f"{asked.repository} holds no {what}, but {', '.join(quants)}", hint=f"name one of them: `{example}`"
    )


def choose_projector(names: Sequence[str], model: str, repository: str) -> str | None:
    """The picture encoder that goes with a GGUF of a repository; None where there is none that can be used here.

    Args:
        names: of all files.
        model: the GGUF that was chosen.
        repository: its name, or the model's, tells the family: only Mistral's encoders can be used.
    """
    if not _SEES.search(f"{repository} {model}"):
        return None
    folder = model.rpartition("/")[0]
    found = [name for name in names if name.endswith(".gguf") and "mmproj" in name.rpartition("/")[2].lower()]
    ranked = sorted(found, key=lambda name: (name.rpartition("/")[0] != folder, _rank(quant_of(name)), len(name), name))
    return ranked[0] if ranked else None


def _rank(quant: str | None) -> int:
    return PROJECTOR_TYPES.index(quant) if quant in PROJECTOR_TYPES else len(PROJECTOR_TYPES)


def quant_of(name: str) -> str | None:
    """The quantization in a file name, in capitals; None if there is none."""
    found = _QUANT.findall(name.rpartition("/")[2]) or _QUANT.findall(name)
    return found[-1].upper().replace("FP16", "F16").replace("FP32", "F32") if found else None


def _fitting(models: Sequence[str], wanted: str | None) -> list[str]:
    """The files that match; all parts of a split file match."""
    if wanted and wanted.lower().endswith(".gguf"):
        return [name for name in models if wanted in (name, name.rpartition("/")[2])]
    if wanted is None and len(models) == 1:
        return list(models)
    quant = (wanted or DEFAULT_QUANT).upper()
    return [name for name in models if quant_of(name) == quant]


def _require_all_shards(names: Sequence[str]) -> None:
    """Raise a ModelError if part numbers are missing, or two series are mixed."""
    for name in names:
        shard = _SHARD.fullmatch(name)
        if shard is None:
            continue
        start, number, total, end = shard.groups()
        if not 1 <= int(total) <= 9999:
            raise ModelError(f"{name}: claims {int(total)} parts")
        for each in range(1, int(total) + 1):
            wanted = f"{start}-{each:0{len(number)}}-of-{total}{end}"
            if wanted not in names:
                raise ModelError(f"{wanted} is missing", hint="the repository is incomplete: tell its owner")
