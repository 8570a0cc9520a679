#!/usr/bin/env python3
"""What must not harm the server: foreign hosts and pages, wrong keys, requests without measure."""
import contextlib
import http.client
import json
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from python_support import MOXIE, PATIENCE_S, wait_for
from server import GOLDEN, Server, ServerCase

MIXTRAL = GOLDEN / "mixtral"


class Http(ServerCase):
    def raw(self, data):
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_S) as client:
            client.sendall(data)
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
            return answer

    def test_a_host_that_is_not_ours_is_refused(self):
        for host in ("evil.example", "127.evil.example", "localhost.evil", ""):
            status, _, _ = self.server.request("GET", "/health", headers={"Host": host})
            self.assertEqual(status, 403, host)
        for host in ("localhost", "127.0.0.1:99", "[::1]:8080"):
            status, _, _ = self.server.request("GET", "/health", headers={"Host": host})
            self.assertEqual(status, 200, host)

    def test_a_page_from_elsewhere_is_refused(self):
        status, headers, _ = self.server.request("POST", "/tokenize", {"prompt": "a"},
                                                 {"Origin": "https://evil.example"})
        self.assertEqual(status, 403)
        self.assertNotIn("Access-Control-Allow-Origin", headers)
        own = f"http://127.0.0.1:{self.server.port}"
        status, _, _ = self.server.request("POST", "/tokenize", {"prompt": "a"}, {"Origin": own})
        self.assertEqual(status, 200)

    def test_too_much_is_refused_before_it_is_read(self):
        head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\n"
        self.assertIn(b" 413 ", self.raw(head + b"Content-Length: 99999999999\r\n\r\n"))
        self.assertIn(b" 413 ", self.raw(head + b"Transfer-Encoding: chunked\r\n\r\n2000001\r\n"))
        self.assertIn(b" 431 ", self.raw(head + b"X: " + b"y" * 100000 + b"\r\n\r\n"))
        self.assertIn(b" 400 ", self.raw(b"\x16\x03\x01hello\r\n\r\n"))
        self.assertIn(b" 400 ", self.raw(head + b"Content-Length: -5\r\n\r\n"))

    def test_a_body_without_end_is_cut_off(self):
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_S) as client:
            client.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n")
            chunk, begin = b"100000\r\n" + b" " * (1 << 20) + b"\r\n", time.monotonic()
            with self.assertRaises(OSError):
                while time.monotonic() - begin < PATIENCE_S:
                    client.sendall(chunk)
        self.assertEqual(self.server.get("/health"), {"status": "ok"})

    def test_bodies_of_many_clients_are_limited_together(self):
        clients, mib = [], b" " * (1 << 20)
        for _ in range(9):  # 30 MiB each, never complete: the ninth is one too many.
            clients.append(socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_S))
            clients[-1].sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\n"
                                b"Content-Length: 33000000\r\n\r\n")
            with contextlib.suppress(OSError):  # It need not take the rest.
                for _ in range(30):
                    clients[-1].sendall(mib)
        self.assertIn(b" 429 ", clients[-1].recv(1000))
        self.server.post("/tokenize", {"prompt": "a"})  # The ninth made room again.
        for client in clients:
            client.close()
        again = (b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                 b"Content-Length: 31457280\r\n\r\n" + mib * 30)
        # Until the server has noticed that they left, it may be one too many, too.
        answer = wait_for(lambda: b" 429 " not in (text := self.raw(again)) and text, poll_s=0.1)
        self.assertIn(b" 400 ", answer)

    def test_pipelined_requests_are_answered_in_order(self):
        one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
        answer = self.raw(one + b"\r\n" + one.replace(b"health", b"ready") +
                          b"Connection: close\r\n\r\n")
        self.assertLess(answer.index(b'"ok"'), answer.index(b'"ready"'))

    def test_a_large_body_is_asked_for(self):
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_S) as client:
            body = json.dumps({"prompt": "a" * 5000}).encode()
            client.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body))
            self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 100 "))
            client.sendall(body)
            self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200 "))

    def test_request_ids_come_back_and_are_logged(self):
        _, headers, _ = self.server.request("GET", "/health", headers={
            "X-Request-Id": "mine-1", "traceparent": "00-abc-def-01"})
        self.assertEqual(headers["X-Request-Id"], "mine-1")
        self.server.request("POST", "/tokenize", {"prompt": "a secret"}, {"X-Request-Id": "mine-2"})
        wait_for(lambda: any('"mine-2"' in line for line in self.server.log))
        line = next(line for line in self.server.log if '"mine-1"' in line)
        self.assertEqual(json.loads(line)["traceparent"], "00-abc-def-01")
        self.assertNotIn("a secret", "".join(self.server.log))

    def test_an_allowed_page_may_read_and_ask_first(self):
        with Server(MIXTRAL, "--allow-origin", "https://chat.example", "--api-key", "k") as server:
            origin = {"Origin": "https://chat.example"}
            status, headers, _ = server.request("OPTIONS", "/v1/chat/completions", headers=dict(
                origin, **{"Access-Control-Request-Method": "POST",
                           "Access-Control-Request-Headers": "authorization,content-type"}))
            self.assertEqual(status, 204)
            self.assertEqual(headers["Access-Control-Allow-Origin"], "https://chat.example")
            self.assertIn("POST", headers["Access-Control-Allow-Methods"])
            self.assertIn("Authorization", headers["Access-Control-Allow-Headers"])
            # It may read refusals too; the page elsewhere may not.
            status, headers, _ = server.request("GET", "/v1/models", headers=origin)
            self.assertEqual((status, headers["Access-Control-Allow-Origin"]),
                             (401, "https://chat.example"))
            for other in ("https://chat.example.evil", "http://chat.example", "null"):
                status, headers, _ = server.request("GET", "/health", headers={"Origin": other})
                self.assertEqual(status, 403, other)
                self.assertNotIn("Access-Control-Allow-Origin", headers)

    def test_slow_and_endless_senders_stall_nobody(self):
        slow = []
        for i in range(50):
            client = socket.create_connection(("127.0.0.1", self.server.port))
            client.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\n")
            slow.append(client)
        start = time.monotonic()
        for step in range(10):  # Whoever waited for one of them would wait for its time to be over.
            for client in slow:
                client.sendall(b"X: y\r\n" if step < 5 else b"Content-Length: 9000\r\n\r\n{"
                               if step == 5 else b" ")
            self.server.post("/tokenize", {"prompt": "a"})
        self.assertLess(time.monotonic() - start, 50)
        for client in slow:
            client.close()

    def test_headers_bodies_and_answers_have_their_time(self):
        with Server(MIXTRAL, "--timeout", 2, "--parallel", 1, context=1 << 16) as server:
            head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\n"
            slow = {}
            for name, begin, drip in (("silent", b"", b""), ("headers", head, b"X: y\r\n"),
                                      ("body", head + b"Content-Length: 9000\r\n\r\n{", b" "),
                                      ("chunks", head + b"Transfer-Encoding: chunked\r\n\r\n",
                                       b"1\r\n \r\n")):
                for _ in range(20):
                    client = socket.create_connection(("127.0.0.1", server.port))
                    client.sendall(begin)
                    slow[client] = [name, drip, time.monotonic(), None]
            start = time.monotonic()
            while time.monotonic() - start < PATIENCE_S and any(s[3] is None for s in slow.values()):
                for client, state in slow.items():  # A byte now and then puts nothing off.
                    if state[3] is None and self.closed(client, state[1]):
                        state[3] = time.monotonic() - state[2]
                self.assertEqual(server.request("POST", "/tokenize", {"prompt": "a"})[0], 200)
                time.sleep(0.2)
            for client, (name, _, _, seconds) in slow.items():
                self.assertIsNotNone(seconds, name)
                self.assertGreater(seconds, 1, name)
                client.close()
            # Who does not take a stream holds its place no longer than that either.
            body = json.dumps({"prompt": [5], "max_tokens": 60000, "ignore_eos": True,
                               "stream": True, "logprobs": 5}).encode()
            deaf = socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", server.port))
            deaf.sendall(head.replace(b"/tokenize", b"/v1/completions") +
                         b"Content-Length: %d\r\n\r\n" % len(body) + body)
            stats = lambda: server.get("/moxie/stats")["models"][0]
            wait_for(lambda: stats()["generated_tokens"] > 0)
            wait_for(lambda: stats()["running"] == 0)
            self.assertLess(stats()["generated_tokens"], 59000)
            deaf.close()

    def closed(self, client, drip):
        """Whether the server has closed on this client, which sends a little more."""
        try:
            client.settimeout(0.001)
            client.sendall(drip)
            while True:
                if client.recv(4096) == b"":
                    return True
        except socket.timeout:
            return False
        except OSError:
            return True

    def test_a_template_cannot_be_overridden(self):
        ask = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "temperature": 0}
        plain = self.server.post("/v1/chat/completions", ask)
        tricky = self.server.post("/v1/chat/completions", dict(
            ask, messages=[dict(ask["messages"][0], role="user", tool_calls=[], eos_token="x",
                                messages=[], add_generation_prompt=False)],
            chat_template="{{ 1/0 }}", chat_template_kwargs={"messages": []}))
        self.assertEqual(plain["usage"]["prompt_tokens"], tricky["usage"]["prompt_tokens"])


