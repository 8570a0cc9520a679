#!/usr/bin/env python3
"""Many users of one server at once: prompts that share a system prompt, answers streamed.

  bench/server.py MODEL.gguf [--llama-server PATH]
  bench/server.py MODEL.gguf --overhead
  bench/server.py MODEL.gguf --constrained

prints total tokens a second and the 99th percentile of the time between tokens, of moxie and, where
given, of llama.cpp's llama-server in the same run. With --overhead instead: what a token costs one
user of the server, alone, over what it costs in `moxie bench`; with --constrained, what a token
costs that a JSON schema holds to its form, over what it costs free, after a first answer."""
import argparse
import http.client
import json
import os
import random
import signal
import statistics
import subprocess
import threading
import time
import urllib.request


def wait_until_ready(port, process):
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        if process.poll() is not None:
            raise SystemExit("the server ended")
        time.sleep(0.1)


def stream(port, prompt, tokens, times, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v1/completions", json.dumps({
        "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True,
        "ignore_eos": True, **fields}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    for line in response:
        if line.startswith(b"data: {"):
            times.append(time.monotonic())
    connection.close()


def measure(command, port, options):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_ready(port, process)
        dice = random.Random(1)
        words = lambda count: [dice.randrange(100, 20000) for _ in range(count)]
        stream(port, words(16), 4, [])  # Warm up.
        system = words(options.system)
        times = [[] for _ in range(options.users)]
        threads = [threading.Thread(target=stream, args=(
            port, system + words(options.prompt), options.generate, mine)) for mine in times]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - start
    finally:
        process.terminate()
        process.wait()
    gaps = sorted(b - a for mine in times for a, b in zip(mine, mine[1:]))
    return {"tokens_per_s": round(options.users * options.generate / seconds, 1),
            "p99_between_tokens_ms": round(gaps[int(len(gaps) * 0.99)] * 1000, 1),
            "first_token_ms": round(max(mine[0] for mine in times) * 1000 - start * 1000, 1)}


def overhead(options):
    """Decoding in turns with and without the server, and the medians of both."""
    prompt, tokens = [5 + i % 90 for i in range(64)], 128
    bench_ms, server_ms = [], []
    server = [options.moxie, "serve", options.model, "--port", "18431", "--context", "256",
              "--parallel", "1", "--log", "none"]
    for _ in range(options.rounds):
        report = subprocess.run(
            [options.moxie, "bench", options.model, "--json", "--prompt-tokens", str(len(prompt)),
             "--generate-tokens", str(tokens), "--repetitions", "3", "--context", "256"],
            capture_output=True, text=True, check=True).stdout
        bench_ms.append(1000 / json.loads(report)["decode_tokens_per_s"])
        process = subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until_ready(18431, process)
            runs = []
            for _ in range(4):
                times = []
                stream(18431, prompt, tokens, times)
                runs.append((times[tokens - 1] - times[0]) * 1000 / (tokens - 1))
            server_ms.append(statistics.median(runs[1:]))
        finally:
            process.terminate()
            process.wait()
    bench, served = statistics.median(bench_ms), statistics.median(server_ms)
    print(json.dumps({"bench_ms": round(bench, 3), "server_ms": round(served, 3),
                      "overhead_percent": round(100 * (served / bench - 1), 2),
                      "bench_all_ms": [round(ms, 3) for ms in bench_ms],
                      "server_all_ms": [round(ms, 3) for ms in server_ms]}, indent=1))


ITEM = {"type": "object", "required": ["name", "size", "kind"], "additionalProperties": False,
        "properties": {"name": {"type": "string", "maxLength": 20}, "size": {"type": "number"},
                       "kind": {"enum": ["small", "large", "unknown"]}}}


def constrained(options):
    """Decoding in turns with and without a schema, on one server, and the medians of both."""
    prompt, tokens = [5 + i % 90 for i in range(64)], 128
    schema = {"json_schema": {"type": "array", "minItems": 500, "items": ITEM}}
    process = subprocess.Popen(
        [options.moxie, "serve", options.model, "--port", "18431", "--context", "256",
         "--parallel", "1", "--log", "none"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kinds = {"free_ms": ({}, []), "constrained_ms": (schema, [])}
    try:
        wait_until_ready(18431, process)
        for turn in range(options.rounds + 1):
            for fields, runs in kinds.values():
                times = []
                stream(18431, prompt, tokens, times, **fields)
                if turn > 0:  # The first fills the masks.
                    runs.append((times[tokens - 1] - times[0]) * 1000 / (tokens - 1))
    finally:
        process.terminate()
        process.wait()
    result = {name: round(statistics.median(runs), 3) for name, (_, runs) in kinds.items()}
    result["overhead_percent"] = round(100 * (result["constrained_ms"] / result["free_ms"] - 1), 2)
    result["all"] = {name: [round(ms, 3) for ms in runs] for name, (_, runs) in kinds.items()}
    print(json.dumps(result, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--moxie", default=os.environ.get("MOXIE", "build/moxie"))
    parser.add_argument("--llama-server")
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--system", type=int, default=512)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--constrained", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: exit(1))  # Servers end with us.
    if options.overhead:
        return overhead(options)
    if options.constrained:
        return constrained(options)
    context = 64 * -(-(options.system + options.prompt + options.generate) // 64)
    results = {"moxie": measure(
        [options.moxie, "serve", options.model, "--port", "18431", "--parallel", str(options.users),
         "--context", str(context), "--log", "none"], 18431, options)}
    if options.llama_server:
        results["llama-server"] = measure(
            [options.llama_server, "-m", options.model, "--port", "18432", "-np",
             str(options.users), "-c", str(context * options.users)], 18432, options)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
