"""The names of GGUF metadata keys and of the architectures that this program runs for certain.

Sources: ggml's specification of GGUF and llama.cpp's src/llama-arch.cpp; the keys in `MistralChatKey` are our own.
The comment after a key describes it on the site, too: docs/generate/gguf_keys.py.
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

# turn a text into one vector, and answer nothing
ENCODER_ARCHITECTURES: Final = (
    *("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3"),
    *("modern-bert", "neo-bert", "eurobert", "gemma-embedding", "llama-embed"),
)


def has_direct_queries(layers: int, pieces: int) -> bool:
    """Whether llama.cpp expects latent attention without a latent vector of queries, whatever the file says.

    It tells DeepSeek V2 Lite and its kin by the number of layers (models/deepseek2.cpp, `is_lite`).
    """
    return layers in (26, 27) or (layers, pieces) == (48, 128256)


MODEL_FILE: Final = "model"  # values of `GeneralKey.TYPE`
ADAPTER_FILE: Final = "adapter"
PICTURE_ENCODER_FILE: Final = "mmproj"
PICTURE_ARCHITECTURE: Final = "clip"  # of a picture encoder


class GeneralKey:
    """Keys of every GGUF."""

    ARCHITECTURE: Final = "general.architecture"  # the graph to build, such as llama; it prefixes the keys of sizes
    TYPE: Final = "general.type"  # what the file is: model, adapter or mmproj
    NAME: Final = "general.name"  # the model's name for people
    BASENAME: Final = "general.basename"  # the name without its size and its kind
    FINETUNE: Final = "general.finetune"  # what the base was tuned for, such as Instruct
    SIZE_LABEL: Final = "general.size_label"  # the size as part of a name, such as 7B
    ALIGNMENT: Final = "general.alignment"  # tensors begin at multiples of so many bytes; 32 if missing
    QUANTIZATION_VERSION: Final = "general.quantization_version"  # of ggml's block formats
    FILE_TYPE: Final = "general.file_type"  # the number of the type of most tensors, in llama.cpp's list
    TENSOR_EXTRA_NAME: Final = "general.tensor_extra.name"  # tensors with instructions of their own for llama.cpp
    TENSOR_EXTRA_PREC_A4: Final = "general.tensor_extra.prec_a4"  # which of them take activations of 4 bits


class SplitKey:
    """Keys of one part of a model in several files."""

    NUMBER: Final = "split.no"  # which part this is, from 0
    COUNT: Final = "split.count"  # how many parts there are
    TENSOR_COUNT: Final = "split.tensors.count"  # the tensors of all parts together


class ModelKey:
    """Keys of a model's sizes, each below `{architecture}.`; `GgufFile.key` reads them."""

    VOCABULARY_SIZE: Final = "vocab_size"  # tokens in the vocabulary
    CONTEXT_LENGTH: Final = "context_length"  # the longest text that the model was made for, in tokens
    EMBEDDING_LENGTH: Final = "embedding_length"  # the width of the hidden state
    EMBEDDING_LENGTH_OUT: Final = "embedding_length_out"  # the width of an embedding model's result
    BLOCK_COUNT: Final = "block_count"  # layers
    NEXTN_PREDICT_LAYERS: Final = "nextn_predict_layers"  # layers at the end that predict further tokens
    FEED_FORWARD_LENGTH: Final = "feed_forward_length"  # the width of a dense feed-forward part
    POOLING_TYPE: Final = "pooling_type"  # how an embedding model joins the states of a text
    CLASSIFIER_POOLING_TYPE: Final = "classifier.pooling_type"  # how a classifier joins the states of a text
    CLASSIFIER_OUTPUT_LABELS: Final = "classifier.output_labels"  # the classes of a classifier
    DEEPSTACK_MAPPING: Final = "deepstack_mapping"  # which layers get further states of a picture
    LOGIT_SCALE: Final = "logit_scale"  # the logits are divided by it (Granite)
    EMBEDDING_SCALE: Final = "embedding_scale"  # a factor of the token embeddings (Granite)
    RESIDUAL_SCALE: Final = "residual_scale"  # a factor of what each part adds to the hidden state (Granite)
    EXPERT_COUNT: Final = "expert_count"  # experts in a layer
    EXPERT_USED_COUNT: Final = "expert_used_count"  # experts that a token is sent to
    EXPERT_GROUP_COUNT: Final = "expert_group_count"  # groups that the experts are divided into
    EXPERT_GROUP_USED_COUNT: Final = "expert_group_used_count"  # groups that a token may choose experts from
    EXPERT_GATING_FUNCTION: Final = "expert_gating_func"  # how the router's scores become weights: 1 softmax, 2 sigmoid
    EXPERT_WEIGHTS_SCALE: Final = "expert_weights_scale"  # a factor of the chosen experts' weights
    EXPERT_WEIGHTS_NORM: Final = "expert_weights_norm"  # whether the chosen experts' weights add up to 1
    EXPERT_FEED_FORWARD_LENGTH: Final = "expert_feed_forward_length"  # the width of an expert
    EXPERT_SHARED_COUNT: Final = "expert_shared_count"  # experts that every token is sent to
    LEADING_DENSE_BLOCK_COUNT: Final = "leading_dense_block_count"  # layers at the front without experts
    EXPERT_SHARED_FEED_FORWARD_LENGTH: Final = "expert_shared_feed_forward_length"  # the width of the shared experts
    HEAD_COUNT: Final = "attention.head_count"  # heads of queries
    HEAD_COUNT_KV: Final = "attention.head_count_kv"  # heads of keys and values; fewer in grouped-query attention
    KEY_LENGTH: Final = "attention.key_length"  # the width of a head's keys
    VALUE_LENGTH: Final = "attention.value_length"  # the width of a head's values
    Q_LORA_RANK: Final = "attention.q_lora_rank"  # the width of the latent queries (latent attention)
    KV_LORA_RANK: Final = "attention.kv_lora_rank"  # the width of the latent keys and values (latent attention)
    KEY_LENGTH_MLA: Final = "attention.key_length_mla"  # the width of a head's keys after expansion
    VALUE_LENGTH_MLA: Final = "attention.value_length_mla"  # the width of a head's values after expansion
    TEMPERATURE_SCALE: Final = "attention.temperature_scale"  # how much the attention is sharpened far into a text
    TEMPERATURE_LENGTH: Final = "attention.temperature_length"  # the position from which it is sharpened
    KEY_LENGTH_SWA: Final = "attention.key_length_swa"  # the width of a head's keys in layers with a window
    VALUE_LENGTH_SWA: Final = "attention.value_length_swa"  # the width of a head's values in layers with a window
    LAYER_NORM_EPSILON: Final = "attention.layer_norm_epsilon"  # added to the variance in a norm
    LAYER_NORM_RMS_EPSILON: Final = "attention.layer_norm_rms_epsilon"  # added to the mean square in a norm
    ATTENTION_SCALE: Final = "attention.scale"  # a factor of the scores; 1/sqrt(width of a head) if missing
    CAUSAL: Final = "attention.causal"  # whether a token sees only what is before it
    SLIDING_WINDOW: Final = "attention.sliding_window"  # how many tokens back a token sees, itself included
    SLIDING_WINDOW_PATTERN: Final = "attention.sliding_window_pattern"  # whether a layer has the window
    ROPE_PATTERN: Final = "attention.rope_pattern"  # for each layer whether it has rotary positions
    ROPE_DIMENSION_COUNT: Final = "rope.dimension_count"  # the numbers of a head that are rotated
    ROPE_DIMENSION_COUNT_SWA: Final = "rope.dimension_count_swa"  # the numbers that are rotated in layers with a window
    ROPE_FREQ_BASE: Final = "rope.freq_base"  # the base of the rotary frequencies
    ROPE_FREQ_BASE_SWA: Final = "rope.freq_base_swa"  # the base in layers with a window
    ROPE_SCALE_LINEAR: Final = "rope.scale_linear"  # the old spelling of a linear scaling factor
    ROPE_SCALING_TYPE: Final = "rope.scaling.type"  # how positions are stretched: none, linear, yarn or longrope
    ROPE_SCALING_FACTOR: Final = "rope.scaling.factor"  # how far they are stretched
    ROPE_SCALING_ALPHA: Final = "rope.scaling.alpha"  # the factor of the NTK-aware stretching
    ROPE_SCALING_ATTENTION_FACTOR: Final = "rope.scaling.attn_factor"  # a factor of the attention
    ROPE_SCALING_FINETUNED: Final = "rope.scaling.finetuned"  # whether the model was trained with the stretching
    ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH: Final = "rope.scaling.original_context_length"  # tokens before it
    ROPE_SCALING_YARN_BETA_FAST: Final = "rope.scaling.yarn_beta_fast"  # above so many turns unchanged (YaRN)
    ROPE_SCALING_YARN_BETA_SLOW: Final = "rope.scaling.yarn_beta_slow"  # below so many turns stretched in full (YaRN)
    ROPE_SCALING_YARN_LOG_MULTIPLIER: Final = "rope.scaling.yarn_log_multiplier"  # scales the attention's factor (YaRN)


