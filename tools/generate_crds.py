"""Write ``deploy/crds/*.yaml`` from the typed objects: ``python tools/generate_crds.py [--check]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from polyvisor.api.resources import RESOURCES
from polyvisor.api.schema import crd

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "crds"
HEADER = "# Written by tools/generate_crds.py from polyvisor/api; change that.\n"


class Dumper(yaml.SafeDumper):
    """YAML without anchors, lists indented as kubectl writes them."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value out."""
        return True


def generate() -> dict[Path, str]:
    """Return the text of every manifest."""
    return {
        FOLDER / f"{resource.full_name}.yaml": HEADER
        + yaml.dump(crd(resource), Dumper=Dumper, sort_keys=False, width=120)
        for resource in RESOURCES
        if resource.custom
    }


def main() -> int:
    """Write the manifests, or with ``--check`` say which are out of step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of step")
    arguments = parser.parse_args()
    stale = []
    for path, text in generate().items():
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if not arguments.check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    sys.stdout.writelines(f"{'out of step' if arguments.check else 'written'}: {name}\n" for name in stale)
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
