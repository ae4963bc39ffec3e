#!/usr/bin/env bash
# Try everything that a GPU changes, on a machine without a network, and print one table.
#
#     tests/gpu/prepare.sh FOLDER    # once, where there is a network
#     tests/gpu/check.sh FOLDER      # on Linux (x86-64) with the Python of prepare.sh, CMake, a C++ compiler, nvcc
#
# Each call ends within ten minutes. What passed is not done again, so where the build takes most of that, a second
# call does the rest; it needs the same GPU_CHECK_WORK. The exit code is 1 if a step failed or was not reached.
#
# GPU_CHECK_WORK     everything that is made: by default mistral-chat-gpu-check in the folder for temporary files
# GPU_CHECK_BACKEND  the back end of ggml: cuda; or vulkan; or off, which rehearses the steps on the processor alone.
#                    vulkan needs `GPU_CHECK_BACKENDS=vulkan` in prepare.sh, glslc, the headers of SPIR-V, and those of
#                    Vulkan from 1.3.272 on. GGML_VK_VISIBLE_DEVICES=0 lets it use a driver that computes on the
#                    processor (lavapipe), which is exact but very slow: then GPU_CHECK_LAYERS=1.
# GPU_CHECK_ENGINE   a Python with llama-cpp-python for that back end, which is then not built: for rehearsals
# GPU_CHECK_LAYERS   layers of the made model: 32, those of a 7B (14.5 GB are written and converted)
# GPU_CHECK_SECONDS  the time of one call: 580
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=$(cd "${1:?the folder that prepare.sh filled}" && pwd)
export GPU_CHECK_WORK=${GPU_CHECK_WORK:-${TMPDIR:-/tmp}/mistral-chat-gpu-check}
backend=${GPU_CHECK_BACKEND:-cuda}
layers=${GPU_CHECK_LAYERS:-32}
mkdir -p "$GPU_CHECK_WORK"
work=$(cd "$GPU_CHECK_WORK" && pwd)
system_python=${PYTHON:-python3}
python=$work/venv/bin/python
cores=$(nproc)
made=$work/made-$layers
model=$made.gguf
half=$(((layers + 1) / 2))
export MISTRAL_CHAT_HOME=$work/home PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
export GPU_CHECK_FIGURES=$work/figures-of-this-step

if [ "$backend" = cuda ] && command -v nvcc > /dev/null; then  # its libraries may be where the loader does not look
    cuda=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
    export LD_LIBRARY_PATH=$cuda/lib64:$cuda/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi

figure() { echo "$*" | tee -a "$GPU_CHECK_FIGURES"; }

chat() { "$python" -m chat "$@"; }

# --- the steps: each may fail without stopping the others

step_tools() {
    figure "$("$system_python" --version), $(cmake --version | head -1), $(c++ --version | head -1), $cores cores"
    local wanted
    wanted=$(< "$folder/python-version")
    if [ -z "${GPU_CHECK_ENGINE:-}" ] && [[ $("$system_python" --version) != "Python $wanted."* ]]; then
        echo "the wheels in $folder are for Python $wanted: GPU_CHECK_PYTHON of prepare.sh chooses another, PYTHON of this"
        return 1
    fi
    if [ "$backend" = cuda ]; then
        figure "$(nvcc --version | grep release)"
        figure "$(nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv,noheader)"
    elif [ "$backend" = vulkan ]; then
        figure "$(glslc --version | head -1)"
    fi
}

