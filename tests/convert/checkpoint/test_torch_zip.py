"""Archives of more than 4 GiB, whose sizes and places need 64 bits: what PyTorch wrote, as sparse files."""

from __future__ import annotations

import struct
import zlib
from base64 import b85decode
from pathlib import Path

import numpy as np
import pytest

from chat.errors import DataError
from convert.checkpoint.rows import MappedRows
from convert.checkpoint.torch_file import open_torch

# PyTorch 2.13's `torch.save` of `first.weight` [4, 8], `big.weight` [65537, 32768] and `last.weight` [16, 32], all
# bfloat16, under `torch.serialization.skip_data()`: all but the zeros of `big.weight`, which are between the two.
HEAD_BYTES, BIG_BYTES = 1088, 2 * 65537 * 32768
WRITTEN = zlib.decompress(
    b85decode(
        "c-rk&-A~g{6hH08=(>TRe2Aza`Z5z4-RQ<<1hg?Tu_4Z>$->K0wz5{r#_jGPnwXFnm*AuC`s$zHzoBnF_~w&O{t0?-KStYq5a3Y`=^AeC@8jm4o^"
        "y(FC=9@H&=X@Y4cp3&x>QrJlHA)d3eqHO2IG)@iy%>s6Tr4^ws7)5)$1BYOcgiHs+O#@v2L{Zim7h3b)#0nYNOROEBk34v57=^l;B!qr&3o@$cFG"
        "z!DuQtm3?ln^C(<q$Tk6ultbiQ-D{(WynxZ@Ga2Nt%ykeab28IG(W7d$X&7o1>&-@se`?lLQ>{JHtC&apof3*+6fdE%GEZ2x^tx+xTq91jkY>xI&"
        "?PPMVFV7zA4U^I;|T){Y`|d$O_E<Kboof5d{;1<Dxv9ejKB=#`0O)2!Ze!IA{)SBbd?&OkQX{=PF|oq*KD47jINi^jdrpqk8*1-ZW|i}N1x)r%b9"
        "|deL2bPrn#%&%D!s0$f*m`V(%Rdixk!T`se36YLz~NHD}?Tqv_mOMKSbxV^?k9f|Na-Y&WtZHL!kwezQb^9co}4B-_B&Ypgcu?G~i9GwQlw=olL+"
        "_3(c6*Ib0CM232Z!NcRPVo4}StLHNS=M3tcz8^TxFz1gw&QlCbSU1jiwiKkL)1JoFKc-?%NTV36dwirB;Gi6~L1)m1i@1o3_-~_If5Of}*j*n~f8"
        "wxa*B_^4(gO5@a|=-Nlm%#+rw+b<uD@g*eilx0Fb|7PBehCkOEq=UN#7`RY^mrqYG^a+8oDvukdPDeVlI~xSMu46Am&z<GlGy2(n4O$EQ>-eBV_Y"
        "AF`K0>U)}$5E8%!ZbX_u*Vb`a3{21$T?wbdLQ128m<%4}<pzpL2Wblpwvp$AN76#28K@x8tANP@bbV<7NLlEojq%j|MCIsHT-w*iLiJ0&7-+aJ8+"
        "jV<oFPW9cVd^3deu)9SGf3j5Bx|L7Uy?o_K#;{vnS_<LeOXRU;-Vah+;w0#LyKLCXy9FQKOMe{8@1Ns_W$<UNW{iOt^L#nz&|Bkx>N"
    )
)
HEAD, TAIL = WRITTEN[:HEAD_BYTES], WRITTEN[HEAD_BYTES:]
TAIL_AT = HEAD_BYTES + BIG_BYTES


def archive(folder: Path, tail: bytes = TAIL, size: int | None = None) -> Path:
    """The archive as a sparse file, which takes no space on the disk."""
    path = folder / "consolidated.00.pth"
    with path.open("wb") as file:
        file.write(HEAD)
        file.seek(TAIL_AT)
        file.write(tail)
        file.truncate(size)
    return path


