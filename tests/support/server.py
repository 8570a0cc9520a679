"""A running `moxie serve` for tests, and the least of HTTP that they need."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest

from python_support import MOXIE, PATIENCE_S, ROOT

GOLDEN = ROOT / "tests/golden/models"
CACHE = tempfile.TemporaryDirectory()  # Not the user's, for what is measured here is measured in a crowd.

# In the manner of published templates: tools in the system's turn, calls and results as JSON.
TEMPLATE = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls %}<tool_call>{{ c.function.arguments.city }}</tool_call>{% endfor %}"
    "{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}")


def chat_model(folder, name="mixtral"):
    """A golden model that has a chat template."""
    path = pathlib.Path(folder) / name
    shutil.copytree(GOLDEN / name, path)
    (path / "chat_template.jinja").write_text(TEMPLATE)
    return path


class Server:
    """`with Server(model, "--parallel", "2") as server:`; ends with SIGTERM and checks the status."""

    def __init__(self, *arguments, port=0, context=128, threads=1, environment=None):
        self.command = [MOXIE, "serve", *map(str, arguments), "--port", str(port),
                        "--context", str(context), "--threads", str(threads)]
        self.environment = os.environ | {"XDG_CACHE_HOME": CACHE.name} | (environment or {})
        self.log = []

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True,
                                        env=self.environment)
        while True:
            line = self.process.stderr.readline()
            if not line:
                raise AssertionError("moxie serve ended: " + "".join(self.log))
            self.log.append(line)
            if line.startswith("listening on "):
                break
        self.url = line.split()[-1]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        return self

    def _read_log(self):
        self.log.extend(self.process.stderr)

    def __exit__(self, kind, value, trace):
        status = self.stop()
        if kind is None and status != 0:
            raise AssertionError(f"moxie serve ended with {status}: " + "".join(self.log)[-2000:])

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.reader.join()
        self.process.stderr.close()
        return status

    def connect(self, timeout=PATIENCE_S):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None):
        """Status, headers and body of one request; JSON where it is."""
        connection = self.connect()
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        kind = response.headers.get("Content-Type", "")
        return response.status, response.headers, json.loads(text) if "json" in kind else text

    def get(self, path, **headers):
        status, _, body = self.request("GET", path, headers=headers)
        assert status == 200, (status, body)
        return body

    def post(self, path, body, status=200):
        got, _, answer = self.request("POST", path, body)
        assert got == status, (got, answer)
        return answer

    def stream(self, path, body):
        """The data of a stream's events, until [DONE]."""
        return [data for _, data in self.events(path, dict(body, stream=True))]

    def events(self, path, body):
        """(event, data) of a stream's events."""
        connection = self.connect()
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        events = []
        for block in response.read().decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if fields.get("data", "[DONE]") != "[DONE]":
                events.append((fields.get("event"), json.loads(fields["data"])))
        connection.close()
        return events


class ServerCase(unittest.TestCase):
    """Tests that share one server of a golden model with a chat template."""
    parallel = 2

    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.server = Server(chat_model(cls.holder.name), "--parallel", cls.parallel).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)
        cls.holder.cleanup()
