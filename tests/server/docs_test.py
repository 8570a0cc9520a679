#!/usr/bin/env python3
"""The examples of docs/server.md, run as they stand, and the Grafana dashboard's metrics."""
import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from python_support import PATIENCE_S, ROOT
from server import Server, chat_model

DOCUMENT = (ROOT / "docs/server.md").read_text()


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.server = Server(chat_model(cls.holder.name), context=512).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)
        cls.holder.cleanup()

    def test_every_curl_line_works(self):
        lines = [line for block in re.findall(r"```\w*\n(.*?)```", DOCUMENT, re.S)
                 for line in block.splitlines() if line.startswith("curl ")]
        self.assertGreater(len(lines), 10)
        for line in lines:
            with self.subTest(line=line):
                command = line.replace("http://127.0.0.1:8080", self.server.url)
                self.assertNotEqual(command, line)
                run = subprocess.run(["bash", "-c", command.replace("curl ", "curl -fsS ", 1)],
                                     capture_output=True, text=True, timeout=PATIENCE_S)
                self.assertEqual(run.returncode, 0, run.stderr)
                self.assertTrue(run.stdout)

    def test_every_route_is_documented(self):
        for path in self.server.get("/openapi.json")["paths"]:
            self.assertIn(path, DOCUMENT)

    def test_the_dashboard_asks_for_metrics_that_exist(self):
        dashboard = json.loads((ROOT / "docs/grafana.json").read_text())
        self.server.post("/v1/completions", {"prompt": "a", "max_tokens": 2})
        known = set(re.findall(r"^(\w+)", self.server.get("/metrics").decode(), re.M))
        asked = {name for panel in dashboard["panels"] for target in panel["targets"]
                 for name in re.findall(r"moxie_\w+", target["expr"])}
        self.assertGreater(len(asked), 12)
        self.assertLessEqual(asked, known)


if __name__ == "__main__":
    if shutil.which("curl") is None:
        print("skipped: no curl")
        sys.exit(77)
    unittest.main()