class TokenizerKey:
    """Keys of the vocabulary; further ids of single pieces begin with `PREFIX` and end with `ID_SUFFIX`."""

    PREFIX: Final = "tokenizer.ggml."  # how these keys begin
    ID_SUFFIX: Final = "_token_id"  # how the keys of single pieces end
    MODEL: Final = "tokenizer.ggml.model"  # the algorithm: llama for SentencePiece, gpt2 for byte-level merges (Tekken)
    PRE: Final = "tokenizer.ggml.pre"  # how a text is cut before merging: tekken, default, ...
    TOKENS: Final = "tokenizer.ggml.tokens"  # the text of each piece, by id
    SCORES: Final = "tokenizer.ggml.scores"  # the score of each piece (SentencePiece)
    TOKEN_TYPE: Final = "tokenizer.ggml.token_type"  # 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte
    TOKEN_TYPE_COUNT: Final = "tokenizer.ggml.token_type_count"  # kinds of segments (BERT)
    MERGES: Final = "tokenizer.ggml.merges"  # pairs of pieces in the order of merging
    BOS_ID: Final = "tokenizer.ggml.bos_token_id"  # the piece that begins a prompt
    EOS_ID: Final = "tokenizer.ggml.eos_token_id"  # the piece that ends an answer
    EOT_ID: Final = "tokenizer.ggml.eot_token_id"  # the piece that ends a turn
    EOM_ID: Final = "tokenizer.ggml.eom_token_id"  # the piece that ends a message which a tool's result follows
    UNKNOWN_ID: Final = "tokenizer.ggml.unknown_token_id"  # the piece for what has none
    PADDING_ID: Final = "tokenizer.ggml.padding_token_id"  # the piece that fills batches
    SEPARATOR_ID: Final = "tokenizer.ggml.seperator_token_id"  # the piece between two texts; llama.cpp's spelling
    MASK_ID: Final = "tokenizer.ggml.mask_token_id"  # the piece for a hidden one
    ADD_BOS: Final = "tokenizer.ggml.add_bos_token"  # whether a prompt begins with the first of them
    ADD_EOS: Final = "tokenizer.ggml.add_eos_token"  # whether a prompt ends with the end piece
    ADD_SEP: Final = "tokenizer.ggml.add_sep_token"  # whether a separator is added
    ADD_SPACE_PREFIX: Final = "tokenizer.ggml.add_space_prefix"  # whether a text gets a space before it
    REMOVE_EXTRA_WHITESPACES: Final = "tokenizer.ggml.remove_extra_whitespaces"  # whether runs of spaces become one
    SUPPRESS_TOKENS: Final = "tokenizer.ggml.suppress_tokens"  # ids that are never sampled
    PRECOMPILED_CHARSMAP: Final = "tokenizer.ggml.precompiled_charsmap"  # SentencePiece's table of normal forms
    NORMALIZER_LOWERCASE: Final = "tokenizer.ggml.normalizer.lowercase"  # whether letters are made small
    NORMALIZER_STRIP_ACCENTS: Final = "tokenizer.ggml.normalizer.strip_accents"  # whether accents are removed
    CHAT_TEMPLATE: Final = "tokenizer.chat_template"  # the default one; `{CHAT_TEMPLATE}.{name}` for each other
    CHAT_TEMPLATES: Final = "tokenizer.chat_templates"  # the names of the others


