#!/usr/bin/env python3
"""The page at /, driven in a headless Chromium as a person would: type, read, stop, branch."""
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

import server
from python_support import PATIENCE_S, ROOT, moxie
from server import Server, chat_model

try:
    from selenium import webdriver
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
except ImportError:
    print("skipped: no selenium for Python")
    sys.exit(77)
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    print("skipped: no chromium and chromedriver")
    sys.exit(77)

PICTURES = os.environ.get("MOXIE_PAGE_PICTURES")  # A folder: what the page looked like, to look at.


def browser(folder, width=1200, height=800, dark=False):
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                     f"--user-data-dir={folder}", f"--window-size={width},{height}"):
        options.add_argument(argument)
    if dark:
        options.add_argument("--force-dark-mode")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))


def shown_bytes(count):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024


def shown_rate(tokens_per_s):
    """Three digits, thousands apart."""
    return f"{float(f'{tokens_per_s:.3g}'):,.9f}".rstrip("0").rstrip(".") + " tokens/s"


class Case(unittest.TestCase):
    DARK = False
    CONTEXT = 512
    problems_expected = 0

    def model(self):
        """The arguments of `moxie serve`."""
        return [os.environ.get("MOXIE_PAGE_MODEL") or chat_model(self.folder.name)]

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.arguments = self.model()
        self.server = Server(*self.arguments, "--parallel", 2, context=self.CONTEXT).__enter__()
        self.drive = browser(pathlib.Path(self.folder.name) / "profile", dark=self.DARK)
        self.drive.get(self.server.url)

    def tearDown(self):
        problems = [entry for entry in self.drive.get_log("browser") if entry["level"] == "SEVERE"]
        problems = problems[self.problems_expected:]  # The browser notes each refusal.
        self.drive.quit()
        self.server.__exit__(None, None, None)
        self.folder.cleanup()
        self.assertEqual(problems, [])

    def element(self, identifier):
        return self.drive.find_element(By.ID, identifier)

    def all(self, selector):
        return self.drive.find_elements(By.CSS_SELECTOR, selector)

    def fact(self, name):
        names = [term.text for term in self.all("#facts dt")]
        return self.all("#facts dd")[names.index(name)].text

    def check_speed(self, bound):
        """The answer's speed has three digits, and its share of the bound is that of these numbers."""
        speed, share = re.fullmatch(r"(.+ tokens/s), (\d+) % of bound", self.fact("speed")).groups()
        value = float(speed.removesuffix(" tokens/s").replace(",", ""))
        self.assertEqual(speed, shown_rate(value))
        self.assertAlmostEqual(100 * value / bound, int(share), delta=0.5 + value / bound)

    def wait(self, condition):
        # The page may draw anew between finding an element and reading it.
        WebDriverWait(self.drive, PATIENCE_S, poll_frequency=0.1, ignored_exceptions=[StaleElementReferenceException]).until(
            lambda _: condition())

    def wait_for_answer(self):
        self.wait(lambda: self.element("send").is_displayed())

    def ask(self, text):
        self.element("prompt").send_keys(text, Keys.ENTER)

    def limit(self, tokens):
        self.element("settings-button").click()
        for name, value in (("max_tokens", tokens), ("temperature", 0)):
            field = self.element(name)
            field.clear()
            field.send_keys(str(value), Keys.TAB)
        self.element("settings-button").click()

    def picture(self, name):
        if PICTURES:
            self.drive.save_screenshot(f"{PICTURES}/{name}.png")


