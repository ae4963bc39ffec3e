"""Ask transformers for the greedy ids, and llama.cpp's converter for the tensors, of the families' checkpoints.

Usage: python -m tests.convert.make_family_references LLAMA_CPP
where LLAMA_CPP is its source folder, in an environment with torch and transformers. Writes families.json.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.convert.families import FAMILIES, PROMPT, make_family, make_original_family

TARGET = Path(__file__).parents[1] / "checkpoints/families.json"
COUNT = 48
# The converter finds a Mistral 4 only inside a model that sees, and asks for another tokenizer than the test's.
PATCH = """
import runpy, sys
sys.argv = sys.argv[1:]
sys.path[:0] = [sys.argv[0].rpartition("/")[0], sys.argv[0].rpartition("/")[0] + "/gguf-py"]
import conversion.deepseek as deepseek, conversion.llama as llama, conversion.qwen as qwen
for model in (deepseek.DeepseekV2Model, llama.LlamaModel, qwen.Qwen2Model, qwen.Qwen3Model):
    model.set_vocab = lambda self: self._set_vocab_sentencepiece()
import conversion.mistral as mistral
mistral.MistralMoeModel.set_vocab = lambda self: self._set_vocab_sentencepiece()
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def greedy(folder: Path) -> list[int]:
    """The ids that follow the prompt, in float32 with eager attention."""
    import torch
    import transformers

    kind = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = list(PROMPT)
    with torch.no_grad():
        for _ in range(COUNT):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(PROMPT) :]


def tensors(llama_cpp: Path, folder: Path, is_original: bool) -> dict[str, Any]:
    """Architecture, and for each tensor its ggml shape and the SHA-256 of its float32 bytes."""
    import gguf

    out = folder / "out.gguf"
    config = folder / "config.json"
    if is_original:
        config.write_text('{"architectures": ["any"]}')  # it looks into this file, too
    else:
        inner = json.loads(config.read_text())
        if inner["model_type"] == "mistral4":
            del inner["architectures"]
            config.write_text(json.dumps({"architectures": ["Mistral3ForConditionalGeneration"], "text_config": inner}))
    more = ["--mistral-format", "--disable-mistral-community-chat-template"] if is_original else []
    script = str(llama_cpp / "convert_hf_to_gguf.py")
    command = [sys.executable, "-c", PATCH, script, str(folder), "--outtype", "f32", "--outfile", str(out), *more]
    subprocess.run(command, check=True, capture_output=True)
    reader = gguf.GGUFReader(out)
    found = {
        each.name: [each.shape.tolist(), hashlib.sha256(each.data.tobytes()).hexdigest()] for each in reader.tensors
    }
    architecture = reader.fields["general.architecture"].contents()
    own = {
        name.removeprefix(f"{architecture}."): field.contents()
        for name, field in reader.fields.items()
        if name.startswith(f"{architecture}.")
    }
    return {"architecture": architecture, "keys": own, "tensors": dict(sorted(found.items()))}


def main(llama_cpp: Path) -> None:
    """Every family; the original layout of those that have one."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for name in FAMILIES:
            folder = make_family(Path(place) / name, name)
            found[name] = {"greedy": greedy(folder), "gguf": tensors(llama_cpp, folder, is_original=False)}
            if name in ("ministral3", "devstral", "mistral4"):
                original = make_original_family(Path(place) / f"{name}-original", name)
                found[name]["original"] = tensors(llama_cpp, original, is_original=True)
    TARGET.write_text(json.dumps(found, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