class AdapterKey:
    """Keys of a LoRA adapter's file."""

    TYPE: Final = "adapter.type"  # the kind of adapter: lora
    LORA_ALPHA: Final = "adapter.lora.alpha"  # the adapter's strength; its scale is this over its rank
    INVOCATION_TOKENS: Final = "adapter.alora.invocation_tokens"  # ids after which an activated LoRA takes effect


class PictureKey:
    """Keys of a picture encoder's file (clip-impl.h)."""

    PROJECTOR: Final = "clip.projector_type"  # how the encoder's output becomes tokens of the text part: pixtral
    VISION_PROJECTOR: Final = "clip.vision.projector_type"  # the same, where a file has encoders of several kinds
    HAS_VISION: Final = "clip.has_vision_encoder"  # whether there is an encoder of pictures
    HAS_AUDIO: Final = "clip.has_audio_encoder"  # whether there is an encoder of sound
    HAS_SPEECH: Final = "clip.has_gen_audio_encoder"  # whether there is an encoder of speech to generate
    GELU: Final = "clip.use_gelu"  # whether the feed-forward part uses GELU
    SILU: Final = "clip.use_silu"  # whether the feed-forward part uses SiLU
    SIDE: Final = "clip.vision.image_size"  # the longest side of a picture, in pixels
    PATCH: Final = "clip.vision.patch_size"  # the side of a patch, in pixels
    MERGE: Final = "clip.vision.spatial_merge_size"  # so many patches on each side become one token
    WIDTH: Final = "clip.vision.embedding_length"  # the width of the hidden state
    HIDDEN: Final = "clip.vision.feed_forward_length"  # the width of the feed-forward part
    LAYERS: Final = "clip.vision.block_count"  # layers
    HEADS: Final = "clip.vision.attention.head_count"  # heads of queries
    KV_HEADS: Final = "clip.vision.attention.head_count_kv"  # heads of keys and values
    HEAD_WIDTH: Final = "clip.vision.attention.head_dim"  # the width of a head
    TEXT_WIDTH: Final = "clip.vision.projection_dim"  # the width of the text part's hidden state
    EPSILON: Final = "clip.vision.attention.layer_norm_epsilon"  # added to the mean square in a norm
    MEAN: Final = "clip.vision.image_mean"  # of each colour, subtracted from the pixels
    DEVIATION: Final = "clip.vision.image_std"  # of each colour, by which the pixels are divided
    MINICPM_VERSION: Final = "clip.minicpmv_version"  # of MiniCPM-V, but libmtmd reads it for every kind
    MINICPM_QUERIES: Final = "clip.minicpmv_query_num"  # of MiniCPM-V, but libmtmd reads it for every kind
    MERGE_TYPE: Final = "clip.vision.mm_patch_merge_type"  # of LLaVA, but libmtmd reads it for every kind
    FEATURE_LAYERS: Final = "clip.vision.feature_layer"  # the layers whose states are used, where it is not the last