class Page(Case):
    def test_answers_and_shows_the_routing(self):
        self.limit(12)
        self.ask("What is a mixture of experts?")
        self.wait(lambda: self.all("li.assistant .message"))
        self.wait_for_answer()
        self.assertEqual([m.text for m in self.all("li.user .message")], ["What is a mixture of experts?"])
        tokens = self.all("#tokens span")
        self.assertTrue(tokens)
        self.assertTrue(self.element("heat").is_displayed())
        self.element("tokens").send_keys(Keys.ARROW_RIGHT)
        rows = self.all("#token tr")
        self.assertTrue(rows)
        self.assertRegex(rows[0].text, r"layer \d+\s+\d+: \d\.\d\d")
        self.assertRegex(self.element("heat-note").text, r"Evenness \(entropy\) [\d.]+ %. Balance: ")
        ActionChains(self.drive).move_to_element(self.element("heat")).perform()
        self.assertRegex(self.element("heat-cell").text, r"Layer \d+, expert \d+: \d+ of 12 tokens")
        bound = self.server.get("/moxie/stats")["models"][0]["decode_bound_tokens_per_s"]
        self.assertEqual(self.fact("machine's bound"), shown_rate(bound))
        self.check_speed(bound)
        # A token under the pointer is shown, as one under the keyboard is.
        widest = max(self.all("#tokens span")[1:], key=lambda span: span.size["width"])
        ActionChains(self.drive).move_to_element(widest).perform()
        self.assertEqual(widest.get_attribute("aria-selected"), "true")
        self.picture("answer")

    def test_branches_and_storage(self):
        self.limit(4)
        self.ask("one")
        self.wait(lambda: self.all("li.assistant"))
        self.wait_for_answer()
        self.all("li.assistant .actions button")[0].click()  # Again
        self.wait(lambda: "2 of 2" in self.all("li.assistant .actions")[0].text)
        self.wait_for_answer()
        self.all("li.assistant .actions button")[0].click()  # The branch before
        self.assertIn("1 of 2", self.all("li.assistant .actions")[0].text)
        self.all("li.user .actions button")[-1].click()  # Edit
        field = self.all("li.user textarea")[0]
        field.clear()
        field.send_keys("two")
        self.all("li.user .message button")[0].click()
        self.wait(lambda: [m.text for m in self.all("li.user .message")] == ["two"])
        self.wait_for_answer()
        self.assertIn("2 of 2", self.all("li.user .actions")[0].text)
        self.drive.refresh()
        self.wait(lambda: self.all("li.user .message"))
        self.assertEqual(self.all("li.user .message")[0].text, "two")

    def test_a_refused_question_can_be_asked_again(self):
        self.ask("too long " * 600)
        self.wait(lambda: "error" in self.element("status").get_attribute("class"))
        self.wait_for_answer()
        self.assertIn("context", self.element("status").text)
        self.assertEqual(self.all("li.assistant"), [])
        self.assertEqual(self.all("li.user .actions button")[-1].text, "Ask again")
        self.limit(4)
        self.ask("shorter")  # Beside it, not after it.
        self.wait(lambda: self.all("li.assistant .message"))
        self.wait_for_answer()
        self.assertEqual([m.text for m in self.all("li.user .message")], ["shorter"])
        self.assertIn("2 of 2", self.all("li.user .actions")[0].text)
        self.all("li.user .actions button")[-1].click()  # Edit, by keyboard alone.
        self.all("li.user textarea")[0].send_keys(" still", Keys.ENTER)
        self.wait(lambda: [m.text for m in self.all("li.user .message")] == ["shorter still"])
        self.wait_for_answer()
        self.problems_expected = 1

    def test_text_of_a_model_never_becomes_markup(self):
        made = self.drive.execute_async_script("""
            const done = arguments[0];
            import("/page/markdown.js").then(({renderMarkdown}) => {
              const element = document.createElement("div");
              renderMarkdown(element, arguments_text);
              done(element.innerHTML);
            });
            const arguments_text = "# t\\n<img src=x onerror=alert(1)> **b** `<i>` [l](javascript:alert(1))\\n" +
                "- a\\n- b\\n\\n```js\\n<script>\\n```\\n|a|b|\\n|-|-|\\n|1|2|\\n\\n[x](https://example.org)";
        """)
        for tag in ("<img", "<script", "<i>", "javascript:alert(1)\""):
            self.assertNotIn(tag, made)
        for piece in ("<h3>t</h3>", "<strong>b</strong>", "<li>a</li>", "<pre><code>&lt;script&gt;",
                      "<td>1</td>", 'href="https://example.org"'):
            self.assertIn(piece, made)

    def test_fits_a_phone(self):
        self.drive.set_window_size(500, 800)
        self.drive.refresh()
        wide = self.drive.execute_script(
            "return document.documentElement.scrollWidth <= window.innerWidth")
        self.assertTrue(wide)
        self.limit(30)
        self.ask("Does it fit?")
        self.wait(lambda: self.all("li.assistant .message"))
        self.wait_for_answer()
        self.element("panel-button").click()
        self.all("#tokens span")[2].click()  # A tap.
        self.assertTrue(self.all("#token tr"))
        self.assertTrue(self.drive.execute_script(
            "return document.documentElement.scrollWidth <= window.innerWidth"))
        self.picture("phone")


