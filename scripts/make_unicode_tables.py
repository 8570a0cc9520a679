#!/usr/bin/env python3
"""Writes src/tokenizer/unicode_tables.cc: the general category of every code point as the regular
expressions of Hugging Face's `tokenizers` (PyPI) know it, so that texts split as they do there
whatever Unicode version the system's own libraries have.

usage: scripts/make_unicode_tables.py > src/tokenizer/unicode_tables.cc
"""
from tokenizers import Regex, pre_tokenizers

# The order of moxie::Category.
CATEGORIES = ("Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp "
              "Cc Cf Co Cs").split()
ALL = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
COLUMNS = 10


def main():
    category_of = [0] * 0x110000
    category_of[0xD800:0xE000] = [CATEGORIES.index("Cs")] * 0x800
    for index, name in enumerate(CATEGORIES):
        if name in ("Cn", "Cs"):
            continue
        split = pre_tokenizers.Split(Regex(r"[^\p{%s}]" % name), "removed")
        for piece, _ in split.pre_tokenize_str(ALL):
            for character in piece:
                category_of[ord(character)] = index
    entries, previous = [], None
    for code_point, category in enumerate(category_of):
        if category != previous:
            entries.append(f"0x{category << 24 | code_point:08x},")
            previous = category
    print("// Written by scripts/make_unicode_tables.py; do not edit.\n"
          '#include "tokenizer/unicode.h"\n\n'
          "namespace moxie {\n\n"
          "// Where a run of one general category starts: category << 24 | first code point.\n"
          "// clang-format off\n"
          f"const std::array<uint32_t, kCategoryRunCount> kCategoryRuns = {{{{  // {len(entries)}")
    for i in range(0, len(entries), COLUMNS):
        print("".join(entries[i:i + COLUMNS]))
    print("}};\n// clang-format on\n\n}  // namespace moxie")


if __name__ == "__main__":
    main()
