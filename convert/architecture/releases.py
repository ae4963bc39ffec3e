"""What Mistral's releases are known to have where their own files do not say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """One release by its sizes, and what follows from it."""

    layers: int
    width: int
    hidden: int  # of the feed-forward network, per expert
    vocabulary: int
    experts: int
    context: int  # tokens
    theta: float  # of the rotary positions
    window: int | None = None  # tokens, on every layer
    name: str = ""


# Where sizes are shared, the ones before the others are what is assumed if nothing tells them apart.
RELEASES = (
    Release(32, 4096, 14336, 32000, 0, 32768, 1e4, 4096, name="7B v0.1"),
    Release(32, 4096, 14336, 32000, 0, 32768, 1e6, name="7B v0.2"),
    Release(32, 4096, 14336, 32768, 0, 32768, 1e6, name="7B v0.3, Mathstral"),
    Release(32, 4096, 14336, 32000, 8, 32768, 1e6, name="Mixtral 8x7B"),
    Release(56, 6144, 16384, 32000, 8, 65536, 1e6, name="Mixtral 8x22B v0.1"),
    Release(56, 6144, 16384, 32768, 8, 65536, 1e6, name="Mixtral 8x22B v0.3"),
    Release(56, 6144, 16384, 32768, 0, 32768, 1e6, name="Small 2409, Codestral 22B"),
    Release(88, 12288, 28672, 32768, 0, 131072, 1e6, name="Large 2"),
    Release(40, 5120, 14336, 131072, 0, 131072, 1e6, name="Nemo 12B"),
    Release(36, 4096, 12288, 131072, 0, 131072, 1e8, name="Ministral 8B"),
    Release(40, 5120, 32768, 131072, 0, 32768, 1e8, name="Small 3"),
    Release(40, 5120, 32768, 131072, 0, 131072, 1e9, name="Small 3.1 and 3.2, Devstral, Magistral"),
)


def find_release(
    layers: int, width: int, hidden: int, vocabulary: int, experts: int, theta: float | None, window: int | None
) -> Release | None:
    """The release with these sizes; among several, the one whose theta or window is the given one.

    Args:
        theta: As stated, None where it is not.
        window: The stated window of the first layer, None where it has none.
    """
    sizes = (layers, width, hidden, vocabulary, experts)
    alike = [
        each for each in RELEASES if (each.layers, each.width, each.hidden, each.vocabulary, each.experts) == sizes
    ]
    if theta is not None:
        return next((each for each in alike if each.theta == theta), alike[0] if alike else None)
    return next((each for each in alike if each.window == window), alike[0] if alike else None)