class Stopping(Case):
    """A model that has no token to end with, and a context that takes long to fill."""
    CONTEXT = 1 << 16

    def model(self):
        folder = pathlib.Path(chat_model(self.folder.name))
        for file in folder.glob("*config.json"):
            config = json.loads(file.read_text())
            file.write_text(json.dumps({k: v for k, v in config.items() if not k.startswith("eos_token")}))
        return [folder]

    def test_stops(self):
        running = lambda: self.server.get("/moxie/stats")["models"][0]["running"]
        self.ask("Tell me everything")
        self.wait(lambda: len(self.all("#tokens span")) > 3)
        self.assertEqual(running(), 1)
        self.element("prompt").send_keys(Keys.ESCAPE)
        self.wait_for_answer()
        self.wait(lambda: running() == 0)
        self.assertLess(self.server.get("/moxie/stats")["models"][0]["generated_tokens"], 60000)


class Streamed(Case):
    """In dark colours, a model whose experts are read from disk."""
    DARK = True

    def model(self):
        dense = pathlib.Path(os.environ.get(
            "MOXIE_SMOLLM2", ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
        if not dense.exists():
            self.skipTest(f"no SmolLM2 at {dense} (./dev demo fetches it)")
        mixture = pathlib.Path(self.folder.name) / "SmolLM2-8x135M.gguf"
        moxie("upcycle", dense, mixture, "--experts", "8", "--used", "2", "--noise", "0.02")
        return [mixture, "--memory", "200MiB"]

    def test_shows_the_cache_of_experts(self):
        self.assertTrue(self.drive.execute_script(
            "return matchMedia('(prefers-color-scheme: dark)').matches"))
        self.limit(60)
        store = lambda: self.server.get("/moxie/stats")["models"][0]["expert_store"]
        for question in ("Give me a list of three colours.", "And of two fruits."):
            before = store()  # What is shown is this answer's part.
            self.ask(question)
            self.wait(lambda: self.all("li.assistant .message"))
            self.wait_for_answer()
            part = {name: value - before[name] for name, value in store().items()}
            share = 100 * part["hits"] / (part["hits"] + part["misses"])
            self.wait(lambda: self.fact("expert cache hits") == f"{share:.1f} %")
            self.assertEqual(self.fact("read from disk"), shown_bytes(part["bytes_read"]))
            model = self.server.get("/moxie/stats")["models"][0]
            self.assertEqual(
                self.fact("machine's bound"),
                f"{shown_rate(model['decode_bound_tokens_per_s'])}, by the {model['decode_bound_by']}")
            self.check_speed(model["decode_bound_tokens_per_s"])
        self.picture("dark")

    def test_says_where_the_bound_is_not_known(self):
        machine = pathlib.Path(server.CACHE.name) / "moxie/machine.json"
        kept = machine.read_text()
        self.addCleanup(machine.write_text, kept)
        machine.write_text(json.dumps(json.loads(kept) | {"folder": "/proc"}))  # Another disk.
        with Server(*self.arguments, "--parallel", 2, context=512) as elsewhere:
            self.drive.get(elsewhere.url)
            self.wait(lambda: self.all("#facts dt"))
            self.assertRegex(self.fact("machine's bound"), "^not known: ")
            self.picture("bound-not-known")
            self.drive.get("about:blank")


if __name__ == "__main__":
    unittest.main()
