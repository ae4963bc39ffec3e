#!/usr/bin/env bash
# Fill a folder with what check.sh needs on a machine without a network, under 60 MiB: wheels for x86-64 Linux, and the
# sources of llama-cpp-python without what the build does not read.
#
#     tests/gpu/prepare.sh OUT [ARCHIVE]
#
# ARCHIVE: llama_cpp_python-VERSION.tar.gz, if it is there already; else it is downloaded.
# GPU_CHECK_PYTHON: the version of Python on that machine, 3.12.
# GPU_CHECK_BACKENDS: further back ends of ggml to keep beside ggml-cpu and ggml-cuda, such as "vulkan".
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:?the folder to fill}
archive=${2:-}
python=${PYTHON:-python3}
target=${GPU_CHECK_PYTHON:-3.12}
version=$(sed -n 's/.*"llama-cpp-python==\([^"]*\)".*/\1/p' "$repository/pyproject.toml")
name=llama_cpp_python-$version
most=$((60 << 20))  # bytes

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
rm -rf "$out/wheels"
echo "$target" > "$out/python-version"

# the program's own requirements, what builds it and llama-cpp-python, and what the tests need
"$python" - "$repository/pyproject.toml" > "$work/requirements.txt" <<'PYTHON'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)
wanted = [each for each in project["project"]["dependencies"] if not each.startswith("llama-cpp-python")]
wanted += project["build-system"]["requires"]
wanted += ["diskcache>=5.6.1", "typing-extensions>=4.5"]  # of llama-cpp-python
wanted += ["scikit-build-core>=0.9.2", "ninja", "pip"]
wanted += ["pytest>=8", "filelock>=3.13", "pexpect>=4.9", "pyte>=0.8", "sentencepiece>=0.2"]
print("\n".join(wanted))
PYTHON
platforms=()
for glibc in 5 12 17 24 26 27 28 31 34 35; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
platforms+=(--platform manylinux1_x86_64 --platform manylinux2010_x86_64 --platform manylinux2014_x86_64)
download=("$python" -m pip download -q --only-binary=:all: --python-version "$target" --implementation cp --abi "cp${target/./}"
    --abi abi3 --abi none "${platforms[@]}" -d "$out/wheels")
"${download[@]}" -r "$work/requirements.txt"
rm -f "$out"/wheels/hf_xet-*  # downloads nothing there
"$python" -m pip download -q --no-deps -d "$work" "mistral-common>=1.13"
"$python" -m zipfile -e "$work"/mistral_common-*.whl "$work"
cp "$work/mistral_common/data/tokenizer.model.v1" "$out"  # for the made checkpoint

if [ -z "$archive" ]; then
    "$python" -m pip download -q --no-deps --no-binary llama-cpp-python -d "$work" "llama-cpp-python==$version"
    archive=$work/$name.tar.gz
fi
tar -xzf "$archive" -C "$work"
llama=$work/$name/vendor/llama.cpp
(cd "$work/$name" && rm -rf .git .github docker docs examples mkdocs.yml scripts tests vendor/llama.cpp/.git)
(cd "$llama" && rm -rf app benches ci conversion docs examples gguf-py grammars media models pocs requirements scripts \
    skills tests .devops .github build-xcframework.sh ./*.py ./*.md flake.nix)
for folder in "$llama"/ggml/src/ggml-*/; do
    case " cpu cuda ${GPU_CHECK_BACKENDS:-} " in
        *" $(basename "${folder#*ggml-}") "*) ;;
        *) rm -rf "$folder" ;;
    esac
done
find "$llama/tools" -mindepth 1 -maxdepth 1 ! -name mtmd ! -name llama-bench -exec rm -rf {} +
echo "add_subdirectory(llama-bench)" > "$llama/tools/CMakeLists.txt"  # the only tool of check.sh; mtmd is added elsewhere
find "$llama/tools/mtmd" \( -name '*.jpg' -o -name '*.jpeg' -o -name '*.png' -o -name '*.mp3' -o -name '*.mp4' -o -name '*.wav' \) -delete
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner -czf "$out/$name.tar.gz" "$name"

bytes=$(du -sb "$out" | cut -f1)
du -sh "$out/$name.tar.gz" "$out/wheels"
if [ "$bytes" -gt "$most" ]; then
    echo "$out has $bytes bytes, and $most is the limit" >&2
    exit 1
fi
