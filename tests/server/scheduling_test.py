#!/usr/bin/env python3
"""Who is served when: many requests of one user beside one of another, priorities, and clients that
leave while they wait, while their prompt is computed, and while they are answered."""
import json
import re
import socket
import threading
import unittest

from python_support import PATIENCE_S, wait_for
from server import GOLDEN, Server

MIXTRAL = GOLDEN / "mixtral"
LONG = 1 << 16


class Case(unittest.TestCase):
    def ask(self, server, headers=(), **fields):
        """A client whose request is sent."""
        body = json.dumps({"ignore_eos": True, "stream": True, **fields}).encode()
        client = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
        lines = "".join(f"{name}: {value}\r\n" for name, value in dict(headers).items())
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" + lines.encode() +
                       b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return client

    def stats(self, server, headers=()):
        return server.get("/moxie/stats", **dict(headers))["models"][0]

    def wait(self, server, headers=(), **want):
        wait_for(lambda: want.items() <= self.stats(server, headers).items(), poll_s=0.001)


class Sharing(Case):
    """The order in which answers come where one is computed at a time."""

    def finish_order(self, server, asks):
        """Sends all asks, (name, headers, fields), in this order; the names as answers go, by the
        server's own log: how soon clients hear of them is up to the machine."""
        threads, problems = [], []

        def run(name, headers, fields):
            body = {"prompt": [5, 6, 7], "max_tokens": 20, "ignore_eos": True, **fields}
            try:
                status, _, answer = server.request("POST", "/v1/completions", body,
                                                   {**headers, "X-Request-Id": name})
                self.assertEqual(status, 200, answer)
            except Exception as problem:  # Of another thread: told below.
                problems.append(problem)

        def logged():
            entries = [json.loads(line) for line in server.log if line.startswith("{")]
            return [entry["id"] for entry in entries if entry["id"] in {name for name, _, _ in asks}]

        headers = asks[0][1]
        busy = self.ask(server, headers, prompt=[8], max_tokens=LONG - 1)
        self.wait(server, headers, running=1)
        for count, ask in enumerate(asks, 1):
            threads.append(threading.Thread(target=run, args=ask))
            threads[-1].start()
            self.wait(server, headers, running=1, waiting=count)
        busy.close()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])
        wait_for(lambda: len(logged()) == len(asks))
        return logged()

    def test_one_request_does_not_wait_for_a_hundred_of_another_key(self):
        keys = [{"x-api-key": key} for key in ("many", "one")]
        with Server(MIXTRAL, "--parallel", 1, "--api-key", "many", "--api-key", "one",
                    context=LONG) as server:
            order = self.finish_order(server, [("many", keys[0], {})] * 100 + [("one", keys[1], {})])
        self.assertLess(order.index("one"), 3)

    def test_users_of_one_key_share_too(self):
        with Server(MIXTRAL, "--parallel", 1, context=LONG) as server:
            order = self.finish_order(server, [("many", {}, {"user": "many"})] * 20 +
                                      [("one", {}, {"user": "one"})] * 2)
            self.assertLess(order.index("one"), 3)
            self.assertEqual(order[:6].count("one"), 2)

    def test_those_who_are_nobody_come_as_they_came(self):
        with Server(MIXTRAL, "--parallel", 1, context=LONG) as server:
            order = self.finish_order(server, [(str(i), {}, {}) for i in range(10)])
            self.assertEqual(order, list("0123456789"))

    def test_lower_priorities_come_first(self):
        with Server(MIXTRAL, "--parallel", 1, context=LONG) as server:
            order = self.finish_order(server, [
                (str(i), {}, {"priority": p}) for i, p in enumerate((0, 7, 0, -5, 7, -1))])
            self.assertEqual(order, list("350214"))
            server.post("/v1/completions", {"prompt": "a", "priority": 1.5}, 400)
            server.post("/v1/completions", {"prompt": "a", "user": "u" * 257}, 400)


