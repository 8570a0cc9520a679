#!/usr/bin/env python3
"""Writes src/tokenizer/jinja_case_tables.cc: what Python's str knows of Unicode and templates use.

usage: scripts/make_case_tables.py > src/tokenizer/jinja_case_tables.cc
"""
import sys
import unicodedata

LIMIT = 0x110000


def is_surrogate(c):
    return 0xD800 <= c < 0xE000


def mapping_rows(convert):
    """Runs of single-character mappings with one delta and one stride (1 or 2)."""
    pairs = [(c, ord(convert(chr(c))) - c) for c in range(LIMIT)
             if not is_surrogate(c) and len(convert(chr(c))) == 1 and convert(chr(c)) != chr(c)]
    rows = []
    for c, delta in pairs:
        if rows and rows[-1][2] == delta:
            first, last, _, stride = rows[-1]
            step = c - last
            if step == stride or (first == last and step in (1, 2)):
                rows[-1] = (first, c, delta, step)
                continue
        rows.append((c, c, delta, 1))
    return rows


def expansions(convert):
    return [(c, convert(chr(c))) for c in range(LIMIT)
            if not is_surrogate(c) and len(convert(chr(c))) > 1]


def ranges(test):
    rows = []
    for c in range(LIMIT):
        if not test(c):
            continue
        if rows and rows[-1][1] == c - 1:
            rows[-1][1] = c
        else:
            rows.append([c, c])
    return rows


def emit(kind, name, rows):
    print(f"constexpr {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        if len(line) + len(row) + 2 > 100:
            print(line)
            line = "   "
        line += " " + row + ","
    print(line)
    print("};\n")


def main():
    print(f"// Made by scripts/make_case_tables.py from Unicode {unicodedata.unidata_version}; do not edit.")
    print('#include "tokenizer/jinja_case_tables.h"\n')
    print("namespace moxie::jinja {\nnamespace {\n")
    for name, convert in (("Upper", str.upper), ("Lower", str.lower), ("Title", str.title),
                          ("Fold", str.casefold)):
        emit("CaseRun", f"k{name}", [f"{{0x{a:x}, 0x{b:x}, {d}, {s}}}" for a, b, d, s in mapping_rows(convert)])
        emit("CaseExpansion", f"k{name}Expansions",
             ["{0x%x, {%s}}" % (c, ", ".join("0x%x" % ord(x) for x in text))
              for c, text in expansions(convert)])
    classes = {
        "Alpha": lambda c: chr(c).isalpha(),
        "Decimal": lambda c: chr(c).isdecimal(),
        "Digit": lambda c: chr(c).isdigit(),
        "Numeric": lambda c: chr(c).isnumeric(),
        "Unprintable": lambda c: is_surrogate(c) or not chr(c).isprintable(),
        "LowerCase": lambda c: chr(c).islower(),
        "UpperCase": lambda c: chr(c).isupper(),
        "TitleCase": lambda c: unicodedata.category(chr(c)) == "Lt",
        # What str.lower's final-sigma rule looks through: neither cased nor a word's border.
        "CaseIgnorable": lambda c: unicodedata.category(chr(c)) in ("Mn", "Me", "Cf", "Lm", "Sk")
        or c in (0x27, 0x2E, 0x3A, 0xB7, 0x387, 0x55F, 0x5F4, 0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                 0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A),
    }
    for name, test in classes.items():
        emit("CodeRange", f"k{name}", [f"{{0x{a:x}, 0x{b:x}}}" for a, b in ranges(test)])
    print("}  // namespace\n")
    for name in ("Upper", "Lower", "Title", "Fold"):
        print(f"const CaseTable k{name}Table = {{k{name}, k{name}Expansions}};")
    for name in classes:
        print(f"const std::span<const CodeRange> k{name}Ranges = k{name};")
    print("\n}  // namespace moxie::jinja")


if __name__ == "__main__":
    sys.exit(main())
