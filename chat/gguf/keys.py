"""The names of GGUF metadata keys and of the architectures that this program runs for certain.

Sources: ggml's specification of GGUF and llama.cpp's src/llama-arch.cpp; the keys in `MistralChatKey` are our own.
"""

from __future__ import annotations

from typing import Final

# llama.cpp's graph for `llama` ignores a window. The one for `granite_swa` applies it where a layer has one, and is
# Mistral's if its scales are 1 and its attention sinks weigh nothing: tests/chat/llama/test_exactness.py proves it.
PLAIN_ARCHITECTURE: Final = "llama"
WINDOWED_ARCHITECTURE: Final = "granite_swa"
# Mistral's since December 2025: YaRN with any limits and a temperature of attention; with latent attention, as Hugging
# Face's layout and as the original one becomes
YARN_ARCHITECTURE: Final = "mistral3"
LATENT_ARCHITECTURE: Final = "mistral4"
ORIGINAL_LATENT_ARCHITECTURE: Final = "deepseek2"
LATENT_ARCHITECTURES: Final = (LATENT_ARCHITECTURE, ORIGINAL_LATENT_ARCHITECTURE)
# Qwen's: biases or norms of heads
QWEN2_ARCHITECTURE: Final = "qwen2"
QWEN3_ARCHITECTURE: Final = "qwen3"
QWEN_ARCHITECTURES: Final = (QWEN2_ARCHITECTURE, QWEN3_ARCHITECTURE)
FULL_ARCHITECTURES: Final = (  # apply no window
    *(PLAIN_ARCHITECTURE, YARN_ARCHITECTURE),
    *(*LATENT_ARCHITECTURES, *QWEN_ARCHITECTURES),
)
KNOWN_ARCHITECTURES: Final = (*FULL_ARCHITECTURES, WINDOWED_ARCHITECTURE)  # convert writes them
# have the rows of queries and keys in Hugging Face's order; the others have a head's two halves interleaved
UNPERMUTED_ARCHITECTURES: Final = (*LATENT_ARCHITECTURES, *QWEN_ARCHITECTURES)


def has_direct_queries(layers: int, pieces: int) -> bool:
    """Whether llama.cpp expects latent attention without a latent vector of queries, whatever the file says.

    It tells DeepSeek V2 Lite and its kin by the number of layers (models/deepseek2.cpp, `is_lite`).
    """
    return layers in (26, 27) or (layers, pieces) == (48, 128256)


MODEL_FILE: Final = "model"  # values of `GeneralKey.TYPE`
ADAPTER_FILE: Final = "adapter"
PICTURE_ENCODER_FILE: Final = "mmproj"


class GeneralKey:
    """Keys of every GGUF."""

    ARCHITECTURE: Final = "general.architecture"
    TYPE: Final = "general.type"
    NAME: Final = "general.name"
    BASENAME: Final = "general.basename"
    FINETUNE: Final = "general.finetune"
    SIZE_LABEL: Final = "general.size_label"
    ALIGNMENT: Final = "general.alignment"
    QUANTIZATION_VERSION: Final = "general.quantization_version"
    FILE_TYPE: Final = "general.file_type"
    TENSOR_EXTRA_NAME: Final = "general.tensor_extra.name"
    TENSOR_EXTRA_PREC_A4: Final = "general.tensor_extra.prec_a4"


class SplitKey:
    """Keys of one part of a model in several files."""

    NUMBER: Final = "split.no"
    COUNT: Final = "split.count"
    TENSOR_COUNT: Final = "split.tensors.count"


