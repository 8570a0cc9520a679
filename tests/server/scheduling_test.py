#!/usr/bin/env python3
"""Who is served when: many requests of one user beside one of another, priorities, and clients that
leave while they wait, while their prompt is computed, and while they are answered."""
import json
import socket
import threading
import time
import unittest

from server import GOLDEN, Server

MIXTRAL = GOLDEN / "mixtral"
LONG = 1 << 16


class Case(unittest.TestCase):
    def ask(self, server, headers=(), **fields):
        """A client whose request is sent."""
        body = json.dumps({"ignore_eos": True, "stream": True, **fields}).encode()
        client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        lines = "".join(f"{name}: {value}\r\n" for name, value in dict(headers).items())
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" + lines.encode() +
                       b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return client

    def stats(self, server, headers=()):
        return server.get("/moxie/stats", **dict(headers))["models"][0]

    def wait(self, server, headers=(), **want):
        start = time.monotonic()
        while any((stats := self.stats(server, headers))[name] != value
                  for name, value in want.items()):
            self.assertLess(time.monotonic() - start, 20, (want, stats))
            time.sleep(0.001)


class Sharing(Case):
    """The order in which answers come where one is computed at a time."""

    def finish_order(self, server, asks):
        """Sends all asks, (name, headers, fields), in this order; the names as answers come."""
        order, threads = [], []

        def run(name, headers, fields):
            body = {"prompt": [5, 6, 7], "max_tokens": 300, "ignore_eos": True, **fields}
            status, _, answer = server.request("POST", "/v1/completions", body, headers)
            assert status == 200, answer
            order.append(name)

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
        return order

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
        context, parallel, count = 256, 4, 40
        bodies = [{"prompt": [3 + (7 * i + k * (i + 1)) % 320 for k in range(180 + i)],
                   "max_tokens": context - 180 - i, "ignore_eos": True, "temperature": 0}
                  for i in range(count)]
        with Server(MIXTRAL, "--parallel", parallel, context=context) as server:
            answers, most = [None] * count, {"running": 0, "waiting": 0, "kv_pages_used": 0}

            def run(i):
                answers[i] = server.post("/v1/completions", bodies[i])

            threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                stats = self.stats(server)
                most = {name: max(value, stats[name]) for name, value in most.items()}
                self.assertLessEqual(stats["kv_pages_used"], stats["kv_pages"])
                time.sleep(0.002)
            for thread in threads:
                thread.join()
            for body, answer in zip(bodies, answers):
                self.assertEqual(answer["usage"]["completion_tokens"], body["max_tokens"])
            self.assertEqual(most["running"], parallel)
            # How many wait at once is how fast they came; that they wait while others run is the rule.
            self.assertGreaterEqual(most["waiting"], parallel)
            self.assertGreater(most["kv_pages_used"], stats["kv_pages"] * 0.75)
            for i in (0, 17, 39):  # Alone they are the same.
                self.assertEqual(server.post("/v1/completions", bodies[i])["choices"],
                                 answers[i]["choices"])


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
