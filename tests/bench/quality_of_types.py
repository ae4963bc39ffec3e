"""Size, speed and loss of the types that `convert` writes, as the rows of the README's table.

    python tests/bench/quality_of_types.py SOURCE FOLDER [--types Q8_0 ...] [--text FILE] [--chunks N] [--svg FILE]

SOURCE is a checkpoint or an F16 or F32 GGUF; FOLDER gets a file of each type, and an F16 file that they are compared
with. Without a text the models read the Python reference that comes with every Python (`pydoc_data.topics`), so that
anybody can repeat it. Speeds are those of `mistral-chat bench`; on a busy machine only the losses say something. The
last lines count the types of the matrices: where a row is no multiple of 256, a type with shorter blocks is taken.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from chat.gguf.reader import read_gguf

PROGRAM = (sys.executable, "-m", "chat")
REFERENCE = "F16"
TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q4_0")
HEAD = "| type | size | reading, tokens/s | decoding, tokens/s | perplexity | KL mean | KL 99 % | same top |"


def program(*arguments: object) -> str:
    """What the program prints; its progress and errors go to the terminal."""
    return subprocess.run([*PROGRAM, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout


def python_reference(folder: Path) -> Path:
    """The text of Python's language reference, by topic."""
    from pydoc_data.topics import topics

    path = folder / "python-reference.txt"
    path.write_text("\n\n".join(topics[name] for name in sorted(topics)), encoding="utf-8", newline="\n")
    return path


def convert(source: Path, folder: Path, kind: str) -> Path:
    """The file of a type; one that is there already is kept."""
    path = folder / f"{kind}.gguf"
    if not path.exists():
        program("convert", source, "-t", kind, "-o", path)
    return path


def row(kind: str, quality: dict[str, Any], speed: dict[str, Any]) -> str:
    """One line of the table."""
    point, found = speed["points"][0], quality["divergence"]
    cells = [kind, f"{quality['size'] / 1e6:.0f} MB", f"{point['read']:.0f}", f"{point['decode']:.0f}"]
    cells.append(f"{quality['perplexity']['value']:.2f} ± {quality['perplexity']['error']:.2f}")
    if found is None:
        return "| " + " | ".join([*cells, "", "", ""]) + " |"
    cells.append(f"{found['mean']['value']:.4f} ± {found['mean']['error']:.4f}")
    cells += [f"{found['percentile_99']:.3f}", f"{100 * found['same_top']['value']:.1f} %"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--chunks", default="32")
    parser.add_argument("--repack", default="auto")
    parser.add_argument("--svg", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    text = given.text or python_reference(given.folder)
    files = {kind: convert(given.source, given.folder, kind) for kind in (REFERENCE, *given.types)}
    options = ["--repack", given.repack, "--json"]
    models = [part for kind in given.types for part in ("-m", files[kind])]
    picture = ["--svg", given.svg] if given.svg is not None else []
    against = ["--against", files[REFERENCE], "--text", text, "--chunks", given.chunks]
    quality = json.loads(program("bench", "--quality", *models, *against, *picture, *options))
    print(f"{quality['chunks']} chunks of {quality['context']} tokens, {quality['scored_tokens']:,} scored", end="\n\n")
    print(HEAD)
    print("|---" * HEAD.count(" | ") + "|---|")
    for kind, found in zip(files, [quality["reference"], *quality["files"]], strict=True):
        speed = json.loads(program("bench", "-m", files[kind], "--contexts", "512", "-n", "32", *options))
        print(row(kind, found, speed), flush=True)
    print()
    for kind, path in files.items():
        types = Counter(tensor.type for tensor in read_gguf(path).tensors.values() if len(tensor.shape) > 1)
        print(f"{kind}: {', '.join(f'{count} {name}' for name, count in types.most_common())}")


if __name__ == "__main__":
    main()
