#!/usr/bin/env python3
"""Fails when docs/architecture.md names a file or a C++ name that no longer exists.

In back-quotes, `a/path.h` must be a file or folder of the tree (also below src/), and
`Name` or `Class::Member` must occur in a header or source.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = "docs/architecture.md"
NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)*(\(\))?$")


def main():
    files = [p for folder in ("src", "include", "apps", "tests")
             for p in (ROOT / folder).glob("**/*") if p.suffix in (".h", ".cc")]
    words = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*",
                           "\n".join(p.read_text(errors="replace") for p in files)))
    problems = []
    for quoted in re.findall(r"`([^`\n]+)`", (ROOT / PAGE).read_text()):
        if "/" in quoted and not any(c in quoted for c in " <>*{$"):
            if not any((ROOT / base / quoted).exists() for base in ("", "src")):
                problems.append(f"{PAGE}: `{quoted}` is no file or folder")
        elif NAME.match(quoted) and not quoted.islower():
            problems += [f"{PAGE}: `{quoted}`: no `{part}` in the sources"
                         for part in quoted.removesuffix("()").split("::") if part not in words]
    print("\n".join(problems) or "names in the documents: all exist")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