class Tls(unittest.TestCase):
    def test_certificates(self):
        if shutil.which("openssl") is None:
            self.skipTest("no openssl to make a certificate with")
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = f"{folder}/k.pem", f"{folder}/c.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                            "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out",
                            certificate, "-days", "2", "-subj", "/CN=localhost", "-addext",
                            "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                           check=True, capture_output=True)
            with Server(MIXTRAL, "--tls-cert", certificate, "--tls-key", key) as server:
                self.assertTrue(server.url.startswith("https://"))
                trusting = ssl.create_default_context(cafile=certificate)
                body = json.dumps({"prompt": "a", "max_tokens": 3, "stream": True,
                                   "ignore_eos": True}).encode()
                connection = http.client.HTTPSConnection("localhost", server.port, context=trusting,
                                                         timeout=PATIENCE_S)
                for _ in range(2):  # One connection, kept.
                    connection.request("POST", "/v1/completions", body)
                    response = connection.getresponse()
                    self.assertEqual(response.status, 200)
                    self.assertTrue(response.read().endswith(b"data: [DONE]\n\n"))
                connection.close()
                with self.assertRaises(ssl.SSLError):
                    self.handshake(server, ssl.create_default_context())
                old = ssl.create_default_context(cafile=certificate)
                old.maximum_version = ssl.TLSVersion.TLSv1_1
                old.set_ciphers("DEFAULT@SECLEVEL=0")
                with self.assertRaises((ssl.SSLError, ConnectionResetError)):
                    self.handshake(server, old)
                self.assertEqual(self.handshake(server, trusting), "TLSv1.3")
                # Plain HTTP and rubbish are closed on, and hold up nobody.
                with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as plain:
                    plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    self.assertNotIn(b"200", plain.recv(1000))
            for arguments in ((certificate, f"{folder}/none"), (key, key), (certificate, certificate)):
                Starting.failed(self, MIXTRAL, "--port", "0", "--tls-cert", arguments[0],
                                "--tls-key", arguments[1])
            Starting.failed(self, MIXTRAL, "--port", "0", "--tls-cert", certificate)

    def handshake(self, server, context):
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client, \
                context.wrap_socket(client, server_hostname="localhost") as secure:
            return secure.version()


