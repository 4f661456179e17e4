"""`quantlab doctor`: print what quantlab.doctor found. It looks at nothing itself."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from quantlab import __version__
from quantlab.commands.console import say, table
from quantlab.doctor import examine, healthy
from quantlab.storage import check_writable, write_json


def run(*, json_file: Path | None) -> bool:
    """Examine, print, write; answer whether the lab can run on this machine.

    Raises:
        StorageError: The file cannot be written.
    """
    check_writable(json_file)
    findings = examine()
    sound = healthy(findings)
    if json_file is not None:
        result = {
            "quantlab": __version__,
            "healthy": sound,
            "findings": [asdict(finding) for finding in findings],
        }
        say(f"written: {write_json(json_file, result)}")
    rows = [(finding.topic, finding.state, finding.detail) for finding in findings]
    table(f"quantlab {__version__}", ("what", "state", "found"), rows)
    for finding in findings:
        if finding.remedy and finding.state != "ok":
            print(f"{finding.topic}: {finding.remedy}")  # noqa: T201 -- this is the output
    return sound
