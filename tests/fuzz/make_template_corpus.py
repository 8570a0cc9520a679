#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/chat_template/ from the templates of tests/golden/template_cases.json."""
import hashlib
import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main():
    cases = json.loads((ROOT / "golden/template_cases.json").read_text())
    folder = ROOT / "fuzz/corpus/chat_template"
    folder.mkdir(parents=True, exist_ok=True)
    small = cases["small"]
    statements = [case["template"] for case in small if case["kind"] == "statement"]
    others = [case["template"] for case in small if case["kind"] != "statement"]
    for source in [*cases["templates"].values(), *statements, *others[::40]]:
        (folder / hashlib.sha1(source.encode()).hexdigest()[:12]).write_text(source, newline="")


if __name__ == "__main__":
    main()
