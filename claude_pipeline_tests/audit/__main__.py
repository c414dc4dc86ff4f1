"""List every dependency with version and licence, write LICENCES.md, and install the wheel where nothing else is.

python -m claude_pipeline_tests.audit [--list]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from claude_pipeline_tests.audit import licence, wheel


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m claude_pipeline_tests.audit", description=__doc__)
    parser.add_argument("--list", action="store_true", help="the licences only; nothing is built or installed")
    asked = parser.parse_args()
    found = licence.licences()
    for each in found:
        print(f"{each.distribution:30} {each.version:16} {each.name}")
    problems = [each.problem for each in found if each.problem is not None]
    if not problems:
        licence.LIST.write_text(licence.table(found), encoding="utf-8")
    if not asked.list:
        with tempfile.TemporaryDirectory() as folder:
            built = wheel.build(Path(folder))
            problems += [f"not in the wheel: {name}" for name in sorted(wheel.files_here() - wheel.files_in(built))]
            problems += wheel.works_alone(built, Path(folder))
    print(
        f"{len(found)} distributions; "
        + ("; ".join(problems) or "licences fine" + (", the wheel works alone" * (not asked.list)))
    )
    print(
        "Known vulnerabilities: pip-audit -r constraints.txt --no-deps --disable-pip, where its service can be reached"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
