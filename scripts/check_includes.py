#!/usr/bin/env python3
"""Enforces the folder table of docs/architecture.md: a folder includes only what its row allows.

Every folder of src/ may also include the public headers (moxie/*.h), which it implements, and
itself. Tests and benchmarks may include everything; apps/ only the public headers.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
ROW = re.compile(r"^\|\s*`([a-z/]+?)/`\s*\|[^|]*\|([^|]*)\|\s*$", re.M)


def read_table():
    """Folder of src/ -> set of folders it may include, from the table's last column."""
    rows = dict(ROW.findall((ROOT / "docs/architecture.md").read_text()))
    names = [f.split("/")[1] for f in rows if f.startswith("src/")]
    table = {}
    for folder, allowed in rows.items():
        if not folder.startswith("src/"):
            continue
        words = set(re.findall(r"[a-z]+", allowed))
        table[folder.split("/")[1]] = (set(names) - words if "all but" in allowed
                                       else words & set(names))
    return table


def problems_of(table):
    for path in sorted(ROOT.glob("src/**/*")):
        if path.suffix not in (".h", ".cc", ".cu") or path.name.endswith("_test.cc") \
                or path.name.startswith("test_"):
            continue
        name = path.relative_to(ROOT)
        folder = path.relative_to(ROOT / "src").parts[0]
        if folder not in table:
            yield f"{name}: src/{folder}/ is not in the table"
            continue
        for target in INCLUDE.findall(path.read_text()):
            first = target.split("/")[0]
            if first not in ("moxie", folder) and first not in table[folder]:
                yield (f"{name}: includes {target}, but src/{folder}/ may include only "
                       f"{', '.join(sorted(table[folder])) or 'itself'}")
    for path in sorted(ROOT.glob("apps/**/*.[hc]*")):
        for target in INCLUDE.findall(path.read_text()):
            if "/" in target and target.split("/")[0] not in ("moxie", "apps", "cli", "server"):
                yield (f"{path.relative_to(ROOT)}: includes {target}, but apps/ may include only "
                       "the public headers")
    for path in sorted(ROOT.glob("include/**/*.h")):
        for target in INCLUDE.findall(path.read_text()):
            if not target.startswith("moxie/"):
                yield (f"{path.relative_to(ROOT)}: includes {target}, but public headers include "
                       "only each other")


def main():
    table = read_table()
    if len(table) < 10:
        sys.exit("docs/architecture.md: the folder table was not found")
    problems = list(problems_of(table))
    print("\n".join(problems) or "include table: kept")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
