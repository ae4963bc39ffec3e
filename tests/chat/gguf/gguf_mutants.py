"""Seeded mutants of valid GGUF files: each breaks a structure. For tests only."""

from __future__ import annotations

import copy
import math
import struct
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

from tests.chat.gguf.gguf_sketch import ARRAY, LETTERS, STRING, Key, Sketch, Tensor, encode, sketch, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

COUNTS = (0, 1, 2, 3, 5, 31, 33, 511, 512, 513, 1024, 1025, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
HUGE = (2**32, 2**40, 2**53, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 1e30, 3e38, math.inf, -math.inf, math.nan)
TEXTS = ("", "llama", "granite_swa", "clip", "gpt2", "bert", "none", "adapter", "lora", "yarn", "longrope", "odd", "\0")
NAMES = (
    *("output.weight", "token_embd.weight", "rope_freqs.weight", "blk.0.attn_q.bias", "blk.1.ffn_gate_inp.weight"),
    *("v.blk.0.attn_q.bias", "v.post_ln.weight", "v.position_embd.weight", "mm.1.bias", "mm.input_norm.weight"),
    *("cls.weight", "token_types.weight", "position_embd.weight"),
)
KEYS: tuple[tuple[str, int], ...] = (
    ("general.alignment", 4),
    ("split.count", 2),
    ("expert_count", 4),
    ("expert_used_count", 4),
    ("expert_group_count", 4),
    ("nextn_predict_layers", 4),
    ("pooling_type", 4),
    ("attention.causal", 7),
    ("attention.sliding_window", 4),
    ("attention.key_length_swa", 4),
    ("attention.scale", 6),
    ("rope.dimension_count_swa", 4),
    ("rope.scaling.type", 8),
    ("rope.scaling.factor", 6),
    ("rope.scaling.original_context_length", 4),
    ("embedding_length_out", 4),
    ("deepstack_mapping", 9),
    ("residual_scale", 6),
    ("embedding_scale", 6),
    ("expert_shared_feed_forward_length", 4),
    ("expert_feed_forward_length", 4),
    ("expert_shared_count", 4),
    ("expert_gating_func", 4),
    ("leading_dense_block_count", 4),
    ("attention.q_lora_rank", 4),
    ("attention.kv_lora_rank", 4),
    ("attention.key_length_mla", 4),
    ("attention.value_length_mla", 4),
    ("attention.temperature_scale", 6),
    ("attention.temperature_length", 4),
    ("rope.scaling.yarn_beta_fast", 6),
    ("rope.scaling.yarn_log_multiplier", 6),
    ("tokenizer.ggml.add_bos_token", 7),
    ("tokenizer.ggml.add_space_prefix", 7),
    ("tokenizer.ggml.suppress_tokens", 9),
    ("tokenizer.ggml.eot_token_id", 4),
    ("attention.layer_norm_epsilon", 6),
    ("tokenizer.ggml.token_type_count", 4),
    ("tokenizer.ggml.seperator_token_id", 4),
)
PICTURE_KEYS: tuple[tuple[str, int], ...] = (
    ("projector_type", 8),
    ("vision.projector_type", 8),
    ("has_audio_encoder", 7),
    ("has_gen_audio_encoder", 7),
    ("use_gelu", 7),
    ("use_silu", 7),
    ("minicpmv_version", 4),
    ("minicpmv_query_num", 4),
    ("vision.attention.head_count_kv", 4),
    ("vision.attention.head_dim", 4),
    ("vision.spatial_merge_size", 4),
    ("vision.feature_layer", 9),
    ("vision.image_grid_pinpoints", 9),
    ("vision.wa_layer_indexes", 9),
    ("vision.projector.spatial_offsets", 9),
    ("vision.wa_pattern_mode", 9),
    ("vision.mm_patch_merge_type", 8),
    ("vision.n_wa_pattern", 4),
    ("vision.window_size", 4),
    ("vision.image_min_pixels", 4),
    ("vision.image_max_pixels", 4),
    ("vision.preproc_image_size", 4),
    ("vision.preproc_min_tiles", 4),
    ("vision.preproc_max_tiles", 4),
    ("vision.projector.scale_factor", 4),
    ("vision.projector.query_side", 4),
    ("vision.expert_used_count", 4),
    ("vision.swiglu_clamp", 6),
)


def number(random: Random, letter: str, old: float | int | None = None) -> float | int:
    """Some number that fits the struct letter, often near a limit or near the old one."""
    if letter in "fd":
        return random.choice((*FLOATS, random.uniform(-2, 2)))
    size = 8 * struct.calcsize(letter)
    near = () if old is None else (int(old) + 1, int(old) - 1, int(old) * 2, int(old) // 2)
    value = random.choice((*COUNTS, *HUGE, *near, *near, random.randrange(100)))
    low = -(1 << (size - 1)) if letter.islower() else 0
    return low + (value - low) % (1 << size)


def some_value(random: Random, kind: int) -> bytes:
    """Some value of a type, in bytes."""
    if kind == STRING:
        return text(random.choice((*[one.encode() for one in TEXTS], b"\xff\xfe", b"x" * random.randrange(300))))
    if kind == ARRAY:
        item = random.choice((0, 4, 5, 6, 7, 8, 8, 9, 12))
        count = random.choice((0, 1, 2, 2, 3, 262, 270, 511, 513))
        if item == ARRAY:
            return encode(ARRAY, (ARRAY, [(4, [1, 2])]))
        if item == STRING:
            return encode(ARRAY, (STRING, [f"p{random.randrange(400)}" for _ in range(count)]))
        return encode(
            ARRAY,
            (
                item,
                [
                    number(random, LETTERS[item]) % 2 if item == 7 else number(random, LETTERS[item])
                    for _ in range(count)
                ],
            ),
        )
    if kind == 7:
        return bytes([random.choice((0, 1, 2, 255))])
    return encode(kind, number(random, LETTERS.get(kind, "I"))) if kind in LETTERS else bytes(random.randrange(20))


def _header(random: Random, file: Sketch) -> None:
    change = random.randrange(5)
    if change == 0:
        file.magic = random.choice((b"FUGG", b"GGML", b"PK\x03\x04", b"<htm", b"\0\0\0\0", b"gguf"))
    elif change == 1:
        file.version = random.choice((0, 1, 2, 4, 0x03000000, 2**32 - 1))
    elif change == 2:
        file.key_count = int(number(random, "Q", len(file.keys)))
    elif change == 3:
        file.tensor_count = int(number(random, "Q", len(file.tensors)))
    else:
        file.alignment = random.choice((1, 8, 16, 64, 128))


def _key_value(random: Random, file: Sketch) -> None:
    key = random.choice(file.keys)
    if key.kind in LETTERS:
        old = struct.unpack("<" + LETTERS[key.kind], key.raw)[0]
        key.raw = encode(key.kind, number(random, LETTERS[key.kind], old if old == old else 0))
    else:
        key.raw = some_value(random, key.kind)


def _key_kind(random: Random, file: Sketch) -> None:
    key = random.choice(file.keys)
    key.kind = random.choice((*range(13), 13, 255, 2**32 - 1))
    if random.random() < 0.8:
        key.raw = some_value(random, key.kind)


def _key_place(random: Random, file: Sketch) -> None:
    key = random.choice(file.keys)
    change = random.randrange(4)
    if change == 0:
        file.keys.remove(key)
    elif change == 1:
        file.keys.insert(random.randrange(len(file.keys)), copy.deepcopy(key))
    elif change == 2:
        key.name = random.choice((b"", b"\xff", key.name + b"\0", key.name[:-1], b"x" * 70_000, b"odd.key"))
    else:
        random.shuffle(file.keys)


def _key_new(random: Random, file: Sketch) -> None:
    own = next((key.value for key in file.keys if key.name == b"general.architecture"), "llama")
    name, kind = random.choice(PICTURE_KEYS if own == "clip" else KEYS)
    if not name.startswith(("general.", "tokenizer.", "split.")):
        name = f"{random.choice((own, own, 'llama', 'granite_swa'))}.{name}"
    if random.random() < 0.1:
        kind = random.choice((*LETTERS, STRING, ARRAY))
    file.keys.append(Key(name.encode(), kind, some_value(random, kind)))


def _array(random: Random, file: Sketch) -> None:
    """An array longer or shorter, with a lying count or kind, with one item changed, or with equal items."""
    arrays = [key for key in file.keys if key.kind == ARRAY]
    if not arrays:
        return
    key = random.choice(arrays)
    item, count = struct.unpack("<IQ", key.raw[:12])
    change = random.randrange(5)
    if change == 4 and item in LETTERS and count < 1 << 16:
        value = number(random, LETTERS[item])
        key.raw = encode(ARRAY, (item, [value % 2 if item == 7 else value] * count))
    elif change in (0, 4):
        key.raw = struct.pack("<IQ", item, int(number(random, "Q", count))) + key.raw[12:]
    elif change == 1:
        key.raw = struct.pack("<IQ", random.choice((0, 5, 6, 7, 8, 9, 10, 13)), count) + key.raw[12:]
    else:
        items = list(key.value)
        if change == 2 and items:
            place = random.randrange(len(items))
            odd = number(random, LETTERS[item]) if item in LETTERS else random.choice((items[place - 1], *TEXTS))
            items[place] = odd % 2 if item == 7 else odd
        elif items:
            items = items[: random.randrange(len(items))] if random.random() < 0.5 else items + items[:1]
        key.raw = encode(ARRAY, (item, items))


def _tensor(random: Random, file: Sketch) -> None:
    tensor = random.choice(file.tensors)
    change = random.randrange(8)
    if change == 0:
        place = random.randrange(len(tensor.shape))
        tensor.shape[place] = int(number(random, "Q", tensor.shape[place]))
    elif change == 1:
        tensor.kind = random.choice((*range(45), 255, 2**32 - 1))
    elif change == 2:
        tensor.offset = int(number(random, "Q", 32 * random.randrange(20)))
    elif change == 3:
        tensor.dimensions = random.choice((0, 1, 2, 3, 4, 5, 2**32 - 1))
    elif change == 4:
        tensor.name = random.choice((b"", b"x" * 64, b"\xff", b"a\0b", *[name.encode() for name in NAMES]))
    elif change == 5:
        tensor.shape = tensor.shape[::-1]
    elif change == 6:
        tensor.shape = [*tensor.shape, *[1] * random.randrange(3)]
    else:
        tensor.shape = [math.prod(tensor.shape)]


def _tensor_place(random: Random, file: Sketch) -> None:
    tensor = random.choice(file.tensors)
    change = random.randrange(4)
    if change == 0:
        file.tensors.remove(tensor)
    elif change == 1:
        file.tensors.insert(random.randrange(len(file.tensors)), copy.deepcopy(tensor))
    elif change == 2:
        random.shuffle(file.tensors)
    else:
        name = random.choice(NAMES).encode()
        file.tensors.append(Tensor(name, [64], 0, bytes(256)))


def _tensor_kind(random: Random, file: Sketch) -> None:
    """A tensor of another type, with as many bytes as that type takes, so that only rules about types can object."""
    tensor = random.choice(file.tensors)
    kind, size, taken = random.choice(
        (
            (0, 1, 4),
            (1, 1, 2),
            (2, 32, 18),
            (8, 32, 34),
            (9, 32, 36),
            (24, 1, 1),
            (25, 1, 2),
            (26, 1, 4),
            (27, 1, 8),
            (28, 1, 8),
            (30, 1, 2),
            (20, 32, 18),
            (39, 32, 17),
            (40, 64, 36),
            (42, 64, 18),
        )
    )
    if math.prod(tensor.shape) > 1 << 20:
        return
    tensor.kind = kind
    tensor.data = random.randbytes(math.prod(tensor.shape) // size * taken)


def _weights(random: Random, file: Sketch) -> None:
    """Any bits as weights, NaN and infinity among them: no framing rule is broken."""
    tensor = random.choice(file.tensors)
    tensor.data = random.choice(
        (random.randbytes(len(tensor.data)), b"\xff" * len(tensor.data), bytes(len(tensor.data)))
    )


def _sizes(random: Random, file: Sketch) -> None:
    """A size key and all tensors' claims left as they are: the two no longer agree."""
    names = ("block_count", "embedding_length", "head_count", "head_count_kv", "key_length", "feed_forward_length")
    names += ("_lora_rank", "_mla", "rope.dimension_count", "value_length", "leading_dense_block_count", "_count")
    names += ("projection_dim", "image_size", "patch_size", "merge_size", "context_length", "pooling_type")
    keys = [key for key in file.keys if key.name.decode("latin-1").endswith(names)]
    if keys:
        key = random.choice(keys)
        key.kind, key.raw = 4, encode(4, random.choice((0, 1, 2, 3, 4, 8, 16, 32, 64, 128, 513, 2**31, 2**32 - 1)))


def _bytes(random: Random, file: Sketch) -> None:
    change = random.randrange(4)
    if change == 0:
        file.cut = random.randrange(len(file.pack()))
    elif change == 1:
        file.cut = -random.randrange(1, 200)
    elif change == 2:
        file.tail = random.randbytes(random.randrange(100))
    else:
        head = len(file.pack()) - sum(len(tensor.data) for tensor in file.tensors)
        for _ in range(random.randrange(1, 4)):
            file.patches.append((random.randrange(max(head, 1)), random.randbytes(random.choice((1, 1, 4, 8)))))


CHANGES: tuple[tuple[Callable[[Random, Sketch], None], int], ...] = (
    (_header, 1), (_key_value, 6), (_key_kind, 2), (_key_place, 2), (_key_new, 4), (_array, 4), (_tensor, 4),
    (_tensor_place, 2), (_tensor_kind, 3), (_weights, 1), (_sizes, 3), (_bytes, 3),
)  # fmt: skip


def mutants(samples: Mapping[str, bytes], count: int, seed: int, first: int = 0) -> Iterator[tuple[str, bytes]]:
    """`count` mutants from the `first` on, each with a name that says what was done to what.

    They are equal for equal arguments.
    """
    sketches = {name: sketch(raw) for name, raw in samples.items()}
    changes, weights = zip(*CHANGES, strict=True)
    for place in range(first, first + count):
        random = Random(f"{seed}/{place}")
        name = random.choice(list(sketches))
        file = sketches[name].copy()
        done = random.choices(changes, weights, k=random.choice((1, 1, 1, 2, 3)))
        for change in done:
            if file.keys and file.tensors:
                with suppress(
                    struct.error, ValueError, KeyError, TypeError
                ):  # an earlier change broke what this one would change
                    change(random, file)
        yield f"{place}: {name}{''.join(change.__name__ for change in done)}", file.pack()
