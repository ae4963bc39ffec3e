# Build llama-cpp-python in less time, without a change to what computes: ggml. In the folder of the source:
#
#     CMAKE_ARGS="-DCMAKE_PROJECT_llama_cpp_INCLUDE='$PWD/chat/llama/build.cmake'" pip install .
#
# - llama-common, the library of llama.cpp's own programs, is left out: llama-cpp-python forces it on and uses nothing
#   of it.
# - The sources of llama and mtmd are compiled many in a unit, as most of the time goes into the headers of each.
# - What lays out the graphs of models and of pictures is optimized less (-O1): it runs once for a token or a picture, and
#   ggml computes the graph. So is what reads files. Tokenizer and sampler are optimized as usual (-O2).
#
# What a later version of llama.cpp adds is compiled on its own.

set(LLAMA_BUILD_COMMON OFF)  # a variable; it hides the entry of the cache that CMakeLists.txt sets

# Compile sources of a target together. Those that are not there, or are told not to be, are compiled on their own.
function(mistral_chat_unit target name)
    set_source_files_properties(${ARGN} TARGET_DIRECTORY ${target}
        PROPERTIES UNITY_GROUP ${name} SKIP_UNITY_BUILD_INCLUSION OFF)
endfunction()

# Sources of a target that match an expression, with their folder.
function(mistral_chat_sources target expression result)
    get_target_property(found ${target} SOURCES)
    get_target_property(folder ${target} SOURCE_DIR)
    list(FILTER found INCLUDE REGEX "${expression}")
    list(TRANSFORM found REPLACE "^([^/].*)$" "${folder}/\\1")
    set(${result} ${found} PARENT_SCOPE)
endfunction()

# The sources of a folder in units of `size`.
function(mistral_chat_units target name size)
    set(at 0)
    foreach(source IN LISTS ARGN)
        math(EXPR unit "${at} / ${size}")
        mistral_chat_unit(${target} ${name}_${unit} ${source})
        math(EXPR at "${at} + 1")
    endforeach()
endfunction()

function(mistral_chat_build_faster)
    foreach(target llama mtmd)
        if(TARGET ${target})
            set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
            mistral_chat_sources(${target} "(^|/)models/[^/]*\\.cpp$" models)
            mistral_chat_units(${target} models 24 ${models})
            if(NOT MSVC)
                target_compile_options(${target} PRIVATE -O1)
            endif()
        endif()
    endforeach()
    mistral_chat_sources(llama "llama-(memory|kv-cache)[^/]*\\.cpp$" memory)
    mistral_chat_unit(llama memory ${memory})
    mistral_chat_sources(llama "llama-(context|graph|model|quant)\\.cpp$" graph)
    mistral_chat_unit(llama graph ${graph})
    set(names "llama|llama-(adapter|arch|batch|chat|cparams|hparams|impl|io|mmap|model-loader|model-saver)")
    mistral_chat_sources(llama "(^|/)(${names})\\.cpp$" files)
    mistral_chat_unit(llama files ${files})
    if(NOT MSVC)
        mistral_chat_sources(llama "(llama-(sampler|vocab)|unicode)\\.cpp$" text)
        set_property(SOURCE ${text} TARGET_DIRECTORY llama APPEND PROPERTY COMPILE_OPTIONS -O2)
        mistral_chat_sources(ggml-base "(ggml-backend-meta|ggml-opt|gguf)\\.cpp$" readers)
        set_property(SOURCE ${readers} TARGET_DIRECTORY ggml-base APPEND PROPERTY COMPILE_OPTIONS -O1)
    endif()
endfunction()

cmake_language(DEFER CALL mistral_chat_build_faster)
