#!/usr/bin/env python3
"""The server does what its /openapi.json says: schemathesis makes requests from it, right and wrong
ones, and checks every answer against it."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from python_support import enter_venv
from server import Server, chat_model

CHECKS = ("not_a_server_error,status_code_conformance,content_type_conformance,"
          "response_schema_conformance,unsupported_method,allow_header_conformance")
EXAMPLES = os.environ.get("MOXIE_OPENAPI_EXAMPLES", "15")  # Of each route and phase.


class Described(unittest.TestCase):
    def test_answers_are_as_described(self):
        with tempfile.TemporaryDirectory() as folder, \
                Server(chat_model(folder), "--parallel", 4) as server:
            spec = server.get("/openapi.json")
            # Random names of models would mostly test 404.
            for schema in spec["components"]["schemas"].values():
                if "model" in schema.get("properties", {}) and "id" not in schema["properties"]:
                    schema["properties"]["model"] = {"type": "string", "enum": ["mixtral"]}
            path = pathlib.Path(folder) / "openapi.json"
            path.write_text(json.dumps(spec))
            run = subprocess.run(
                [sys.executable, "-m", "schemathesis.cli", "run", path, "--url", server.url,
                 "--checks", CHECKS, "--phases", "examples,coverage,fuzzing",
                 "--max-examples", EXAMPLES, "--seed", "1", "--continue-on-failure",
                 "--suppress-health-check", "all", "--no-color", "--warnings", "off"],
                capture_output=True, text=True, timeout=800, cwd=folder,
                env=dict(os.environ, HYPOTHESIS_STORAGE_DIRECTORY=folder))
            statuses = [json.loads(line)["status"] for line in server.log if line.startswith("{")]
            self.assertGreater(statuses.count(200), 300)
            self.assertEqual(run.returncode, 0, run.stdout[-6000:] + run.stderr[-2000:])
            # Every route is described.
            for path in spec["paths"]:
                status = server.request("PATCH", path.replace("{model}", "x"))[0]
                self.assertEqual(status, 405, path)


if __name__ == "__main__":
    enter_venv("schemathesis", "schemathesis")
    unittest.main()
