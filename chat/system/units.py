"""Large counts in words; bytes in decimal units, as disks have them."""

from __future__ import annotations


def size_text(byte_count: int) -> str:
    """A number of bytes: `14.5 GB`, `831 MB`, `12 kB`, `7 bytes`."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if byte_count >= limit:
            return f"{byte_count / limit:.1f} {unit}" if unit == "GB" else f"{byte_count / limit:.0f} {unit}"
    return f"{byte_count} bytes" if byte_count != 1 else "1 byte"


def count_text(count: int) -> str:
    """A count: `7.25 billion`, `1.94 million`, `65,536`."""
    for limit, unit in ((1e9, "billion"), (1e6, "million")):
        if count >= limit:
            return f"{count / limit:.2f} {unit}"
    return f"{count:,}"
