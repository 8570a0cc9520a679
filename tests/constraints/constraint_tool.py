"""Drives constraint_tool: one process for many constraints."""
import json
import os
import pathlib
import subprocess

from python_support import ROOT

TOOL = pathlib.Path(os.environ.get("MOXIE_BUILD", ROOT / "build")) / "constraint_tool"


class Tool:
    def __init__(self, *args):
        self.process = subprocess.Popen([TOOL, *map(str, args)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def ask(self, kind, text, **more):
        request = dict(kind=kind, text=text, **more)
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"constraint_tool ended: {request}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0
