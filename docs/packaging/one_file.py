"""Build the program as one file that needs neither Python nor packages: only zlib, and a C library as new as here.

    pip install . pyinstaller
    python docs/packaging/one_file.py [--output build/one-file]

Run it with the Python that the program is installed for; what is installed beside it, such as the extras `documents`
and `keyring`, is taken along. The file unpacks itself into a temporary folder at each start. The engine is a child
process as always: the file starts itself again with `FROZEN_CHILD` as its first argument.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ENTRY = """\
import sys
from chat.system.python_child import FROZEN_CHILD, run_module

if sys.argv[1:2] == [FROZEN_CHILD]:
    run_module(*sys.argv[2:])
else:
    from chat.__main__ import main

    main()
"""
DATA = {  # data files by package; patterns of files in its folder
    "chat.documents": ("*.gguf",),
    "chat.guide": ("*.gguf", "*.bin", "*.json", "*.toml", "*.txt"),
    "chat.bench": ("*.txt",),
    "chat.templates": ("examples/*.toml",),
}
LAZY = (  # packages with modules that are imported by their names
    "chat",
    "convert",
    "llama_cpp",
    "huggingface_hub",
    "pygments",
    "tiktoken_ext",
    "pypdfium2",
    "mammoth",
    "python_calamine",
    "striprtf",
    "markdownify",
    "keyring",
)
LIBRARIES = ("llama_cpp", "llguidance", "pypdfium2_raw")  # with libraries that no import names
NAMED = ("llguidance", "llama-cpp-python", "huggingface_hub")  # whose versions are looked up
EXCLUDED = ("llama_cpp.server", "torch", "IPython", "matplotlib", "pytest", "tkinter")


def folder_of(package: str) -> Path:
    """Where a package lies."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed for {sys.executable}")
    return Path(spec.origin).parent


def arguments(entry: Path, output: Path, work: Path) -> list[str]:
    """The command line of PyInstaller."""
    given = ["--onefile", "--noconfirm", "--log-level", "WARN", "--name", "mistral-chat"]
    given += ["--distpath", str(output), "--workpath", str(work), "--specpath", str(work)]
    for package in LAZY:
        given += ["--collect-submodules", package] if find_spec(package) else []
    for package, patterns in DATA.items():
        folder = folder_of(package)
        for path in (path for pattern in patterns for path in sorted(folder.glob(pattern))):
            target = Path(*package.split(".")) / path.parent.relative_to(folder)
            given += ["--add-data", f"{path}:{target}"]
    for package in LIBRARIES:
        given += ["--collect-binaries", package] if find_spec(package) else []
    for name in ("_kernels", "_kernels_contracted"):
        kernels = find_spec(f"convert.native.{name}")
        given += ["--add-binary", f"{kernels.origin}:convert/native"] if kernels and kernels.origin else []
    for name in NAMED:
        given += ["--copy-metadata", name]
    for name in EXCLUDED:
        given += ["--exclude-module", name]
    return [*given, "--paths", str(folder_of("chat").parent), str(entry)]


def main() -> None:
    """Build it, and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "one-file")
    output = parser.parse_args().output.resolve()
    from PyInstaller.__main__ import run

    with tempfile.TemporaryDirectory() as folder:
        entry = Path(folder) / "mistral_chat_one_file.py"
        entry.write_text(ENTRY)
        run(arguments(entry, output, Path(folder) / "work"))
    program = output / "mistral-chat"
    print(f"{program}: {program.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