step_environment() {
    rm -rf "$work/venv"
    "$system_python" -m venv --without-pip "$work/venv"
    local wheels=("$folder"/wheels/*.whl) pip=("$folder"/wheels/pip-*.whl)
    if [ -n "${GPU_CHECK_ENGINE:-}" ]; then
        "$GPU_CHECK_ENGINE" -c 'import site; print(site.getsitepackages()[0])' > "$(site_packages)/engine.pth"
        wheels=("$folder"/wheels/{pip,setuptools}-*.whl)
    fi
    "$python" "${pip[0]}/pip" install -q --no-index --no-deps "${wheels[@]}"
    echo "$repository" > "$(site_packages)/program.pth"
    figure "${#wheels[@]} wheels"
}

site_packages() { "$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'; }

options() {  # of CMake, for the back end
    case $backend in
        cuda) echo "-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=native" ;;
        off) echo "-DGGML_CUDA=off" ;;
        *) echo "-DGGML_${backend^^}=on" ;;
    esac
}

unpack() {  # the sources of llama-cpp-python; their place is always the same, so that a build can go on
    [ -d "$work/source" ] && return
    rm -rf "$work/part"
    mkdir "$work/part"
    tar -xzf "$folder"/llama_cpp_python-*.tar.gz -C "$work/part" --strip-components 1
    mv "$work/part" "$work/source"
}

step_engine() {
    if [ -n "${GPU_CHECK_ENGINE:-}" ]; then
        figure "not built: $GPU_CHECK_ENGINE has one"
        return
    fi
    unpack
    export CMAKE_GENERATOR=Ninja CMAKE_BUILD_PARALLEL_LEVEL=$cores SKBUILD_BUILD_DIR=$work/build
    export PATH=$work/venv/bin:$PATH  # ninja
    CMAKE_ARGS="$(options) $(include)" "$python" -m pip install --no-index --no-deps --no-build-isolation -v \
        "$work/source"
    figure "$(options), $("$python" -c 'import llama_cpp; print(llama_cpp.__version__)')"
}

include() { echo "-DCMAKE_PROJECT_llama_cpp_INCLUDE=$repository/chat/llama/build.cmake"; }

step_program() {  # its fast kernels; meanwhile nothing else waits for them
    cd "$repository"
    "$python" -m pip install -q --no-index --no-deps --no-build-isolation --target "$work/program" .
    cp "$work"/program/convert/native/*.so "$repository/convert/native/"
    figure "fast kernels: $(find "$work/program/convert/native" -name '*.so' | wc -l)"
}

step_doctor() {
    chat doctor | tee "$work/doctor.txt"
    if grep -q "WRONG ANSWERS" "$work/doctor.txt"; then return 1; fi
    if [ "$backend" != off ] && ! grep -Eq "exactness +on [A-Za-z]+[0-9]" "$work/doctor.txt"; then
        echo "no GPU was tried"
        return 1
    fi
    figure "$(tr -s ' \n' ' ' < "$work/doctor.txt" |
         grep -oE "exactness .{0,80}logits of [0-9]+ tokens through a window of 64 differ by [0-9e.+-]+" | paste -sd '|')"
}

step_tiny() {  # a checkpoint converted here, and an answer of each number of layers
    rm -f "$work/tiny.gguf"
    chat convert "$repository/tests/checkpoints/mistral-v0.1" -t F32 -o "$work/tiny.gguf"
    for count in all 1 0; do
        chat -m "$work/tiny.gguf" --gpu-layers "$count" --temperature 0 -n 80 --json "hello world" > "$work/tiny-$count.json"
    done
    local text
    text=$("$python" - "$work" <<'PYTHON'
import json, sys
ids = [json.load(open(f"{sys.argv[1]}/tiny-{count}.json"))["ids"] for count in ("all", "1", "0")]
alike = [next((at for at, pair in enumerate(zip(ids[2], each)) if pair[0] != pair[1]), len(each)) for each in ids[:2]]
print(f"with all and one layer {alike[0]} and {alike[1]} of {len(ids[2])} ids as on the processor")
PYTHON
    )
    figure "$text"
}

step_exactness() { try tests/gpu -k "logits or doctor"; }
step_answers() { try tests/gpu -k "answer_longer"; }
step_states() { try tests/gpu -k "saved_state"; }
step_batches() { try tests/gpu -k "batch_of_answers"; }
step_drafts() { try tests/gpu -k "draft_model"; }
step_processor() { try tests/chat/llama/test_exactness.py tests/chat/inference/test_gpu_loading.py; }

try() {  # tests, none of which may be skipped where there is to be a GPU
    local more=()
    [ "$backend" = off ] && more=(--full)
    cd "$repository"
    "$python" -m pytest -p no:cacheprovider -q -rs "${more[@]}" "$@" | tee "$work/tests.txt"
    grep "^SKIPPED" "$work/tests.txt" >> "$GPU_CHECK_FIGURES" && [ "$backend" != off ] && return 1
    return 0
}

step_made() {
    [ -f "$made/config.json" ] ||
        "$python" "$repository/tests/full_size.py" "$made" --layers "$layers" --tokenizer "$folder/tokenizer.model.v1"
    rm -f "$model"
    chat convert "$made" -t Q4_K_M -o "$model" --json > "$work/convert.json"
    figure "$layers layers, $(du -h --apparent-size "$model" | cut -f1), converted in $("$python" -c 'import json, sys
print(round(json.load(open(sys.argv[1]))["seconds"]["total"], 1))' "$work/convert.json") s"
}

step_bench_all() { bench all 128 512,4096,8192; }
step_bench_half() { bench "$half" 32 512,2048; }
step_bench_none() { bench 0 8 128,256; }

bench() {  # layers, tokens, contexts
    chat bench -m "$model" --gpu-layers "$1" -n "$2" --contexts "$3" --json > "$work/bench-$1.json"
    local text
    text=$("$python" - "$work/bench-$1.json" <<'PYTHON'
import json, sys
with open(sys.argv[1]) as file:
    found = json.load(file)
beside, resume, ahead = found["beside"], found["resume"], found["ahead"]
print(
    f"{found['subject']['gpu_layers']} layers, loaded in {found['subject']['load_seconds']:.1f} s; "
    f"reading {beside['read']:.0f} tokens/s "
    f"({beside['read_ratio']:.2f} of a bare loop), decoding {beside['decode']:.1f} ({beside['decode_ratio']:.2f}); "
    + "; ".join(f"at {each['context']}: {each['read']:.0f} and {each['decode']:.1f}" for each in found["points"])
    + (f"; state of {resume['state_bytes'] >> 20} MiB in {resume['seconds']:.2f} s" if resume else "")
    + "; rows " + ", ".join(f"{each['rows']}: {each['rows'] / each['seconds']:.0f}/s" for each in found["batches"])
    + f"; drafts: {ahead['reason']}"
)
PYTHON
    )
    figure "$text"
}

step_llama_bench() {  # llama.cpp's own measure of the same file, in its own process
    local engine=${GPU_CHECK_ENGINE:-$python} installed
    installed=$("$engine" -c 'import pathlib, llama_cpp; print(pathlib.Path(llama_cpp.__file__).parent.parent)')
    export PATH=$work/venv/bin:$PATH
    unpack
    cmake -G Ninja -S "$work/source/vendor/llama.cpp" -B "$work/llama-bench" -DCMAKE_BUILD_TYPE=Release \
        -DLLAMA_USE_SYSTEM_GGML=ON -DCMAKE_PREFIX_PATH="$installed" -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
        -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DCMAKE_BUILD_RPATH="$installed/lib" -DLLAMA_OPENSSL=OFF
    cmake --build "$work/llama-bench" --target llama-bench -j "$cores"
    local count=99
    [ "$backend" = off ] && count=0
    LD_LIBRARY_PATH=$installed/lib "$work/llama-bench/bin/llama-bench" -m "$model" -ngl "$count" -fa 1 -p 512 -n 128 -r 2 \
        -o json > "$work/llama-bench.json"
    local text
    text=$("$python" - "$work/llama-bench.json" <<'PYTHON'
import json, sys
with open(sys.argv[1]) as file:
    found = json.load(file)
print("; ".join(f"{'reading' if each['n_prompt'] else 'decoding'} {each['avg_ts']:.1f} tokens/s" for each in found))
PYTHON
    )
    figure "$text"
}

step_memory() { try tests/gpu -k "full_gpu" --gpu-model "$model"; }

# --- how they are run

STEPS="tools:20 environment:90 engine:570 program:200 doctor:60 tiny:60 exactness:120 answers:90 states:90 batches:90
drafts:60 processor:90 made:240 memory:90 bench_all:120 bench_half:120 bench_none:120 llama_bench:240"

main() {  # bash reads all of it before it runs, so that the file may be changed meanwhile
    if [ -n "${GPU_CHECK_STEP:-}" ]; then
        "step_$GPU_CHECK_STEP"
        exit
    fi

    end=$((SECONDS + ${GPU_CHECK_SECONDS:-580}))
    state=$work/steps-$backend-$layers
    mkdir -p "$state"
    rm -f "$state"/*.failed "$state"/*.late
    for entry in $STEPS; do
        name=${entry%:*} limit=${entry#*:}
        [ -f "$state/$name.passed" ] && continue
        left=$((end - SECONDS))
        [ "$left" -lt 5 ] && break
        [ "$limit" -gt "$left" ] && limit=$left
        echo "== $name (at most $limit s)"
        : > "$GPU_CHECK_FIGURES"
        begun=$SECONDS code=0
        GPU_CHECK_STEP=$name timeout -k 5 "$limit" bash "${BASH_SOURCE[0]}" "$folder" > "$work/$name.log" 2>&1 || code=$?
        result=passed
        [ "$code" = 0 ] || { result=failed; tail -n 25 "$work/$name.log"; }
        [ "$code" = 124 ] && result=late
        printf '%s\t%s\n' "$((SECONDS - begun))" "$(paste -sd '|' "$GPU_CHECK_FIGURES")" > "$state/$name.$result"
    done

    code=0
    printf '\n%-12s %-8s %8s  %s\n' step result seconds figures
    for entry in $STEPS; do
        name=${entry%:*} result="not reached" seconds="" figures=""
        for known in passed failed late; do
            [ -f "$state/$name.$known" ] || continue
            result=$known
            IFS=$'\t' read -r seconds figures < "$state/$name.$known" || true
        done
        [ "$result" = passed ] || code=1
        printf '%-12s %-8s %8s  %s\n' "$name" "$result" "$seconds" "${figures//|/$'\n                                '}"
    done
    exit $code
}

main
