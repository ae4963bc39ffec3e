"""How much the error of each part of a model costs: the factors SENSITIVITY of `convert/fit.py`.

    python tests/bench/part_sensitivity.py F16.gguf FOLDER [--text FILE] [--chunks N]

One part at a time is packed as Q4_0, everything else as Q8_0. The divergence from the F16 file, less that of a file
that is Q8_0 throughout, is divided by the part's relative squared error. A model whose output layer is the embedding
shows both in one, as `token_embd`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from chat.system.progress import Silent
from convert.draft import ConversionOptions
from convert.drafting import open_model
from convert.fit import SENSITIVITY
from convert.quantize.kernels import BLOCK_TYPES
from convert.quantize.sensitivity import Sampled, measure_errors

PROGRAM = (sys.executable, "-m", "chat")
COARSE, FINE = "Q4_0", "Q8_0"


def relative_errors(source: Path) -> dict[str, float]:
    """The mean over the tensors of each part: what COARSE loses of it beyond FINE."""
    model = open_model(ConversionOptions(source, type=FINE))
    matrices = [tensor for tensor in model.tensors if len(tensor.shape) > 1]
    kinds = (BLOCK_TYPES[COARSE], BLOCK_TYPES[FINE])
    sampled = [Sampled(each.name, each.rows, each.shape[-2], kinds) for each in matrices]
    found: dict[str, list[float]] = {part: [] for part in SENSITIVITY}
    for tensor, errors in zip(sampled, measure_errors(sampled, 1, Silent()), strict=True):
        part = tensor.name.removesuffix(".weight").rpartition(".")[2]
        if part in found:
            found[part].append(errors[COARSE] - errors[FINE])
    return {part: sum(errors) / len(errors) for part, errors in found.items() if errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--chunks", default="5")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    errors = relative_errors(given.source)
    files = {}
    for part in ("none", *errors):
        files[part] = given.folder / f"{part}.gguf"
        coarse = () if part == "none" else ("--tensor-type", rf"(^|\.){part}\.={COARSE}")
        command = [*PROGRAM, "convert", given.source, "-t", FINE, "-o", files[part], *coarse, "--overwrite", "-q"]
        subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)
    models = [word for path in files.values() for word in ("-m", path)]
    text = ["--text", given.text] if given.text else []
    command = [*PROGRAM, "bench", "--quality", *models, "--against", given.source, "--chunks", given.chunks, *text]
    command += ["--repack", "off", "--json"]
    done = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True)
    mean = {Path(each["path"]).stem: each["divergence"]["mean"]["value"] for each in json.loads(done.stdout)["files"]}
    for part, error in errors.items():
        print(f"{part:12} {(mean[part] - mean['none']) / error:6.2f}")


if __name__ == "__main__":
    main()
