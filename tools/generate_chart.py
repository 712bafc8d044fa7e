"""Write the chart's ``Chart.yaml``, whose version is Polyvisor's: ``python tools/generate_chart.py [--check]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from polyvisor import __version__

FILE = Path(__file__).resolve().parent.parent / "polyvisor" / "installation" / "chart" / "Chart.yaml"
TEXT = f"""\
# Written by tools/generate_chart.py; the version is that of polyvisor/__init__.py.
apiVersion: v2
name: polyvisor
description: Virtual machines on Kubernetes through libvirt, where each machine chooses its hypervisor
type: application
version: {__version__}
appVersion: {__version__}
kubeVersion: ">=1.30.0-0"
"""


def main() -> int:
    """Write the file, or with ``--check`` say that it is out of step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is out of step")
    given = parser.parse_args()
    if FILE.read_text() == TEXT:
        return 0
    sys.stdout.write(f"{'out of step' if given.check else 'written'}: {FILE.name}\n")
    if not given.check:
        FILE.write_text(TEXT)
    return 1 if given.check else 0


if __name__ == "__main__":
    sys.exit(main())