class Pages(Case):
    def test_long_answers_that_fill_all_pages_queue_and_come_whole(self):
        """Whoever starts has pages for the longest it can become; prefixes kept make room."""
        context, parallel, prompts = 256, 4, 10
        # Calls of several prompts, whose answers are queued at once, however slow the clients are.
        bodies = [{"prompt": [[3 + (7 * i + k * (i + 1)) % 320 for k in range(length)]
                              for i in range(length, length + prompts)],
                   "max_tokens": context - length, "ignore_eos": True, "temperature": 0}
                  for length in (180, 193, 206, 219)]
        with Server(MIXTRAL, "--parallel", parallel, context=context) as server:
            answers = [None] * len(bodies)

            def run(i):
                answers[i] = server.post("/v1/completions", bodies[i])

            threads = [threading.Thread(target=run, args=(i,)) for i in range(len(bodies))]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                stats = self.stats(server)
                self.assertLessEqual(stats["kv_pages_used"], stats["kv_pages"])
                self.assertLessEqual(stats["running"], parallel)
            for thread in threads:
                thread.join()
            tokens = prompts * sum(body["max_tokens"] for body in bodies)
            self.assertEqual(sum(answer["usage"]["completion_tokens"] for answer in answers), tokens)
            # Several were computed at once: alone, each token of an answer has a pass of its own.
            passes = re.search(r"^moxie_forward_passes_total\S* (\d+)$", server.get("/metrics").decode(), re.M)
            self.assertLess(int(passes[1]), tokens / 2)
            # What was computed is kept as long as nobody needs the room.
            stats = self.stats(server)
            self.assertGreater(stats["kv_pages_used"], stats["kv_pages"] * 0.75)
            for body, answer in zip(bodies, answers):  # Alone they are the same.
                for i in (0, prompts - 1):
                    alone = server.post("/v1/completions", dict(body, prompt=body["prompt"][i]))["choices"][0]
                    self.assertEqual((alone["text"], alone["finish_reason"]),
                                     (answer["choices"][i]["text"], "length"))


class Leaving(Case):
    def test_while_it_waits(self):
        with Server(MIXTRAL, "--parallel", 1, context=LONG) as server:
            running = self.ask(server, prompt=[5], max_tokens=LONG - 9)
            self.wait(server, running=1)
            waiting = [self.ask(server, prompt=[6], max_tokens=LONG - 9) for _ in range(5)]
            self.wait(server, running=1, waiting=5)
            for client in waiting:
                client.close()
            self.wait(server, running=1, waiting=0)
            running.close()
            self.wait(server, running=0)
            self.assertLess(self.stats(server)["generated_tokens"], LONG - 9)

    def test_while_its_prompt_is_computed(self):
        with Server(MIXTRAL, context=LONG) as server:
            tokens = LONG - 10
            client = self.ask(server, prompt=[3 + i % 300 for i in range(tokens)], max_tokens=5)
            self.wait(server, running=1)
            client.close()
            self.wait(server, running=0)
            stats = self.stats(server)
            self.assertLess(stats["prompt_tokens"], tokens)
            self.assertEqual(stats["generated_tokens"], 0)

    def test_while_it_is_answered(self):
        with Server(MIXTRAL, "--parallel", 2, context=LONG) as server:
            clients = [self.ask(server, prompt=[5], max_tokens=LONG - 9) for _ in range(2)]
            for client in clients:
                self.assertIn(b" 200 ", client.recv(4096))
            clients[0].close()
            self.wait(server, running=1)
            clients[1].close()
            self.wait(server, running=0, waiting=0)
            # What they computed stays for prompts that begin alike; nothing else is held.
            server.post("/v1/completions", {"prompt": [9] * 1000, "max_tokens": 2})
            self.assertLessEqual(self.stats(server)["kv_pages_used"], self.stats(server)["kv_pages"])


if __name__ == "__main__":
    unittest.main()
