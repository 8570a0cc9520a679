#!/usr/bin/env python3
"""Writes tests/golden/template_cases.json: templates, variables, and what Python's jinja2 makes of them.

usage: tests/golden/make_template_cases.py     (needs jinja2 >= 3.1.6; the seed is fixed)

The environment is the one transformers gives chat templates. Chat templates are those of
chat_templates.py over a set of conversations; the others are generated, feature by feature.
"""
import json
import pathlib
import random
import re

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

import chat_templates


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def make_environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


ENV = make_environment()


def tool(name):
    return {"type": "function", "function": {
        "name": name, "description": "Finds <it> & 'more' é",
        "parameters": {"type": "object", "properties": {
            "place": {"type": "string", "description": "A town"},
            "unit": {"type": "string", "enum": ["c", "f"]},
            "days": {"type": ["integer", "null"], "default": 3},
            "points": {"type": "array", "items": {
                "type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}}},
            "required": ["place"]},
        "return": {"type": "string"}}}


def call(name, arguments, identifier):
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


CONVERSATIONS = {
    "single": [turn("user", "Hello")],
    "system": [turn("system", "You are é. \n"), turn("user", " Hello <x> \n")],
    "many": [turn("system", "S"), turn("user", "A"), turn("assistant", "B"), turn("user", "C")],
    "reasoning": [turn("user", "A"), turn("assistant", "<think>\nhm\n</think>\n\nB"), turn("user", "C"),
                  turn("assistant", "D", reasoning_content="because\n")],
    "parts": [turn("user", [{"type": "text", "text": "Hi"}, {"type": "image"}, {"type": "text", "text": "!"}])],
    "tool": [turn("system", "S"), turn("user", "W?"),
             turn("assistant", "", tool_calls=[call("weather", {"place": "Paris", "days": 3, "b": True, "z": None}, "abcdefghi")]),
             turn("tool", "{\"t\": 20.5}", tool_call_id="abcdefghi", name="weather")],
    "two tools": [turn("user", "W?"),
                  turn("assistant", None, thinking="t", tool_calls=[call("weather", {"place": "Rome\n\"q\""}, "abcdefghi"), call("time", {}, "abcdefghj")]),
                  turn("tool", "20", tool_call_id="abcdefghi"), turn("tool", "noon", tool_call_id="abcdefghj"),
                  turn("assistant", "It is."), turn("user", "Thanks")],
    "not alternating": [turn("assistant", "A"), turn("assistant", "B")],
    "nested": [turn("user", "A", children=[turn("tool", "B"), turn("tool", "C", children=[turn("x", "D")])])],
    "empty": [],
}
EXTRAS = [{}, {"tools": [tool("weather"), tool("time")]}, {"enable_thinking": False, "builtin_tools": ["weather", "code_interpreter"]}]

VARIABLES = {
    "i": 7, "n": -3, "zero": 0, "f": 2.5, "g": -0.125, "big": 1e20, "t": True, "u": False, "none_": None,
    "s": "Hello World", "e": "", "w": "  two\twords \n", "d": "grüße ΣΑΣ ǆ 日本 🎉", "q": "it's \"q\"\\ \n\x07\u200b", "num": "42", "fl": " -3.75e1 ",
    "csv": "a,b,,c", "lines": "one\ntwo\r\n\nthree", "html": "<b>&'\"</b>",
    "l": [3, 1, 2], "ls": ["b", "A", "c", "B"], "le": [], "mix": [1, "a", None, 2.5, True, [1, 2], {"k": "v"}],
    "nest": [[1, 2], [3], []], "dt": {"b": 1, "a": "x", "C": None}, "de": {},
    "people": [{"name": "Bo", "age": 30, "tags": ["x"]}, {"name": "al", "age": 25, "city": "Rom"}, {"name": "Cy", "age": 30}],
    "deep": {"a": {"b": [{"c": "found"}]}, "items": "hidden", "get": 1},
}


STRING_FILTERS = [
    "upper", "lower", "title", "capitalize", "trim", "string", "reverse", "e", "escape", "urlencode",
    "length|string", "first", "last", "safe", "tojson", "tojson(ensure_ascii=true)", "list|join", "indent",
    "indent(2, true, true)", "center(20)", "truncate(8)", "truncate(6, true, '~', 0)"]
STRING_METHODS = [
    "upper()", "lower()", "title()", "capitalize()", "swapcase()", "strip()", "lstrip()", "rstrip()",
    "strip('Hd \"')", "replace('o', '00')", "replace('', '-', 1)", "zfill(6)", "center(15, '*')", "ljust(8)",
    "rjust(8, 'é')", "removeprefix('He')", "removesuffix('ld')", "split()|join('|')", "casefold()", "join(ls)"]
FORMATS = [">8", "<6", "^7", "*^9", "05d", "+", ",", ".3f", "x", "#b", "e", "8.2f", "%"]
SEQUENCE_TESTS = ["string", "number", "defined", "none", "odd", "mapping", "iterable", "sequence"]


class Generator:
    """Random expressions over VARIABLES, of limited depth."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, *choices):
        return self.random.choice(choices)

    def integer(self, depth):
        r = self.random.random()
        if depth <= 0 or r < 0.3:
            return self.pick("i", "n", "zero", "0", "1", "2", "3", "10", "-1", "t", "1_000", "0x1f")
        if r < 0.6:
            return f"({self.integer(depth - 1)} {self.pick('+', '-', '*', '//', '%')} {self.integer(depth - 1)})"
        return self.pick(f"{self.sequence(depth - 1)}|length", f"{self.string(depth - 1)}|length", f"{self.string(depth - 1)}|int",
                         f"{self.number(depth - 1)}|int", f"{self.string(depth - 1)}.find({self.string(0)})",
                         f"{self.string(depth - 1)}.count({self.string(0)})", f"{self.string(depth - 1)}|wordcount", f"-{self.integer(depth - 1)}",
                         f"{self.integer(depth - 1)}|abs", "l|sum", "people|sum(attribute='age')", "l|max", "l|min")

    def number(self, depth):
        r = self.random.random()
        if depth <= 0 or r < 0.3:
            return self.pick("f", "g", "1.0", "0.1", "3e2", "2.5e-7", "big", "1e16", "123456.789")
        if r < 0.5:
            return self.integer(depth)
        if r < 0.8:
            return f"({self.number(depth - 1)} {self.pick('+', '-', '*', '/', '//', '%')} {self.number(depth - 1)})"
        return self.pick(f"{self.number(depth - 1)}|round({self.pick('', '1', '2', '0', '1, %s' % repr('ceil'), 'method=%s' % repr('floor'))})",
                         f"{self.number(depth - 1)}|float", f"{self.string(depth - 1)}|float", f"2 ** {self.pick('3', '0.5', '-1', '10')}", f"{self.number(depth - 1)}|abs")

    def string(self, depth):
        r = self.random.random()
        if depth <= 0 or r < 0.25:
            return self.pick("s", "e", "w", "d", "q", "num", "fl", "csv", "lines", "html", "'a'", "'o'", "' '", "'wor'", "\"\\u00e9\\n\"", "'x' 'y'")
        s = lambda: self.string(depth - 1)
        if r < 0.4:
            return f"({s()} {self.pick('+', '~')} {s()})"
        if r < 0.6:
            return f"{s()}|{self.pick(*STRING_FILTERS)}"
        if r < 0.85:
            return f"{s()}.{self.pick(*STRING_METHODS)}"
        return self.pick(f"{s()}[{self.integer(0)}]", f"{s()}[{self.slice_()}]", f"{self.sequence(depth - 1)}|join({self.string(0)})", f"{self.anything(depth - 1)}|string",
                         f"'%s|%5.2f|%-4d|%r' % ({s()}, {self.number(0)}, {self.integer(0)}, {s()})", f"'{{}}/{{!r}}'.format({s()}, {self.anything(0)})",
                         "'{:" + self.pick(*FORMATS) + "}'.format(" + self.number(0) + ")",
                         f"{self.anything(depth - 1)}|tojson", f"({s()} * {self.pick('0', '2', '3')})", f"'%s=%s'|format({s()}, {self.anything(0)})", f"({s()} if {self.boolean(depth - 1)} else {s()})")

    def slice_(self):
        part = lambda: self.pick("", "", "0", "1", "2", "-1", "-2", "5", "100", "-100")
        step = self.pick("", "", ":", ":1", ":2", ":-1", ":-2")
        return f"{part()}:{part()}{step}"

    def sequence(self, depth):
        r = self.random.random()
        if depth <= 0 or r < 0.3:
            return self.pick("l", "ls", "le", "mix", "nest", "[1, 'b']", "(1, 2)", "range(4)", "range(5, 0, -2)", "[i, s]")
        q = lambda: self.sequence(depth - 1)
        if r < 0.5:
            return self.pick(f"{q()}[{self.slice_()}]", f"({q()} + {q()})", f"({q()} * 2)")
        return self.pick(f"{q()}|list", f"{q()}|reverse|list", f"{q()}|sort", f"ls|sort(reverse=true)", "ls|sort(case_sensitive=true)", f"{q()}|unique|list", f"{q()}|map('string')|list", f"{q()}|select('{self.pick(*SEQUENCE_TESTS)}')|list",
                         f"{q()}|reject('string')|list", f"{q()}|batch(2)|list", f"{q()}|batch(3, 'x')|list", f"{q()}|slice(2)|list", "people|map(attribute='name')|list", "people|map(attribute='city', default='?')|list", "people|selectattr('city')|list",
                         "people|selectattr('age', 'gt', 26)|map(attribute='name')|list", "people|rejectattr('tags', 'defined')|list", "people|sort(attribute='age,name')|map(attribute='name')|list", f"{self.string(depth - 1)}|list",
                         f"{self.string(depth - 1)}.split({self.pick('', repr(','), repr('o'), repr(' ') + ', 1', 'none, 1')})", f"{self.string(depth - 1)}.rsplit({self.pick('', repr('o') + ', 1', 'none, 1')})", f"{self.string(depth - 1)}.splitlines({self.pick('', 'true')})", f"{self.string(depth - 1)}.partition('o')", f"{self.string(depth - 1)}.rpartition('o')",
                         f"{self.dictionary()}|list", f"{self.dictionary()}|dictsort", f"{self.dictionary()}|items|list", f"{self.dictionary()}.keys()|list", f"{self.dictionary()}.values()|list", f"{self.dictionary()}.items()|list", "dt|dictsort(true)", "dt|dictsort(reverse=true)", "people|groupby('age')")

    def dictionary(self):
        return self.pick("dt", "de", "deep", "{'x': i, 2: s}", "dict(a=1, b=l)", "people[0]", "mix[6]", "{1: 'a', 1.0: 'b', true: 'c'}")

    def boolean(self, depth):
        r = self.random.random()
        if depth <= 0 or r < 0.15:
            return self.pick("t", "u", "true", "false", "none", "missing")
        b = lambda: self.boolean(depth - 1)
        a = lambda: self.anything(depth - 1)
        if r < 0.35:
            return f"({b()} {self.pick('and', 'or')} {b()})"
        if r < 0.45:
            return f"not {b()}"
        if r < 0.65:
            return self.pick(f"({self.number(depth - 1)} {self.pick('<', '<=', '>', '>=', '==', '!=')} {self.number(depth - 1)})", f"({self.string(depth - 1)} {self.pick('<', '>', '==', '!=')} {self.string(depth - 1)})",
                             f"({a()} == {a()})", f"(1 < {self.integer(0)} <= 7)", f"({self.sequence(depth - 1)} < {self.sequence(depth - 1)})")
        if r < 0.8:
            left, right = self.pick((self.string(0), self.string(depth - 1)), (a(), self.sequence(depth - 1)),
                                    (self.string(0), self.dictionary()))
            return f"({left} {self.pick('in', 'not in')} {right})"
        test = self.pick("defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable", "true", "false", "odd", "even", "callable", "lower", "upper", "divisibleby 3", "divisibleby(2)", "eq 7", "ne s", "gt(1)", "sameas true", "in l", "escaped", "equalto s")
        return f"({a()} is {self.pick('', 'not ')}{test})"

    def anything(self, depth):
        make = self.pick(self.integer, self.number, self.string, self.string, self.sequence, self.boolean, lambda depth: self.dictionary(), self.access)
        return make(depth)

    def access(self, depth):
        return self.pick("missing", "dt.a", "dt['b']", "dt.nope", "deep.a.b[0].c", "deep['a']['b']", "deep.items", "deep['items']", "deep.get", "people[1].city", "people[-1].city", "people[0]['tags'][0]", "l[5]", "l[-1]", "dt.get('z')", "dt.get('z', 5)", "none_.x", "s.nope", "s[100]", "i.x", "l.x", "dt|attr('a')",
                         f"missing|default({self.string(0)})", f"{self.string(0)}|default('d', true)", "missing.x", "people|first", "le|first", "ls|last", "people|map(attribute='age')|max")


WHITESPACE = [" ", "  ", "\n", "\n\n", " \n", "\n  ", "a", "b\n", " c ", "\t", "\r\n", "x \n y", ""]


def whitespace_template(rng):
    out = []
    depth = 0
    for _ in range(rng.randint(3, 9)):
        out.append(rng.choice(WHITESPACE) + rng.choice(WHITESPACE))
        a, b = rng.choice(["", "", "-", "+"]), rng.choice(["", "", "-", "+"])
        kind = rng.randrange(7)
        if kind == 0:
            out.append(f"{{{{{a if a != '+' else ''} i {b if b != '+' else ''}}}}}")
        elif kind == 1:
            out.append(f"{{#{a} note {b}#}}")
        elif kind == 2:
            out.append(f"{{%{a} set v = 1 {b}%}}")
        elif kind == 3:
            out.append(f"{{%{a} raw {b if b != '+' else ''}%}}{rng.choice(WHITESPACE)}{{{{ no }}}}{rng.choice(WHITESPACE)}{{%{b} endraw {a}%}}")
        elif kind == 4 and depth:
            depth -= 1
            out.append(f"{{%{a} endif {b}%}}")
        elif kind == 5:
            out.append(f"{{%{a} for x in [1, 2] {b}%}}{rng.choice(WHITESPACE)}{{{{ x }}}}{rng.choice(WHITESPACE)}{{%{b} endfor {a}%}}")
        else:
            depth += 1
            out.append(f"{{%{a} if t {b}%}}")
    out.append(rng.choice(WHITESPACE) + "{% endif %}" * depth + rng.choice(WHITESPACE) + rng.choice(WHITESPACE))
    return "".join(out)


STATEMENTS = r"""
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}
{% for x in ls %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x|lower) }}{% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x > 5 %}{% break %}{% endif %}{{ x }}{% else %}no{% endfor %}
{% for x in le %}{{ x }}{% else %}empty{% endfor %}
{% for k, v in dt.items() %}{{ k }}={{ v }},{% endfor %}
{% for k, v in dt|dictsort %}{{ k }}={{ v }},{% endfor %}
{% for a, b in nest %}{{ a }}{% endfor %}
{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %}
{% for x in s %}{{ x }}.{% endfor %}
{% for x in dt %}{{ x }}.{% endfor %}
{% for x in missing %}{{ x }}{% else %}none{% endfor %}
{% for x in 5 %}{{ x }}{% endfor %}
{% for x in none_ %}{{ x }}{% endfor %}
{% set x = 1 %}{% for y in l %}{{ x }}{% set x = y %}{{ x }}{% endfor %}{{ x }}
{% set x, y = 1, 2 %}{{ x }}{{ y }}
{% set x = 1, 2 %}{{ x }}
{% set x, y = [1, 2, 3] %}{{ x }}
{% set ns = namespace(a=1) %}{% for y in l %}{% set ns.a = ns.a + y %}{% endfor %}{{ ns.a }}{{ ns['a'] }}{{ ns.b is defined }}
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}
{% set dt.a = 5 %}{{ dt.a }}
{% set x %}body {{ i }}{% endset %}[{{ x }}]
{% set x | upper | replace('B', '*') %}body{% endset %}[{{ x }}]
{% if t %}{% set z = 1 %}{% endif %}{{ z }}
{% if u %}{% set z = 1 %}{% else %}{% set z = 2 %}{% endif %}{{ z }}
{% if u %}a{% elif i == 7 %}b{% elif t %}c{% else %}d{% endif %}
{% if missing %}a{% else %}b{% endif %}{% if missing is defined and missing.x %}c{% endif %}
{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m() }}{{ m(b=5, a=4) }}
{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(3) }}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}
{% macro m() %}x{% endmacro %}{{ m(1) }}
{% macro m() %}x{% endmacro %}{{ m(a=1) }}
{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}{{ m.name }}{{ m.arguments }}
{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(5) }}
{% macro m(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) m(3) %}{{ y * 2 }}{% endcall %}
{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}in {{ i }}{% endcall %}
{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}
{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}
{% macro m() %}{% set x = 5 %}{{ x }}{% endmacro %}{{ m() }}{{ x is defined }}
{% with a = 1, b = i %}{{ a }}{{ b }}{% set a = 9 %}{{ a }}{% endwith %}{{ a is defined }}
{% filter upper %}text {{ s }}{% endfilter %}
{% filter replace('t', 'T') | trim %}  text {% endfilter %}
{% generation %}made {{ i }}{% endgeneration %}
{% for m in people recursive %}{{ m.name }}{% if m.tags and loop.depth < 3 %}({{ loop([m]) }}){% endif %}{% endfor %}
{% for x in [1, 2] %}{% for y in [3, 4] %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
{% for x in [1, 2] %}{% set outer = loop %}{% for y in [3, 4] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}
{% print i, s %}
{% raw %}{{ not }} {% this %}{% endraw %}
{# a comment {{ i }} {% if %} #}x
{{ '{{' }}{{ "%}" }}
{{ raise_exception('stop ' ~ i) }}
{% if i > 100 %}{{ raise_exception('no') }}{% endif %}ok
{{ missing.x }}
{{ missing() }}
{{ missing + 1 }}
{{ missing ~ 'x' }}
{{ missing | upper }}|{{ missing | length }}|{{ missing | list }}|{{ missing | join }}
{{ missing == missing2 }}{{ missing in [1] }}{{ missing is none }}
{{ not missing }}
{{ -missing }}
{{ i.__class__ }}{{ s.__class__.__name__ }}
{{ l.append(4) }}
{{ dt.pop('a') }}
{{ dt.update({}) }}
{{ s() }}
{{ i[0] }}|{{ none_[0] }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 5 % 0 }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ [1] + (2,) }}
{{ 'a' < 1 }}
{{ [3, 'a'] | sort }}
{{ 1 in 'abc' }}
{{ 'x' | int }}{{ 'x' | int(5) }}{{ '0x1f' | int(base=16) }}{{ '12.7' | int }}{{ none_ | int }}{{ l | int }}{{ '1_000' | int }}
{{ 'x' | float }}{{ 'inf' | float }}{{ '1e3' | float }}{{ none_ | float(2.0) }}
{{ s | nofilter }}
{{ s is notest }}
{{ l | tojson(indent=2) }}
{{ mix | tojson(indent=4) }}
{{ mix | tojson(separators=(',', ':')) }}
{{ dt | tojson(sort_keys=true) }}{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}
{{ d | tojson }}{{ d | tojson(ensure_ascii=true) }}{{ q | tojson }}
{{ {1: 2, none: 3, true: 4, 1.5: 6} | tojson }}
{{ missing | tojson }}
{{ range(3) | tojson }}
{{ mix }}{{ dt }}{{ q }}{{ [q, d] }}{{ (1,) }}{{ () }}{{ [] }}{{ {} }}
{{ 1.0 }} {{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1.5e300 }} {{ -0.0 }} {{ 100.0 / 3 }} {{ 5 / 2 }} {{ 4 / 2 }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }}
{{ true + 1 }} {{ true }} {{ True }} {{ none }} {{ None }} {{ false == 0 }} {{ 1 == 1.0 }} {{ '1' == 1 }}
{{ 1 if t }} {{ 1 if u }} {{ 1 if u else 2 if u else 3 }}
{{ i > 3 and 'yes' or 'no' }} {{ none_ or 'x' }} {{ 0 and 1 }} {{ '' or none_ }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' in 'abc' in 'xabc' }} {{ not 1 in [2] }} {{ 1 not in [2] }}
{{ i is divisibleby 7 and t }} {{ i is not none }} {{ i is number is defined }}
{{ not i is none }} {{ s is string and s is not mapping }}
{{ 'a' ~ 1 ~ none ~ 1.5 ~ [1] }} {{ 1 + 2 ~ 3 }} {{ 'a' * 3 }} {{ [1, 2] * 2 }} {{ 3 * 'ab' }}
{{ -i }} {{ +i }} {{ --i }} {{ - 3 | abs }} {{ -3 | abs }} {{ (-3) | abs }}
{{ s.upper().lower().title() }} {{ s['upper']() }} {{ 'x'.join(['a', 'b']) }}
{{ dt['a'] }} {{ dt.a }} {{ dt['zz'] }} {{ deep.items }} {{ deep['items'] }} {{ deep.get }} {{ deep['get'] }}
{{ s[0] }} {{ s[-1] }} {{ s[1:3] }} {{ s[::-1] }} {{ s[::2] }} {{ s[:-1] }} {{ d[7:10] }} {{ l[::-1] }} {{ l[1:] }} {{ l[:1] }} {{ s[::0] }}
{{ l.0 }} {{ nest.0.1 }} {{ people.0.name }}
{{ 'it''s' }} {{ 'a' "b" }} {{ "\x41\u00e9\t|\101|\q" }} {{ '\'' }}
{{ l | first }} {{ l | last }} {{ le | first }} {{ s | first }} {{ dt | first }} {{ l | map('string') | first }}
{{ l | map('float') | last }}
{{ l | map('upper') | length }}
{{ l | map('string') | join('-') }} {{ l | join(', ') }} {{ people | join('|', attribute='name') }}
{{ l | select | list }} {{ l | select('gt', 1) | list }} {{ l | select('>', 1) | list }} {{ l | reject('==', 1) | list }}
{{ people | selectattr('age', '==', 30) | map(attribute='name') | join(',') }}
{{ people | map(attribute='tags.0') | list }} {{ people | map('length') | list }} {{ people | map(attribute='zz') | list }}
{{ people | groupby('age') }} {% for g in people | groupby('age') %}{{ g.grouper }}:{{ g.list | length }};{% endfor %}
{{ 'Hello' | center(11) }}| {{ 'x' | indent }} {{ lines | indent(2) }} {{ lines | indent('>>', true, true) }}
{{ 42.55 | round }} {{ 42.55 | round(1, 'floor') }} {{ 2.5 | round }} {{ 3.5 | round }} {{ 5 | round }} {{ 1234.567 | round(-2) }} {{ 2.675 | round(2) }} {{ 42.1 | round(method='ceil') | int }}
{{ 1000 | filesizeformat }} {{ 1 | filesizeformat }} {{ 1500000 | filesizeformat(true) }} {{ 999 | filesizeformat }}
{{ html | e }} {{ html | safe }} {{ html | escape | safe }} {{ 'a' | safe + html }} {{ (html | safe) ~ '<' }} {{ '<i>' | safe | upper }} {{ html | forceescape }}
{{ 'a b&c/d' | urlencode }} {{ {'a': 1, 'b c': 'd'} | urlencode }}
{{ '%s and %d' | format('x', 5) }} {{ '%(a)s' | format(a=1) }} {{ '%05.1f|%+d|%x|%o|%e|%g|%%|%c|%10s|%-10s|%r' % (3.14159, 5, 255, 8, 12345.678, 0.0001, 'z', 'r', 'l', 'q') }}
{{ '%s' % 'x' }} {{ '%s %s' % 'x' }}
{{ '%s' % [1, 2] }} {{ '%(a)d' % {'a': 5} }} {{ 'x' % 5 }}
{{ '{} {}'.format(1, 'b') }} {{ '{0}{1}{0}'.format('a', 'b') }} {{ '{x:>5}|{y:<5}|{z:^5}'.format(x=1, y='a', z=2.5) }} {{ '{:.2f} {:,} {:e} {:%} {:b} {:#x} {:08.3f} {!r:>6}'.format(3.14159, 1234567, 12345.6, 0.25, 5, 255, -3.14159, 'q') }}
{{ '{a[b]} {a.b}'.format(a={'b': 5}) }} {{ '{{}}' .format(1) }} {{ '{'.format(1) }}
{{ '{:{}}|{:{w}.{p}f}'.format('x', 5, 3.14159, w=8, p=2) }}
{{ s.startswith('He') }} {{ s.startswith(('x', 'H')) }} {{ s.endswith('ld') }} {{ s.find('o') }} {{ s.rfind('o') }} {{ s.find('o', 5) }} {{ s.index('zz') }}
{{ 'abc'.isalpha() }}{{ '123'.isdigit() }}{{ 'a1'.isalnum() }}{{ ' '.isspace() }}{{ ''.isspace() }}{{ 'Ab'.istitle() }}{{ 'AB'.isupper() }}{{ 'ab'.islower() }}{{ '½'.isnumeric() }}{{ '²'.isdecimal() }}{{ d.isascii() }}
{{ csv.split(',') }} {{ csv.split(',', 1) }} {{ csv.rsplit(',', 1) }} {{ w.split() }} {{ w.split(' ') }} {{ lines.splitlines() }} {{ lines.splitlines(true) }} {{ s.partition(' ') }} {{ s.split('') }}
{{ dict(a=1, **{'b': 2}) }} {{ dict([('x', 1), ['y', 2]]) }} {{ dict(dt, a=5) }} {{ range(3) }} {{ range(1, 7, 3) | list }} {{ range(200000) }}
{{ dt.keys() }} {{ dt.values() }} {{ dt.items() }} {{ dt.keys() | list }} {{ dt.get('a') }} {{ dt.get('q', 'w') }} {{ dt.copy() == dt }}
{{ l.index(1) }} {{ l.count(1) }} {{ (1, 2, 1).count(1) }} {{ l.index(99) }}
{{ 'ß' | upper }} {{ 'ŉ'.upper() }} {{ 'ΑΣ' | lower }} {{ 'ǆ' | capitalize }} {{ 'İ' | lower | length }} {{ 'ﬁn' | title }} {{ "they're bill's" | title }} {{ "they're bill's".title() }}
{% set j = joiner('; ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}
{{ l | batch(2) | list }} {{ l | slice(2) | list }} {{ l | reverse | list }} {{ s | reverse }} {{ ls | unique | list }} {{ ls | sort }} {{ ls | min }} {{ le | max }} {{ l | sum }} {{ nest | sum(start=[]) }}
{{ 'x' is sameas 'x' }} {{ none_ is sameas none }} {{ 1 is sameas true }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ range is callable }} {{ 3 is in l }} {{ missing is iterable }} {{ missing is sequence }} {{ dt is sequence }} {{ dt.items() is sequence }} {{ 5 is iterable }}
{{ i if }}
{{ (1 }}
{{ [1, 2 }}
{% for %}{% endfor %}
{% if t %}
{% endif %}
{% endfor %}
{% set = 1 %}
{% unknown %}
{{ 'abc }}
{{ 1 2 }}
{{ a b }}
{{ | upper }}
{% break %}
{{ x. }}
{{ f(a=1, 2) }}
{{ f(a=1, a=2) }}
{% macro m(a=1, b) %}{% endmacro %}
{% include 'x' %}
{% import 'x' as y %}
{% extends 'x' %}
{{ i | default }} {{ missing | d('z') }} {{ none_ | default('z') }} {{ none_ | default('z', true) }} {{ '' | d('q', boolean=true) }}
{{ 'a,b'.split(',')[1] }} {{ (s | length) + 1 }} {{ s | length + 1 }} {{ [1, 2, 3][1:] | length }} {{ {'a': {'b': 1}}.a.b }}
""".strip("\n").split("\n")


def is_portable(text):
    """Leaves out what is Python's own: addresses, generators, reprs of functions, huge integers."""
    return not re.search(r"0x[0-9a-f]{6}|<generator|<built-in|<function|<bound|<Undefined|Undefined|<list_rev|Markup\(|\d{19}|nan", text)


def render(source, variables):
    try:
        return {"text": ENV.from_string(source).render(**variables)}
    except jinja2.exceptions.TemplateError as error:
        raised = type(error) is jinja2.exceptions.TemplateError
        return {"error": error.message if raised else ""}
    except Exception:
        return {"error": ""}


def main():
    chats = []
    for name, source in chat_templates.ALL.items():
        for conversation, messages in CONVERSATIONS.items():
            for extra, more in enumerate(EXTRAS):
                prompt = (len(chats) % 2) == 0
                variables = {"messages": messages, "add_generation_prompt": prompt, "bos_token": "<s>",
                             "eos_token": "</s>", **more}
                chats.append({"template": name, "messages": conversation, "extra": extra,
                              "add_generation_prompt": prompt, **render(source, variables)})
    small = []
    seen = set()

    def add(kind, source, errors=True):
        if source in seen:
            return
        result = render(source, VARIABLES)
        if not is_portable(result.get("text", "")) or ("error" in result and not errors):
            return
        seen.add(source)
        small.append({"kind": kind, "template": source, **result})

    for source in STATEMENTS:
        add("statement", source)
    generator = Generator(20261122)
    for kind, make, count in (("integer", generator.integer, 150), ("number", generator.number, 150),
                              ("string", generator.string, 350), ("sequence", generator.sequence, 250),
                              ("boolean", generator.boolean, 200), ("anything", generator.anything, 200)):
        for n in range(count):
            # One in five may be an error; the others are drawn again until they are none.
            before = len(small)
            for _ in range(20):
                add(kind, "{{ " + make(1 + n % 3) + " }}", errors=n % 5 == 0)
                if len(small) > before:
                    break
    rng = random.Random(7)
    for _ in range(400):
        add("whitespace", whitespace_template(rng))

    path = pathlib.Path(__file__).with_name("template_cases.json")
    with path.open("w", encoding="ascii") as out:
        out.write("{\n")
        for key, value in (("jinja2", jinja2.__version__), ("templates", chat_templates.ALL), ("conversations", CONVERSATIONS),
                           ("extras", EXTRAS), ("variables", VARIABLES)):
            out.write(f"{json.dumps(key)}: {json.dumps(value)},\n")
        for key, rows in (("chats", chats), ("small", small)):
            out.write(f"{json.dumps(key)}: [\n" + ",\n".join(map(json.dumps, rows)) + "\n]" + (",\n" if key == "chats" else "\n"))
        out.write("}\n")
    print(len(chats), "chats,", sum("error" in c for c in chats), "of them errors;", len(small), "small,",
          sum("error" in c for c in small), "of them errors;", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