class ModelKey:
    """Keys of a model's sizes, each below `{architecture}.`; `GgufFile.key` reads them."""

    VOCABULARY_SIZE: Final = "vocab_size"
    CONTEXT_LENGTH: Final = "context_length"
    EMBEDDING_LENGTH: Final = "embedding_length"
    EMBEDDING_LENGTH_OUT: Final = "embedding_length_out"
    BLOCK_COUNT: Final = "block_count"
    NEXTN_PREDICT_LAYERS: Final = "nextn_predict_layers"
    FEED_FORWARD_LENGTH: Final = "feed_forward_length"
    POOLING_TYPE: Final = "pooling_type"
    CLASSIFIER_POOLING_TYPE: Final = "classifier.pooling_type"
    CLASSIFIER_OUTPUT_LABELS: Final = "classifier.output_labels"
    DEEPSTACK_MAPPING: Final = "deepstack_mapping"
    LOGIT_SCALE: Final = "logit_scale"
    EMBEDDING_SCALE: Final = "embedding_scale"
    RESIDUAL_SCALE: Final = "residual_scale"
    EXPERT_COUNT: Final = "expert_count"
    EXPERT_USED_COUNT: Final = "expert_used_count"
    EXPERT_GROUP_COUNT: Final = "expert_group_count"
    EXPERT_GROUP_USED_COUNT: Final = "expert_group_used_count"
    EXPERT_GATING_FUNCTION: Final = "expert_gating_func"
    EXPERT_WEIGHTS_SCALE: Final = "expert_weights_scale"
    EXPERT_WEIGHTS_NORM: Final = "expert_weights_norm"
    EXPERT_FEED_FORWARD_LENGTH: Final = "expert_feed_forward_length"
    EXPERT_SHARED_COUNT: Final = "expert_shared_count"
    LEADING_DENSE_BLOCK_COUNT: Final = "leading_dense_block_count"
    EXPERT_SHARED_FEED_FORWARD_LENGTH: Final = "expert_shared_feed_forward_length"
    HEAD_COUNT: Final = "attention.head_count"
    HEAD_COUNT_KV: Final = "attention.head_count_kv"
    KEY_LENGTH: Final = "attention.key_length"
    VALUE_LENGTH: Final = "attention.value_length"
    Q_LORA_RANK: Final = "attention.q_lora_rank"
    KV_LORA_RANK: Final = "attention.kv_lora_rank"
    KEY_LENGTH_MLA: Final = "attention.key_length_mla"
    VALUE_LENGTH_MLA: Final = "attention.value_length_mla"
    TEMPERATURE_SCALE: Final = "attention.temperature_scale"
    TEMPERATURE_LENGTH: Final = "attention.temperature_length"
    KEY_LENGTH_SWA: Final = "attention.key_length_swa"
    VALUE_LENGTH_SWA: Final = "attention.value_length_swa"
    LAYER_NORM_RMS_EPSILON: Final = "attention.layer_norm_rms_epsilon"
    ATTENTION_SCALE: Final = "attention.scale"
    CAUSAL: Final = "attention.causal"
    SLIDING_WINDOW: Final = "attention.sliding_window"
    SLIDING_WINDOW_PATTERN: Final = "attention.sliding_window_pattern"
    ROPE_PATTERN: Final = "attention.rope_pattern"
    ROPE_DIMENSION_COUNT: Final = "rope.dimension_count"
    ROPE_DIMENSION_COUNT_SWA: Final = "rope.dimension_count_swa"
    ROPE_FREQ_BASE: Final = "rope.freq_base"
    ROPE_FREQ_BASE_SWA: Final = "rope.freq_base_swa"
    ROPE_SCALE_LINEAR: Final = "rope.scale_linear"
    ROPE_SCALING_TYPE: Final = "rope.scaling.type"
    ROPE_SCALING_FACTOR: Final = "rope.scaling.factor"
    ROPE_SCALING_ALPHA: Final = "rope.scaling.alpha"
    ROPE_SCALING_ATTENTION_FACTOR: Final = "rope.scaling.attn_factor"
    ROPE_SCALING_FINETUNED: Final = "rope.scaling.finetuned"
    ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH: Final = "rope.scaling.original_context_length"
    ROPE_SCALING_YARN_BETA_FAST: Final = "rope.scaling.yarn_beta_fast"
    ROPE_SCALING_YARN_BETA_SLOW: Final = "rope.scaling.yarn_beta_slow"
    ROPE_SCALING_YARN_LOG_MULTIPLIER: Final = "rope.scaling.yarn_log_multiplier"


