#!/usr/bin/env python3
"""moxie chat on a terminal of its own (a pty): editing, history, Ctrl-C, commands."""
import json
import os
import pathlib
import pty
import re
import select
import signal
import tempfile
import termios
import time
import unittest

from command_case import Case
from python_support import MOXIE, PATIENCE_S, wait_for

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
UP, LEFT, HOME, END, DELETE = "\x1b[A", "\x1b[D", "\x1b[H", "\x1b[F", "\x1b[3~"


class Terminal:
    """A program with a terminal as its standard input, output and error."""

    def __init__(self, *args, home):
        environment = {**os.environ, "HOME": str(home), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        environment.pop("XDG_STATE_HOME", None)
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.execve(MOXIE, [MOXIE, *map(str, args)], environment)
        termios.tcsetwinsize(self.end, (40, 200))
        self.seen = ""
        self.status = None

    def type(self, keys):
        """To the line editor, which takes keys a moment after it has written its prompt: before, the
        terminal has its own meanings for some of them."""
        wait_for(lambda: not termios.tcgetattr(self.end)[3] & termios.ICANON)
        os.write(self.end, keys.encode())

    def interrupt(self):
        os.write(self.end, b"\x03")

    def read(self):
        """What has come, or nothing where the program has ended."""
        if not select.select([self.end], [], [], 0.2)[0]:
            return True
        try:
            data = os.read(self.end, 1 << 16)
        except OSError:
            return False
        self.seen += ESCAPES.sub("", data.decode(errors="replace")).replace("\r\n", "\n")
        return bool(data)

    def expect(self, pattern):
        """Waits until the pattern has come since the last time, and takes all up to its end."""
        until = time.monotonic() + PATIENCE_S
        while True:
            found = re.search(pattern, self.seen)
            if found:
                before, self.seen = self.seen[:found.end()], self.seen[found.end():]
                return before
            if not self.read() or time.monotonic() > until:
                raise AssertionError(f"{pattern!r} did not come, but {self.seen!r}")

    def ends(self):
        """The exit status."""
        until = time.monotonic() + PATIENCE_S
        while self.read():
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.end)
        self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.ends()