def test_tensors_of_and_behind_4_gib_lie_where_pytorch_put_them(tmp_path: Path) -> None:
    path = archive(tmp_path)
    assert path.stat().st_size > 1 << 32 > path.stat().st_blocks * 512 * 1000
    file = open_torch(path)
    places = {name: (entry.shape, entry.offset, entry.nbytes) for name, entry in file.tensors.items()}
    assert places == {
        "first.weight": ((4, 8), 896, 64),
        "big.weight": ((65537, 32768), HEAD_BYTES, BIG_BYTES),
        "last.weight": ((16, 32), 4295034048, 1024),
    }
    ones = np.full(8, 0x3F80, "<u2").tobytes()  # bfloat16
    with path.open("r+b") as raw:
        for at in (896, HEAD_BYTES + BIG_BYTES - 16, 4295034048 + 1024 - 16):
            raw.seek(at)
            raw.write(ones)
    last_rows = {name: MappedRows(file, entry) for name, entry in file.tensors.items()}
    assert last_rows["first.weight"].read(0, 1).tolist() == [[1.0] * 8]
    assert last_rows["big.weight"].read(65536, 65537)[0, -9:].tolist() == [0.0] + [1.0] * 8
    assert last_rows["last.weight"].read(15, 16)[0, -9:].tolist() == [0.0] + [1.0] * 8


def changed(old: bytes, new: bytes) -> bytes:
    """The tail with something else in its directory, which comes last."""
    assert len(old) == len(new)
    at = TAIL.rindex(old)
    return TAIL[:at] + new + TAIL[at + len(old) :]


SIZES = struct.pack("<HH2Q", 1, 16, BIG_BYTES, BIG_BYTES)  # the extra field of `data/1` in the directory
LAST_AT = struct.pack("<HHQ", 1, 8, 4295033944)  # that of `data/2`


def sizes(unpacked: int, packed: int) -> bytes:
    """The tail with other sizes of `data/1` in its directory."""
    return changed(SIZES, struct.pack("<HH2Q", 1, 16, unpacked, packed))


def last_at(start: int) -> bytes:
    """The tail with another place of `data/2` in its directory."""
    return changed(LAST_AT, struct.pack("<HHQ", 1, 8, start))


LIES = {
    "larger than the file": (sizes(1 << 33, 1 << 33), "ends at byte 8589935680, inside the directory"),
    "of 2^64 bytes": (sizes((1 << 64) - 1, (1 << 64) - 1), "inside the directory"),
    "of two sizes": (sizes(BIG_BYTES, BIG_BYTES - 1), "so it is not stored as is"),
    "smaller than its tensor": (sizes(BIG_BYTES - 2, BIG_BYTES - 2), "big.weight"),
    "without its 64 bits": (changed(LAST_AT, b"\2" + LAST_AT[1:]), "'fake/data/2' lacks its size in 64 bits"),
    "with too few bits": (changed(LAST_AT, struct.pack("<HHLHH", 1, 4, 7, 9, 0)), "lacks its size in 64 bits"),
    "elsewhere": (last_at(1 << 40), "does not lie before the directory"),
    "in another's place": (last_at(976), "has another name before its data"),
    "at its lower 32 bits": (last_at(4295033944 & 0xFFFFFFFF), "does not lie before the directory"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_record_cannot_lie_in_64_bits(name: str, tmp_path: Path) -> None:
    tail, words = LIES[name]
    with pytest.raises(DataError) as caught:
        open_torch(archive(tmp_path, tail))
    assert words in caught.value.message


def test_a_large_archive_that_was_cut_is_refused(tmp_path: Path) -> None:
    whole = TAIL_AT + len(TAIL)
    for size in (whole - 1, whole - 22, whole - 98, TAIL_AT + 500, TAIL_AT, 1 << 32, (1 << 32) - 1, HEAD_BYTES):
        with pytest.raises(DataError, match=r"does not end like an archive|directory|its 64-bit end"):
            open_torch(archive(tmp_path, size=size))