class ImatrixKey:
    """Keys of an importance matrix's own file, and what a quantized model notes of the matrix it was made with."""

    DATASETS: Final = "imatrix.datasets"  # the texts that were read
    CHUNK_COUNT: Final = "imatrix.chunk_count"  # how many chunks were read
    CHUNK_SIZE: Final = "imatrix.chunk_size"  # tokens in a chunk
    NOTE_PREFIX: Final = "quantize.imatrix."  # how the notes in a quantized model begin
    NOTE_FILE: Final = "quantize.imatrix.file"  # the matrix's file
    NOTE_DATASET: Final = "quantize.imatrix.dataset"  # the text that it was made with
    NOTE_ENTRIES_COUNT: Final = "quantize.imatrix.entries_count"  # the tensors that it has values for
    NOTE_CHUNKS_COUNT: Final = "quantize.imatrix.chunks_count"  # the chunks that it was made with


class MistralChatKey:
    """Keys that this program writes for itself; llama.cpp ignores them."""

    PROMPT_FORMAT: Final = "mistral_chat.prompt_format"  # how messages become tokens: v1, v2, v3, v3-tekken, v7, ...
    TOKENIZER_VERSION: Final = "mistral_chat.tokenizer_version"  # the tokenizer's version, if its format is unknown
    MODEL_SETTINGS: Final = "mistral_chat.model_settings"  # tekken.json's `model_settings_builder` as JSON
    SYSTEM_PROMPT: Final = "mistral_chat.system_prompt"  # the release's own; `{today}` and `{yesterday}` are dates
    SLIDING_WINDOW: Final = "mistral_chat.sliding_window"  # tokens the model was made with; 0 for none
    SLIDING_WINDOW_PATTERN: Final = "mistral_chat.sliding_window_pattern"  # a flag per layer; absent where all have it
    SOURCE: Final = "mistral_chat.source"  # the repository or the folder that the file was converted from
    SOURCE_SHA256: Final = "mistral_chat.source_sha256"  # a hash of that checkpoint: sizes, and samples of its tensors
    TEKKEN_PATTERN: Final = "mistral_chat.tekken_pattern"  # cuts a text before merging, where it is not Tekken's own
    END_IDS: Final = "mistral_chat.end_token_ids"  # all ids that end an answer, where llama.cpp's keys have no room
    SPACE_PREFIX: Final = "mistral_chat.space_prefix"  # where a space goes before a text: first, missing, never
    NORMAL_FORM: Final = "mistral_chat.normal_form"  # the Unicode normal form of texts before they are encoded: NFC
    MMPROJ: Final = "mistral_chat.mmproj"  # the name of the picture encoder's file that was written beside the model
    MMPROJ_SHA256: Final = "mistral_chat.mmproj_sha256"  # of the picture encoder, the same in both files
    FILLER: Final = "mistral_chat.filler"  # pads a header that was changed in place


class SpacePrefix:
    """Where a space goes before a text, if not before every text between control pieces as SentencePiece does it.

    A text that Mistral's own formats encode on its own has one in any case.
    """

    FIRST: Final = "first"  # before the first text of a prompt, unless it begins with a space
    MISSING: Final = "missing"  # before every text that does not begin with a space
    NEVER: Final = "never"  # before none
