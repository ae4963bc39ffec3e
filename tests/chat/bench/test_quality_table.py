"""A report of quality as a table and as a picture: whole results for known figures."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from chat.bench.quality_chart import Axis, draw, linear, logarithmic
from chat.bench.quality_results import Divergence, Estimate, FileQuality, QualityReport
from chat.bench.quality_table import table

SPACE = "{http://www.w3.org/2000/svg}"


def divergence(mean: float) -> Divergence:
    return Divergence(
        Estimate(mean, mean / 10),
        mean / 2,
        mean * 5,
        mean * 9,
        mean * 10,
        *[Estimate(0.9, 0.01)] * 2,
        Estimate(1.01, 0.001),
    )


REFERENCE = FileQuality("/m/big-f16.gguf", "F16", "llama", 14_500_000_000, None, Estimate(5.5, 0.05), None, 7.0)
FILES = (
    FileQuality("/m/q8.gguf", "Q8_0", "llama", 7_700_000_000, None, Estimate(5.51, 0.05), divergence(0.0011), 7.0),
    FileQuality("/m/q4.gguf", "Q4_K_M", "llama", 4_400_000_000, None, Estimate(5.6125, 0.051), divergence(0.034), 8.0),
)
REPORT = QualityReport("b1", 1_100, 512, 2, 510, REFERENCE, FILES, True)
ALONE = replace(REPORT, reference=None, files=tuple(replace(each, divergence=None) for each in FILES))


def test_the_table_has_every_figure_in_its_column() -> None:
    assert table(REPORT) == (
        "2 chunks of 512 tokens, the second half of each scored: 510 of 1,100 tokens\n"
        "Reference: big-f16.gguf (F16, 14.5 GB), perplexity 5.5000 ± 0.0500\n\n"
        "file       type    size       perplexity              KL mean  KL median  KL 99%  KL maximum       same top\n"
        "q8.gguf    Q8_0  7.7 GB  5.5100 ± 0.0500  0.001100 ± 0.000110   0.000550  0.0055      0.0110  90.00 ± 1.00%\n"
        "q4.gguf  Q4_K_M  4.4 GB  5.6125 ± 0.0510  0.034000 ± 0.003400   0.017000  0.1700      0.3400  90.00 ± 1.00%\n"
        "\nKL: Kullback-Leibler divergence from the reference in nats, token by token; same top: how often\n"
        "both have the same likeliest token; after ± the standard error"
    )


def test_without_a_reference_the_table_has_perplexities_and_the_windows_that_matter() -> None:
    report = replace(ALONE, chunks=1, files=(replace(ALONE.files[0], window=64), ALONE.files[1]))
    assert table(report) == (
        "1 chunk of 512 tokens, the second half of each scored: 510 of 1,100 tokens\n\n"
        "file       type    size       perplexity  window\n"
        "q8.gguf    Q8_0  7.7 GB  5.5100 ± 0.0500      64\n"
        "q4.gguf  Q4_K_M  4.4 GB  5.6125 ± 0.0510       -"
    )


def points(picture: str) -> list[tuple[float, float]]:
    return [
        (float(each.attrib["cx"]), float(each.attrib["cy"]))
        for each in ElementTree.fromstring(picture).iter(f"{SPACE}circle")
    ]


def texts(picture: str) -> list[str | None]:
    return [each.text for each in ElementTree.fromstring(picture).iter(f"{SPACE}text")]


def test_the_picture_has_size_to_the_right_and_loss_by_its_logarithm_upwards() -> None:
    picture = draw(REPORT)
    assert points(picture) == [(681.2, 373.6), (145.0, 142.6)]
    found = texts(picture)
    assert found[0] == "Mean KL divergence from big-f16.gguf, in nats, against size"
    assert [text for text in found if text and text[0].isdigit()] == ["0.001", "0.01", "0.1", "4", "5", "6", "7", "8"]
    assert found[-3:] == ["GB", "Q8_0", "Q4_K_M"]


def test_the_picture_of_perplexities_has_their_errors() -> None:
    picture = draw(ALONE)
    assert texts(picture)[0] == "Perplexity against size"
    (first, second) = points(picture)
    assert (first[0] > second[0], first[1] > second[1]) == (True, True)
    bars = [each for each in ElementTree.fromstring(picture).iter(f"{SPACE}line") if each.attrib["class"] == "error"]
    assert all(float(each.attrib["y1"]) - float(each.attrib["y2"]) > 20 for each in bars)


def test_names_stand_where_a_type_occurs_twice_and_do_not_cover_each_other() -> None:
    same = tuple(replace(FILES[0], path=f"/m/<{at}>\x1b.gguf") for at in range(3))
    picture = draw(replace(REPORT, files=same))
    labels = [each for each in ElementTree.fromstring(picture).iter(f"{SPACE}text") if (each.text or "")[0] == "<"]
    assert [each.text for each in labels] == ["<0>?", "<1>?", "<2>?"]
    assert len({(each.attrib["x"], each.attrib["y"]) for each in labels}) == 3


def test_the_reference_beside_itself_lies_on_the_floor() -> None:
    none = replace(FILES[0], divergence=divergence(-1e-9))
    (point,) = points(draw(replace(REPORT, files=(none,))))
    assert point[1] == 380


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (linear((3.0, 3.0), 0, 100), (2.4, 3.2)),
        (linear((95.0, 145.0), 0, 100), (80.0, 100.0, 120.0, 140.0, 160.0)),
        (linear((11.2, 11.35), 0, 100), (11.2, 11.24, 11.28, 11.32, 11.36)),
        (logarithmic((0.02, 0.0004), 100, 0), (0.0001, 0.001, 0.01, 0.1)),
        (logarithmic((0.0,), 100, 0), (1e-6, 1e-5)),
    ],
)
def test_axes_have_round_ticks(axis: Axis, ticks: tuple[float, ...]) -> None:
    assert axis.ticks == pytest.approx(ticks)
    assert (axis.place(axis.start), axis.place(axis.stop)) == (axis.begin, axis.end)
