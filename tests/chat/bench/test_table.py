"""A report as a table and as a picture: whole results for known figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chat.bench.chart import draw, nice_limit, shares
from chat.bench.results import BenchReport, Beside, DraftGain, Point, Resume, RowTimes, Subject
from chat.bench.system_load import memory_now
from chat.bench.table import table
from chat.bench.turns import prompt_ids
from chat.worker.protocol import build, from_line, to_line

REPORT = BenchReport(
    Subject("/m/big.gguf", "Q4_K_M", "granite_swa", 4096, "b1", 2, 256, "f16", 0, False, 0.412),
    Beside(128, 8, 2, 6.0, 6.1, 2.5, 2.5, 0.0912),
    (Point(128, 6.0, 2.5, 4_900_000_000, 700_000_000), Point(1024, 5.5, 2.4, 4_900_000_000, None)),
    Resume(1032, 141_000_000, 0.5, 180.0),
    (RowTimes(1, 0.4), RowTimes(2, 0.5), RowTimes(4, 0.8), RowTimes(8, 2.0)),
    DraftGain("lookup", 1.834, 0.991),
)


def test_a_report_survives_the_wire() -> None:
    assert build(BenchReport, from_line(to_line({"report": REPORT}))["report"]) == REPORT


def test_the_table_has_every_figure_in_its_column() -> None:
    assert table(REPORT) == (
        "big.gguf (granite_swa, Q4_K_M, a window of 4,096): 2 threads, batch 256, f16 cache, no GPU, not repacked; "
        "loaded in 412.0 ms\n\n"
        "                    tokens/s  bare C loop  ratio\n"
        "reading 128 tokens      6.00         6.10  0.984\n"
        "decoding 8 tokens       2.50         2.50  1.000\n"
        "Python takes 0.091 ms a token; best of 2 rounds in turns\n\n"
        "context  reading/s  decoding/s  resident  private\n"
        "128           6.00        2.50    4.9 GB   700 MB\n"
        "1,024         5.50        2.40    4.9 GB        -\n\n"
        "Resuming a saved state of 1,032 tokens (141 MB): 500.0 ms; reading them again: 180.0 s, "
        "360 times as long\n\n"
        "batch of        ms  times one  tokens/s\n"
        "1           400.00       1.00      2.50\n"
        "2           500.00       1.25      4.00\n"
        "4           800.00       2.00      5.00  most tokens a second\n"
        "8         2,000.00       5.00      4.00\n\n"
        "Drafting (lookup) is 1.83 times as fast if an answer repeats earlier text, and 0.99 times if it "
        "does not"
    )
    off = replace(REPORT, ahead=DraftGain("off: with layers on a GPU it could change the answer", None, None))
    assert table(off).endswith("\n\nDrafting is off: with layers on a GPU it could change the answer.")


def test_the_picture_holds_each_point_once_and_skips_what_was_not_measured() -> None:
    root = ElementTree.fromstring(draw(REPORT))
    space = "{http://www.w3.org/2000/svg}"
    lines = [each.attrib["points"].split() for each in root.iter(f"{space}polyline")]
    assert [len(line) for line in lines] == [2, 2, 2, 1]
    assert lines[0] == ["60,80.0", "360,95.8"]  # 6.0 and 5.5 of 6, 190 high above 270
    texts = [each.text for each in root.iter(f"{space}text")]
    assert texts[0] == "big.gguf: speed and memory against context length"
    assert {"tokens a second", "memory, MiB", "reading", "decoding", "resident", "private", "1,024"} <= set(texts)


def test_a_hostile_file_name_cannot_leave_its_text() -> None:
    subject = replace(REPORT.subject, path='/m/<script>"&\x1b[0m.gguf')
    drawn = draw(replace(REPORT, subject=subject))
    assert ElementTree.fromstring(drawn).find("script") is None
    assert "&lt;script&gt;&quot;&amp;?[0m.gguf" in drawn
    assert "\x1b" not in table(replace(REPORT, subject=subject))


@pytest.mark.parametrize(
    ("value", "limit"), [(0.03, 0.04), (1, 1), (5.1, 6), (9, 10), (10, 10), (101, 200), (6_500, 8_000)]
)
def test_axes_end_at_round_numbers(value: float, limit: float) -> None:
    assert nice_limit(value) == pytest.approx(limit)


def test_contexts_lie_by_their_logarithm() -> None:
    assert shares([64, 128, 256]) == [0.0, 0.5, 1.0]
    assert shares([64]) == [0.5]


def test_memory_is_read_from_the_systems_table_or_is_the_peak(tmp_path: Path) -> None:
    rollup = tmp_path / "smaps_rollup"
    rollup.write_text("00 ---p 0 [rollup]\nRss:     1024 kB\nPrivate_Clean:  4 kB\nPrivate_Dirty:  100 kB\n")
    assert memory_now(rollup) == (1024 * 1024, 100 * 1024)
    resident, private = memory_now(tmp_path / "missing")
    assert (resident is not None and resident > 1_000_000, private) == (True, None)


def test_prompts_are_the_same_each_time_and_stay_within_the_vocabulary() -> None:
    ids = prompt_ids(5_000, 400)
    assert ids == prompt_ids(5_000, 400)
    assert (min(ids) >= 3, max(ids) < 400, len(set(ids)) > 100) == (True, True, True)
