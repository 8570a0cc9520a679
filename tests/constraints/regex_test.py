#!/usr/bin/env python3
"""Regular-expression constraints against Python's `re`: random patterns, texts that match and such
that do not, and texts sampled under the constraint."""
import os
import random
import re

from constraint_tool import Tool

SEED = int(os.environ.get("MOXIE_CONSTRAINT_SEED", "1"))
PATTERNS = int(os.environ.get("MOXIE_CONSTRAINT_COUNT", "400"))
LETTERS = "abc01_ \n-äß€😀"
# Escapes that mean ASCII here and Unicode in `re` agree on these letters only where they hold none.
CLASSES = ["a", "b", "0", "ä", "😀", ".", "[ab]", "[^ab]", "[a-c€-😀]", r"\d", r"\w", r"\s",
           r"[^a\n]", r"\.", r"\-", "[]-]", "[^\\]]", r"é"]


def pattern(rng, depth=0):
    kind = rng.randrange(8 if depth < 3 else 3)
    if kind < 3:
        return rng.choice(CLASSES)
    if kind == 3:
        return pattern(rng, depth + 1) + pattern(rng, depth + 1)
    if kind == 4:
        return "(" + "|".join(pattern(rng, depth + 1) for _ in range(rng.randint(2, 3))) + ")"
    if kind == 5:
        return "(?:" + pattern(rng, depth + 1) + pattern(rng, depth + 1) + ")"
    low = rng.randrange(3)
    bounds = "{%d,%d}" % (low, low + rng.randrange(4))
    body = rng.choice(CLASSES) if kind == 6 else "(" + pattern(rng, depth + 2) + ")"
    return body + rng.choice(["*", "+", "?", bounds, "{2,}", "{%d}" % low])


def main():
    rng = random.Random(SEED)
    tool = Tool()
    matched = refused = 0
    for number in range(PATTERNS):
        text = pattern(rng)
        compiled = re.compile(text, re.ASCII)
        tried = ["".join(rng.choice(LETTERS) for _ in range(rng.randrange(7))) for _ in range(40)]
        answer = tool.ask("regex", text, accept=tried, samples=5, seed=number, tokens=60)
        if "error" in answer:
            assert "may be empty" in answer["error"] or "no text" in answer["error"], (text, answer)
            refused += 1
            continue
        for sample, done in answer["samples"]:
            assert not done or compiled.fullmatch(sample), (text, sample)
        tried += [s for s, done in answer["samples"] if done]
        again = tool.ask("regex", text, accept=tried)
        for candidate, accepted in zip(tried, again["accepted"]):
            expected = compiled.fullmatch(candidate) is not None
            assert accepted == expected, (text, candidate, accepted)
            matched += expected
    tool.close()
    assert refused < PATTERNS / 4 and matched > PATTERNS
    print(f"{PATTERNS} patterns, {refused} of them refused; {matched} matches")


if __name__ == "__main__":
    main()
