"""The GPU that the system shows is named, with the back end that uses it."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from chat.doctor.system_gpu import SystemGpu, system_gpu


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(platform, "system", lambda: "Linux")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_a_system_without_a_gpu_shows_none(tmp_path: Path) -> None:
    assert system_gpu(tmp_path) is None


def test_an_nvidia_gpu_is_named_as_its_driver_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert system_gpu(tmp_path) == SystemGpu("an NVIDIA GPU", "CUDA")  # without the driver's files, as under WSL
    write(tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA H200\nIRQ:   \t\t 120\n")
    assert system_gpu(tmp_path) == SystemGpu("an NVIDIA H200", "CUDA")


@pytest.mark.parametrize(
    ("vendor", "expected"),
    [
        ("0x1002", SystemGpu("an AMD GPU", "VULKAN")),
        ("0x8086", SystemGpu("an Intel GPU", "VULKAN")),
        ("0x1af4", None),  # of a virtual machine
    ],
)
def test_a_gpu_for_vulkan_is_named_by_its_vendor(vendor: str, expected: SystemGpu | None, tmp_path: Path) -> None:
    write(tmp_path / "sys/class/drm/renderD128/device/vendor", f"{vendor}\n")
    assert system_gpu(tmp_path) == expected


def test_apples_own_processor_has_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert system_gpu(tmp_path) == SystemGpu("Apple's GPU", "METAL")