class Chat(Case):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.home = pathlib.Path(holder.name)
        self.saved = self.home / "saved.json"

    def chat(self, *options, model=None):
        terminal = Terminal("chat", model or self.tiny, *options, home=self.home)
        self.addCleanup(terminal.close)
        terminal.expect(r"Ctrl-D ends\.\n> ")
        return terminal

    def short(self, **kwargs):
        return self.chat("--max-tokens", "4", "--ignore-eos", **kwargs)

    def conversation(self, terminal):
        """What /save writes."""
        terminal.type(f"/save {self.saved}\r")
        terminal.expect(r"/save [^\n]*\n[^\n]*> ")
        return json.loads(self.saved.read_text())

    def said(self, terminal):
        return [m["content"] for m in self.conversation(terminal)["messages"] if m["role"] == "user"]

    def test_answers_and_ends(self):
        terminal = self.short()
        terminal.type("hello\r")
        terminal.expect(r"cut short[^\n]*\n[^\n]*> ")
        saved = self.conversation(terminal)
        self.assertEqual([m["role"] for m in saved["messages"]], ["user", "assistant"])
        terminal.type("\x04")
        self.assertEqual(terminal.ends(), 0)
        other = self.short()
        other.type("/quit\r")
        self.assertEqual(other.ends(), 0)

    def test_lines_are_edited(self):
        terminal = self.short()
        for keys in ("helo" + LEFT + "l", "ello" + HOME + "h" + END + "!", "xhey" + HOME + DELETE,
                     "hi therx\x7fe", "one two\x17three"):
            terminal.type(keys + "\r")
            terminal.expect(r"cut short[^\n]*\n[^\n]*> ")
        self.assertEqual(self.said(terminal), ["hello", "hello!", "hey", "hi there", "one three"])

    def test_characters_of_several_bytes_are_one(self):
        terminal = self.short()
        terminal.type("na\u00efx\x7fve" + LEFT + LEFT + LEFT + "\x7f" + "a\r")
        terminal.expect(r"cut short[^\n]*\n[^\n]*> ")
        self.assertEqual(self.said(terminal), ["na\u00efve"])

    def test_history_goes_over_to_the_next_session(self):
        terminal = self.short()
        for text in ("first", "second"):
            terminal.type(text + "\r")
            terminal.expect(r"cut short[^\n]*\n[^\n]*> ")
        terminal.type(UP + UP + "\r")
        terminal.expect(r"cut short[^\n]*\n[^\n]*> ")
        self.assertEqual(self.said(terminal), ["first", "second", "first"])
        terminal.type("\x04")
        self.assertEqual(terminal.ends(), 0)
        history = self.home / ".local/state/moxie/chat_history"
        self.assertEqual(history.stat().st_mode & 0o777, 0o600)
        other = self.short()
        other.type("\x12fir\r")  # Searches backwards.
        other.expect(r"cut short[^\n]*\n[^\n]*> ")
        self.assertEqual(self.said(other), ["first"])

    def test_several_lines_are_one_message(self):
        terminal = self.short()
        terminal.type("one \\\r")
        terminal.expect("\u2026 ")
        terminal.type("two\r")
        terminal.expect(r"cut short[^\n]*\n[^\n]*> ")
        terminal.type("pasted\rtogether\r")
        terminal.expect(r"cut short[^\n]*\n[^\n]*> ")
        self.assertEqual(self.said(terminal), ["one \ntwo", "pasted\ntogether"])

    def test_ctrl_c_gives_up_the_line(self):
        terminal = self.short()
        terminal.type("never sent\x03")
        terminal.expect(r"\^C\n[^\n]*> ")
        terminal.type("sent\r")
        terminal.expect(r"cut short[^\n]*\n[^\n]*> ")
        self.assertEqual(self.said(terminal), ["sent"])

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        terminal = self.chat("--context", "100000", "--max-tokens", "90000", "--ignore-eos")
        terminal.type("go on\r")
        terminal.expect(r"go on\n[^\n]*[^\n>]{20}")  # It answers,
        terminal.interrupt()
        terminal.expect(r"\n> $")  # stops,
        saved = self.conversation(terminal)
        self.assertEqual([m["role"] for m in saved["messages"]], ["user", "assistant"])
        self.assertTrue(saved["messages"][1]["content"], "what it said so far is kept")
        terminal.type("/stats\r")
        terminal.expect("tokens")
        terminal.type("\x04")
        self.assertEqual(terminal.ends(), 0)

    def test_commands(self):
        terminal = self.short()
        for command, answer in (("/help", "Ctrl-C stops an answer"), ("/system", "No system message"),
                                ("/stats", "No answer yet"), ("/routing", "Nothing has been routed"),
                                ("/nonsense", "No command /nonsense"), ("/save", "needs a FILE"),
                                ("/load /no/such/file", "/no/such/file")):
            terminal.type(command + "\r")
            terminal.expect(re.escape(answer) + r"[^>]*> ")
        terminal.type("/system Be brief.\r")
        terminal.expect("> ")
        terminal.type("/system\r")
        terminal.expect(r"\nBe brief\.\n[^\n]*> ")
        terminal.type("hello\r")
        terminal.expect(r"cut short[^\n]*\n[^\n]*> ")
        terminal.type("/stats\r")
        terminal.expect(r"tokens[^>]*> ")
        saved = self.conversation(terminal)
        self.assertEqual(saved["system"], "Be brief.")
        other = self.short()
        other.type(f"/load {self.saved}\r")
        other.expect(r"/load [^\n]*\n[^\n]*> ")
        self.assertEqual(self.conversation(other), saved)
        other.type("/clear\r")
        other.expect(r"/clear\n[^\n]*> ")
        self.assertEqual(self.conversation(other), {"system": "Be brief.", "messages": []})

    def test_routing_of_a_mixture(self):
        mixture = self.home / "mixture.gguf"
        os.spawnv(os.P_WAIT, MOXIE, [MOXIE, "upcycle", str(self.tiny), str(mixture), "--noise", "1"])
        terminal = self.short(model=mixture)
        terminal.type("hello\r")
        terminal.expect(r"cut short[^\n]*\n[^\n]*> ")
        terminal.type("/routing\r")
        self.assertIn("%", terminal.expect(r"/routing\n(.*\n)+[^\n]*> "))


if __name__ == "__main__":
    unittest.main()
