"""The doctor finds what is there and what is not, and never faints."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from quantlab import doctor
from quantlab.cli import UNHEALTHY, cli
from quantlab.doctor import Finding, examine, healthy
from quantlab.kernels import native
from quantlab.kernels.table import KERNELS


def test_whatever_is_not_ok_has_a_remedy_or_a_reason() -> None:
    findings = examine()
    assert {finding.state for finding in findings} <= {"ok", "absent", "broken"}
    assert all(finding.detail for finding in findings)
    assert {"python", "torch", "cpu", "cpu float32"} <= {finding.topic for finding in findings}


def test_a_library_outside_its_range_is_broken(monkeypatch) -> None:
    really = doctor.importlib.metadata.version
    monkeypatch.setattr(
        doctor.importlib.metadata, "version", lambda name: "1.0" if name == "torch" else really(name)
    )
    found = {finding.topic: finding for finding in doctor._libraries()}
    assert found["torch"].state == "broken"
    assert "1.0 is outside" in found["torch"].detail
    assert found["numpy"].state == "ok"


def test_missing_system_libraries_of_open3d_are_named_as_debian_packages(monkeypatch) -> None:
    def refuse(name):
        if name in {"libGL.so.1", "libusb-1.0.so.0"}:
            raise OSError(f"{name}: cannot open shared object file")

    def absent(name):
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor.sys, "platform", "linux")
    monkeypatch.setattr(doctor.ctypes, "CDLL", refuse)
    monkeypatch.setattr(doctor.importlib, "import_module", absent)
    (finding,) = doctor._open3d()
    assert finding.state == "absent"
    assert finding.remedy == "sudo apt-get install libusb-1.0-0 libgl1"
    assert healthy([finding]), "the lab runs without open3d"


def test_a_check_that_fails_is_a_finding(monkeypatch) -> None:
    def fails():
        raise RuntimeError("the disk sings")

    monkeypatch.setattr(doctor, "CHECKS", (fails, doctor._python))
    first, second = examine()
    assert first.state == "broken"
    assert "the disk sings" in first.detail
    assert second.state == "ok"


def test_every_kernel_is_listed_with_the_reason_where_it_is_absent(monkeypatch) -> None:
    monkeypatch.setenv(native.SWITCH, "0")
    found = {finding.topic: finding for finding in doctor._kernels()}
    assert {f"kernel {name}" for name in KERNELS} <= set(found)
    assert found["kernel reference"].state == "ok"
    assert found["kernel native"].detail == native.why_absent()
    assert found["native library"].state == "absent"
    assert found["native library"].remedy


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("absent", 0), ("broken", UNHEALTHY)])
def test_the_exit_code_tells_whether_the_lab_can_run(monkeypatch, tmp_path, state: str, code: int) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (lambda: [Finding("thing", state, "looked at", "Mend it.")],))
    out = tmp_path / "doctor.json"
    result = CliRunner().invoke(cli, ["doctor", "--json", str(out)])
    assert result.exit_code == code
    assert json.loads(out.read_text())["healthy"] is (code == 0)
    assert ("thing: Mend it." in result.stdout) is (state != "ok")
