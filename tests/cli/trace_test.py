#!/usr/bin/env python3
"""The routing that `run --trace` writes is that of prompt and answer, and `bench --replay` reads it."""
import json
import pathlib
import subprocess
import tempfile
import unittest

from python_support import MOXIE, moxie, smollm2

DENSE = smollm2()


class Trace(unittest.TestCase):
    def test_the_routing_is_written_and_replayed(self):
        with tempfile.TemporaryDirectory() as folder:
            model, trace = (pathlib.Path(folder) / name for name in ("mixture.gguf", "trace.json"))
            moxie("upcycle", DENSE, model, "--experts", "4", "--used", "2", "--noise", "0.1")
            answer = json.loads(moxie("run", model, "Why is the sky blue?", "--max-tokens", "10",
                                      "--ignore-eos", "--json", "--trace", trace))
            routing = json.loads(trace.read_text())
            # The last token was chosen and not computed.
            tokens = answer["prompt_tokens"] + len(answer["ids"]) - 1
            self.assertEqual(routing["expert_count"], 4)
            self.assertEqual(len(routing["layers"]), len(answer["routing"]))
            for layer, shares in zip(routing["layers"], answer["routing"]):
                self.assertEqual(len(layer["experts"]), tokens)
                chosen = [expert for token in layer["experts"] for expert in token]
                for expert, share in enumerate(shares):
                    self.assertAlmostEqual(chosen.count(expert) / tokens, share)
            replay = json.loads(moxie("bench", "--replay", trace, "--json"))
            self.assertEqual(replay["tokens"], tokens)
            for cache in replay["caches"]:
                rates = cache["hit_rates"]
                self.assertLessEqual(max(rates.values()), rates["Belady"])
            refused = subprocess.run([MOXIE, "run", DENSE, "x", "--trace", trace],
                                     capture_output=True, text=True)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("no experts", refused.stderr)

    def test_what_is_no_routing_is_refused(self):
        beyond_float32 = '{"layers": [{"experts": [[0, 1]], "weights": [[0.5, 1e39]]}]}'
        for text in '{"layers": 3}', beyond_float32:
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                file.write(text)
                file.flush()
                refused = subprocess.run([MOXIE, "bench", "--replay", file.name],
                                         capture_output=True, text=True)
                self.assertEqual(refused.returncode, 1, text)
                self.assertIn(file.name, refused.stderr)
        self.assertEqual(subprocess.run([MOXIE, "bench"], capture_output=True).returncode, 2)


if __name__ == "__main__":
    unittest.main()
