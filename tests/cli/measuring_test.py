#!/usr/bin/env python3
"""The commands that foresee and measure, end to end: plan, bench, doctor."""
import json
import pathlib
import unittest

from command_case import CACHE, MODELS, Case
from python_support import moxie


class Plan(Case):
    def test_a_name_needs_no_file(self):
        out = json.loads(self.good("plan", "Mixtral-8x7B", "--type", "q4_0", "--context", "2048", "--memory-only", "--json"))
        (plan,) = out["plans"]
        # arXiv:2401.04088's shape in blocks of 32 weights in 18 bytes; routers and norms in float32.
        floats = 32 * (8 * 4096 + 2 * 4096) + 4096
        self.assertEqual(plan["weight_bytes"], (46702792704 - floats) // 32 * 18 + floats * 4)
        # 32 layers of keys and values of 8 heads of 128, in float32, and the cache's page tables.
        pages = 32 * 2 * 8 * 128 * 4 * 2048
        self.assertTrue(pages <= plan["memory"]["kv_cache"] <= pages + 4096)
        self.assertEqual(sum(v for k, v in plan["memory"].items() if k != "total"), plan["memory"]["total"])
        self.assertIn("q4_0", self.good("plan", "mixtral-8x7b", "--memory-only"))

    def test_speed_and_what_it_needs(self):
        def plan(*options):
            return json.loads(self.good("plan", "mixtral-8x7b", "--type", "q4_0", "--context", "512", "--batch", "64",
                                        "--json", *options))["plans"][0]
        free = plan("--memory", "64GiB", "--speed", "0.001")
        self.assertFalse(free["streamed"])
        self.assertEqual(free["speed"]["bytes_from_disk"], 0)
        self.assertGreater(free["speed"]["prefill_tokens_per_s"], free["speed"]["decode_tokens_per_s"])
        self.assertTrue(free["least_bytes"] <= free["bytes_for_speed"] <= free["all_bytes"])
        tight = plan("--memory", "8GiB", "--speed", "1e6")
        self.assertIsNone(tight["bytes_for_speed"])
        self.assertTrue(tight["streamed"] and tight["fits"])
        disk = json.loads((pathlib.Path(CACHE.name) / "moxie/machine.json").read_text())["disk_bytes_per_s"]
        self.assertLess(tight["speed"]["decode_tokens_per_s"], 1.001 * disk / tight["speed"]["bytes_from_disk"])
        # Of 64 experts a token, 4096 * 14336 * 3 weights of 18 bytes in 32 each, those that are not cached.
        expected = 64 * (1 - tight["hit_rate"]) * 4096 * 14336 * 3 / 32 * 18
        self.assertAlmostEqual(tight["speed"]["bytes_from_disk"] / expected, 1, delta=0.01)
        self.assertEqual(tight["hit_rate"], tight["expert_slots"] / 256)

    def test_loading_and_where_a_tokens_time_goes(self):
        model = self.folder / "mixture.gguf"
        moxie("upcycle", MODELS / "qwen3", model, "--experts", "8", "--used", "2", "--noise", "0.5")
        (plan,) = json.loads(self.good("plan", model, "--type", "", "--context", "64", "--json"))["plans"]
        speed = plan["speed"]
        for phase in ("prefill", "decode"):
            total = sum(speed["seconds"][phase].values())
            self.assertAlmostEqual(total * speed[phase + "_tokens_per_s"], 1)
            self.assertTrue(all(speed["seconds"][phase][part] > 0 for part in ("attention", "experts", "head")))
        machine = json.loads((pathlib.Path(CACHE.name) / "moxie/machine.json").read_text())
        self.assertEqual(speed["disk_bytes_per_s"], machine["disk_bytes_per_s"])  # Too small to tell.
        resident = plan["memory"]["weights"] + plan["memory"]["experts"]
        self.assertGreater(speed["load_s"], resident / machine["disk_bytes_per_s"])
        self.assertGreater(speed["load_cached_s"], resident / machine["cached_bytes_per_s"])

    def test_every_kind_of_layer_has_a_speed(self):
        # Sliding windows with sinks, latent attention, dense layers first, a vocabulary of 333.
        for model in ("gpt-oss-20b", "deepseek-v3", MODELS / "mistral-window", MODELS / "olmoe"):
            options = [] if isinstance(model, pathlib.Path) else ["--type", "iq2_xs", "--batch", "16"]
            out = json.loads(self.good("plan", model, "--context", "700", "--memory", "40GiB", "--json", *options))
            self.assertGreater(out["plans"][0]["speed"]["decode_tokens_per_s"], 0, model)

    def test_a_mix_is_planned_as_it_is_stored(self):
        def weights(*args):
            return json.loads(self.good("plan", *args, "--memory-only", "--json"))["plans"][0]["weight_bytes"]
        mixed = self.folder / "mixed.gguf"
        moxie("quantize", MODELS / "mixtral", mixed, "--type", "q4_k_m")
        self.assertEqual(weights(MODELS / "mixtral", "--type", "q4_k_m"), weights(mixed))
        # llama-quantize makes files of 28.4 GB of Mixtral 8x7B.
        self.assertAlmostEqual(weights("mixtral-8x7b", "--type", "q4_k_m") / 28.4e9, 1, delta=0.01)

    def test_a_routing_says_what_is_found(self):
        # Both layers go to the same two experts of four, for ever: half the experts are enough.
        trace = self.folder / "routing.json"
        trace.write_text(json.dumps({"expert_count": 8, "layers": [{"experts": [[0, 1]] * 200}] * 32}))
        args = ["mixtral-8x7b", "--type", "q4_0", "--memory", "9GiB", "--memory-only", "--json"]
        even = json.loads(self.good("plan", *args))["plans"][0]
        routed = json.loads(self.good("plan", *args, "--routing", trace))["plans"][0]
        self.assertLess(even["hit_rate"], 0.4)
        self.assertGreater(routed["hit_rate"], 0.95)
        self.bad(1, "plan", *args, "--routing", __file__)

    def test_names_and_types_that_there_are_not(self):
        self.assertIn("mixtral-8x7b", self.good("plan", "--list"))
        self.bad(1, "plan", "mixtral-9x9b")
        self.assertIn("q8_0", self.bad(1, "plan", "mixtral-8x7b", "--type", "q4_9"))
        self.bad(1, "plan")

    def test_the_engine_refuses_what_does_not_fit(self):
        plan = json.loads(self.good("plan", self.tiny, "--context", "64", "--memory-only", "--json"))["plans"][0]
        enough = plan["least_bytes"]
        for budget, command in ((enough, self.good), (enough - (1 << 20), lambda *a: self.bad(1, *a))):
            command("run", self.tiny, "x", "--context", "64", "--max-tokens", "1", "--memory", budget)


class Bench(Case):
    def bench(self, *options):
        return json.loads(self.good("bench", MODELS / "mixtral", "--prompt-tokens", 20, "--generate-tokens", 6,
                                    "--repetitions", 1, "--threads", 2, "--json", *options))

    def test_figures_bounds_and_parts(self):
        out = self.bench("--decode-context", 5)
        for name in ("prefill_tokens_per_s", "decode_tokens_per_s"):
            self.assertGreater(out[name], 0)
            self.assertGreater(out["bound"][name], 0)
        for phase in ("prefill", "decode"):
            parts = out["parts"][phase]
            context = parts.pop("context")
            self.assertAlmostEqual(sum(parts.values()), 1)
            self.assertTrue(all(0 <= share <= 1 for share in parts.values()), parts)
            self.assertTrue(0 < context < parts["attention"])
            self.assertEqual(parts["dense"], 0)
            self.assertGreater(parts["experts"], 0)

    def test_sequences_are_counted_together(self):
        one, three = (self.bench("--sequences", n) for n in (1, 3))
        self.assertEqual((one["sequences"], three["sequences"]), (1, 3))
        self.assertIn("bound", one)
        self.assertIsNone(three.get("bound"))  # It is one sequence's.
        rates = ("prefill_tokens_per_s", "decode_tokens_per_s")
        self.assertTrue(all(three[name] > 0 for name in rates), three)

    def test_the_trace_holds_spans_within_spans(self):
        trace = self.folder / "trace.json"
        self.bench("--profile", trace)
        events = json.loads(trace.read_text())["traceEvents"]
        spans = {}
        for event in events:
            self.assertEqual(event["ph"], "X")
            spans.setdefault(event["name"], []).append(event)
        self.assertEqual(len(spans["pass"]), 1 + 6)
        self.assertEqual(len(spans["layer"]), 7 * 2)
        self.assertEqual(sorted({e["args"]["layer"] for e in spans["router"]}), [0, 1])
        inside = lambda a, b: b["ts"] <= a["ts"] and a["ts"] + a["dur"] <= b["ts"] + b["dur"] + 0.002
        for inner, outer in (("layer", "pass"), ("experts", "layer"), ("attention", "layer"),
                             ("context", "attention"), ("head", "pass")):
            for event in spans[inner]:
                self.assertTrue(any(inside(event, o) for o in spans[outer]), event)

    def test_a_trace_that_cannot_be_written(self):
        line = self.bad(1, "bench", MODELS / "mixtral", "--prompt-tokens", 4, "--generate-tokens", 2,
                        "--repetitions", 1, "--profile", self.folder / "none/trace.json")
        self.assertIn("none/trace.json", line)


class Doctor(Case):
    def test_json(self):
        out = json.loads(self.good("doctor", "--json", "--folder", self.folder))
        self.assertIn({"name": "scalar", "usable": True}.items() <= out["kernels"][0].items(), [True])
        self.assertGreater(out["memory"]["read_bytes_per_s"], 0)
        self.assertGreater(out["memory"]["limit_bytes"], 0)
        self.assertGreater(out["disk"]["read_bytes_per_s"], 0)
        self.assertEqual([p.name for p in self.folder.iterdir()], ["tiny.gguf"])
        for name in ("float_operations_per_s", "integer_operations_per_s"):
            self.assertTrue(all(k[name] > 0 for k in out["kernels"] if k["usable"]))
        # Once is enough, unless it is asked for or the machine is another one.
        again = json.loads(self.good("doctor", "--json"))
        self.assertEqual(out["memory"]["read_bytes_per_s"], again["memory"]["read_bytes_per_s"])
        kept = pathlib.Path(out["kept_in"])
        other = json.loads(kept.read_text())
        other["machine"]["processor"] = "another"
        for bad in (json.dumps(other), "{", json.dumps({"version": 1})):
            kept.write_text(bad)
            self.good("doctor", "--json", "--folder", self.folder)
            self.assertNotEqual(json.loads(kept.read_text()).get("machine", {}).get("processor"), "another")
            self.assertGreater(json.loads(kept.read_text())["memory_bytes_per_s"], 0)
        before = kept.stat().st_mtime_ns
        self.good("doctor", "--json", "--remeasure", "--folder", self.folder)
        self.assertNotEqual(before, kept.stat().st_mtime_ns)
        # A folder that is gone says nothing of the disk where models are now.
        gone = json.loads(kept.read_text())
        gone["folder"] = str(self.folder / "gone")
        kept.write_text(json.dumps(gone))
        found = json.loads(self.good("doctor", "--json"))["disk"]
        self.assertNotEqual(found["folder"], gone["folder"])
        self.assertGreater(found["free_bytes"], 0)


if __name__ == "__main__":
    unittest.main()