class Logs(unittest.TestCase):
    def test_lines_are_json_and_say_what_was_asked_to(self):
        for kind, fields in (("none", None), ("requests", set()), ("prompts", {"body"})):
            with Server(MIXTRAL, "--log", kind, "--api-key", "k1", "--api-key", "k2") as server:
                trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
                status, _, _ = server.request(
                    "POST", "/tokenize", {"prompt": "a secret"},
                    {"x-api-key": "k2", "traceparent": trace, "X-Request-Id": "bad id"})
                self.assertEqual(status, 200)
            lines = [line for line in server.log if not line.startswith("listening on")]
            if fields is None:
                self.assertEqual(lines, [])
                continue
            (entry,) = [json.loads(line) for line in lines]
            self.assertLessEqual({"time", "event", "id", "client", "method", "path", "key", "status",
                                  "ms", "traceparent"} | fields, set(entry))
            self.assertEqual((entry["key"], entry["status"], entry["traceparent"]),
                             ("key2", 200, trace))
            self.assertRegex(entry["id"], "^req_")
            self.assertEqual("a secret" in str(entry), kind == "prompts")


class Leaving(unittest.TestCase):
    """Clients that go away or do not read, and the server's own end."""
    ASK = json.dumps({"prompt": [5, 6, 7], "max_tokens": 100000, "ignore_eos": True, "stream": True,
                      "temperature": 1}).encode()

    def open_stream(self, server):
        client = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                       b"Content-Length: %d\r\n\r\n" % len(self.ASK) + self.ASK)
        self.assertIn(b" 200 ", client.recv(4096))
        return client

    def running(self, server):
        return server.get("/moxie/stats")["models"][0]["running"]

    def test_a_client_that_leaves_frees_its_place(self):
        with Server(MIXTRAL, "--parallel", 1, context=1 << 16) as server:
            client = self.open_stream(server)
            client.close()
            wait_for(lambda: self.running(server) == 0)
            generated = server.get("/moxie/stats")["models"][0]["generated_tokens"]
            self.assertLess(generated, 60000)
            server.post("/v1/completions", {"prompt": "a", "max_tokens": 2})

    def test_a_client_that_does_not_read_stalls_nobody(self):
        with Server(MIXTRAL, "--parallel", 2, context=4096) as server:
            client = self.open_stream(server)
            for _ in range(3):
                server.post("/v1/completions", {"prompt": "a", "max_tokens": 4})
            client.close()

    def test_a_shutdown_finishes_streams(self):
        with Server(MIXTRAL, "--parallel", 1, context=600) as server:
            client = self.open_stream(server)
            server.process.terminate()
            rest = b""
            while chunk := client.recv(65536):
                rest += chunk
            self.assertIn(b"data: [DONE]", rest)
            client.close()

    def test_a_shutdown_refuses_what_comes_and_a_second_one_ends_at_once(self):
        with Server(MIXTRAL, "--parallel", 1, context=1 << 16) as server:
            client, idle = self.open_stream(server), server.connect()
            idle.request("GET", "/ready")
            self.assertEqual(idle.getresponse().read(), b'{"status":"ready"}')
            server.process.terminate()
            self.assertEqual(idle.sock.recv(100), b"")  # Idle connections end.
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
            self.assertIsNone(server.process.poll())
            server.process.terminate()
            self.assertEqual(server.process.wait(timeout=PATIENCE_S), 0)
            client.close()
            idle.close()

    def test_a_thousand_idle_connections_beside_64_active_ones(self):
        # Each end of a connection is a file.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < 2500:
            self.skipTest(f"{hard} open files are too few")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2500), hard))
        body = {"prompt": [5, 6, 7], "max_tokens": 40, "ignore_eos": True, "temperature": 0}
        with Server(MIXTRAL, "--parallel", 64, "--log", "none", context=256) as server:
            want = server.post("/v1/completions", body)["choices"][0]["text"]
            self.answers(server, body, 64)  # What 64 answers take is taken now.
            before = self.resident_bytes(server)
            idle = []
            for _ in range(1000):  # Kept alive: each has asked once.
                idle.append(server.connect())
                idle[-1].request("GET", "/health")
                self.assertEqual(idle[-1].getresponse().read(), b'{"status":"ok"}')
            a_connection = (self.resident_bytes(server) - before) / len(idle)
            self.assertLess(a_connection, 40 << 10)
            for _ in range(2):
                self.assertEqual(set(self.answers(server, body, 64)), {want})
            print(f"{a_connection / 1024:.1f} KiB an idle connection", file=sys.stderr)
            for client in idle:  # All of them still work.
                client.request("GET", "/ready")
                self.assertEqual(client.getresponse().read(), b'{"status":"ready"}')
                client.close()

    def answers(self, server, body, count):
        texts = []
        threads = [threading.Thread(target=lambda: texts.append("".join(
            event["choices"][0]["text"] for event in server.stream("/v1/completions", body))))
            for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(texts), count)
        return texts

    def resident_bytes(self, server):
        with open(f"/proc/{server.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) << 10

    def test_a_context_of_one_token_refuses_politely(self):
        with Server(MIXTRAL, context=1) as server:
            server.post("/v1/completions", {"prompt": [5], "max_tokens": 1}, 400)


class Starting(unittest.TestCase):
    def failed(self, *arguments):
        run = subprocess.run([MOXIE, "serve", *map(str, arguments)], capture_output=True, text=True,
                             timeout=PATIENCE_S)
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertEqual(run.stderr.count("\n"), 1, run.stderr)
        self.assertTrue(run.stderr.startswith("moxie serve: "))
        return run.stderr

    def test_needs_a_key_where_others_can_reach_it(self):
        self.assertIn("--api-key", self.failed(MIXTRAL, "--host", "0.0.0.0", "--port", "0"))

    def test_says_what_is_wrong(self):
        self.assertIn("no MODEL", self.failed())
        self.assertIn("NAME=MODEL", self.failed("--name", "x"))
        self.failed("/no/such/model", "--port", "0")
        with Server(MIXTRAL) as server:
            self.assertIn(str(server.port), self.failed(MIXTRAL, "--port", server.port))
        self.assertIn("mixtral", self.failed(MIXTRAL, MIXTRAL))

    def test_keys(self):
        with Server(MIXTRAL, "--host", "0.0.0.0", "--api-key", "one", "--api-key", "two") as server:
            for headers, want in (({}, 401), ({"Authorization": "Bearer on"}, 401),
                                  ({"Authorization": "Bearer oneone"}, 401),
                                  ({"Authorization": "Bearer one"}, 200),
                                  ({"x-api-key": "two"}, 200)):
                status, _, _ = server.request("GET", "/v1/models", headers=headers)
                self.assertEqual(status, want, headers)
            self.assertEqual(server.request("GET", "/health")[0], 200)


if __name__ == "__main__":
    unittest.main()