class TokenizerKey:
    """Keys of the vocabulary; further ids of single pieces begin with `PREFIX` and end with `ID_SUFFIX`."""

    PREFIX: Final = "tokenizer.ggml."
    ID_SUFFIX: Final = "_token_id"
    MODEL: Final = "tokenizer.ggml.model"
    PRE: Final = "tokenizer.ggml.pre"
    TOKENS: Final = "tokenizer.ggml.tokens"
    SCORES: Final = "tokenizer.ggml.scores"
    TOKEN_TYPE: Final = "tokenizer.ggml.token_type"
    TOKEN_TYPE_COUNT: Final = "tokenizer.ggml.token_type_count"
    MERGES: Final = "tokenizer.ggml.merges"
    BOS_ID: Final = "tokenizer.ggml.bos_token_id"
    EOS_ID: Final = "tokenizer.ggml.eos_token_id"
    EOT_ID: Final = "tokenizer.ggml.eot_token_id"
    EOM_ID: Final = "tokenizer.ggml.eom_token_id"
    UNKNOWN_ID: Final = "tokenizer.ggml.unknown_token_id"
    PADDING_ID: Final = "tokenizer.ggml.padding_token_id"
    SEPARATOR_ID: Final = "tokenizer.ggml.seperator_token_id"  # llama.cpp's spelling
    MASK_ID: Final = "tokenizer.ggml.mask_token_id"
    ADD_BOS: Final = "tokenizer.ggml.add_bos_token"
    ADD_EOS: Final = "tokenizer.ggml.add_eos_token"
    ADD_SEP: Final = "tokenizer.ggml.add_sep_token"
    ADD_SPACE_PREFIX: Final = "tokenizer.ggml.add_space_prefix"
    REMOVE_EXTRA_WHITESPACES: Final = "tokenizer.ggml.remove_extra_whitespaces"
    SUPPRESS_TOKENS: Final = "tokenizer.ggml.suppress_tokens"
    PRECOMPILED_CHARSMAP: Final = "tokenizer.ggml.precompiled_charsmap"
    NORMALIZER_LOWERCASE: Final = "tokenizer.ggml.normalizer.lowercase"
    NORMALIZER_STRIP_ACCENTS: Final = "tokenizer.ggml.normalizer.strip_accents"
    CHAT_TEMPLATE: Final = "tokenizer.chat_template"  # the default one; `{CHAT_TEMPLATE}.{name}` for each other
    CHAT_TEMPLATES: Final = "tokenizer.chat_templates"  # the names of the others


class AdapterKey:
    """Keys of a LoRA adapter's file."""

    TYPE: Final = "adapter.type"
    LORA_ALPHA: Final = "adapter.lora.alpha"
    INVOCATION_TOKENS: Final = "adapter.alora.invocation_tokens"


class ImatrixKey:
    """Keys of an importance matrix's own file, and what a quantized model notes of the matrix it was made with."""

    DATASETS: Final = "imatrix.datasets"
    CHUNK_COUNT: Final = "imatrix.chunk_count"
    CHUNK_SIZE: Final = "imatrix.chunk_size"
    NOTE_PREFIX: Final = "quantize.imatrix."
    NOTE_FILE: Final = "quantize.imatrix.file"
    NOTE_DATASET: Final = "quantize.imatrix.dataset"
    NOTE_ENTRIES_COUNT: Final = "quantize.imatrix.entries_count"
    NOTE_CHUNKS_COUNT: Final = "quantize.imatrix.chunks_count"


class MistralChatKey:
    """Keys that this program writes for itself; llama.cpp ignores them."""

    PROMPT_FORMAT: Final = "mistral_chat.prompt_format"
    TOKENIZER_VERSION: Final = "mistral_chat.tokenizer_version"  # where its prompt format was not known
    MODEL_SETTINGS: Final = "mistral_chat.model_settings"  # tekken.json's `model_settings_builder` as JSON
    SYSTEM_PROMPT: Final = "mistral_chat.system_prompt"  # the release's own; `{today}` and `{yesterday}` are dates
    SLIDING_WINDOW: Final = "mistral_chat.sliding_window"  # tokens the model was made with; 0 for none
    SLIDING_WINDOW_PATTERN: Final = "mistral_chat.sliding_window_pattern"  # a flag per layer; absent where all have it
    SOURCE: Final = "mistral_chat.source"
    SOURCE_SHA256: Final = "mistral_chat.source_sha256"
    TEKKEN_PATTERN: Final = "mistral_chat.tekken_pattern"
    END_IDS: Final = "mistral_chat.end_token_ids"  # all ids that end an answer, where llama.cpp's keys have no room
    SPACE_PREFIX: Final = "mistral_chat.space_prefix"  # a value of `SpacePrefix`
    NORMAL_FORM: Final = "mistral_chat.normal_form"  # that a text gets before it is encoded: NFC
    FILLER: Final = "mistral_chat.filler"  # pads a header that was changed in place


class SpacePrefix:
    """Where a space goes before a text, if not before every text between control pieces as SentencePiece does it.

    A text that Mistral's own formats encode on its own has one in any case.
    """

    FIRST: Final = "first"  # before the first text of a prompt, unless it begins with a space
    MISSING: Final = "missing"  # before every text that does not begin with a space
    NEVER: Final = "never"  # before none
