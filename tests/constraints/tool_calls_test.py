#!/usr/bin/env python3
"""Tool calls sampled under a constraint: each is well-formed, names a known tool, and its arguments
are valid by Python's `jsonschema`. Skipped without the package."""
import json
import re

from python_support import skip

try:
    import jsonschema
except ImportError as error:
    skip(f"no reference implementation: {error}")

from constraint_tool import Tool

PARAMETERS = {
    "get_weather": {"type": "object", "properties": {
        "city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["C", "F"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14}}, "required": ["city"]},
    "plot": {"type": "object", "properties": {
        "points": {"type": "array", "items": {"$ref": "#/$defs/point"}, "minItems": 1}},
        "required": ["points"],
        "$defs": {"point": {"type": "array", "prefixItems": [{"type": "number"}, {"type": "number"}],
                            "minItems": 2, "items": False}}},
    "ping": None,
}
TOOLS = [{"type": "function", "function": {"name": name, "description": "a tool",
                                           **({"parameters": p} if p else {})}}
         for name, p in PARAMETERS.items()]
CALL = {"mistral": "arguments", "llama3": "parameters", "hermes": "arguments",
        "generic": "arguments"}
MARK = {"mistral": "[TOOL_CALLS]", "hermes": "<tool_call>"}


def calls_of(style, text):
    """The text before calls and the calls, by plain parsing; an exception for anything else."""
    if style == "hermes":
        before, _, rest = text.partition("<tool_call>")
        if not rest:
            return before, []
        parts = re.fullmatch(r"(?s)(.*?)</tool_call>(?:\n?<tool_call>(.*?)</tool_call>)*",
                             rest)
        assert parts, text
        return before, [json.loads(p.split("</tool_call>")[0]) for p in rest.split("<tool_call>")]
    if style == "mistral":
        before, mark, rest = text.partition("[TOOL_CALLS]")
        return before, json.loads(rest) if mark else []
    if text[:1] != ("{" if style == "llama3" else "["):
        return text, []
    return "", [json.loads(text)] if style == "llama3" else json.loads(text)


def check(style, text, choice, parallel):
    before, calls = calls_of(style, text)
    assert choice == "auto" or before == "", text
    assert calls or choice == "auto", text
    assert parallel or len(calls) <= 1, text
    for call in calls:
        assert set(call) - {"id"} == {"name", CALL[style]}, call
        assert "id" not in call or re.fullmatch("[a-zA-Z0-9]{9}", call["id"]), call
        assert choice in ("auto", "required", call["name"]), call
        schema = PARAMETERS[call["name"]] or {"type": "object", "maxProperties": 0}
        jsonschema.validate(call[CALL[style]], schema, cls=jsonschema.Draft202012Validator)
    return len(calls)


def main():
    tool = Tool()
    text = json.dumps(TOOLS)
    total = 0
    for style, arguments in CALL.items():
        for choice in ("auto", "required", "plot"):
            for parallel in (True, False):
                options = dict(format=style, choice=choice, parallel=parallel)
                answer = tool.ask("tools", text, options=options, samples=30, seed=3, tokens=200)
                assert "error" not in answer, answer
                total += sum(check(style, sample, choice, parallel)
                             for sample, done in answer["samples"] if done)
        call = {"name": "ping", arguments: {}}
        written = json.dumps(call if style in ("llama3", "hermes") else [call])
        written = MARK.get(style, "") + ("\n%s\n</tool_call>" % written if style == "hermes"
                                         else written)
        texts = [written, "Hello, world <tool [TOOL", written.replace("ping", "pong"), written + "x"]
        for choice, expected in (("auto", [True, True, False, False]),
                                 ("required", [True, False, False, False]),
                                 ("none", [False, True, False, False])):
            answer = tool.ask("tools", text, options=dict(format=style, choice=choice), accept=texts)
            assert answer["accepted"] == expected, (style, choice, answer)
        before = tool.ask("tools", text, options=dict(format=style, choice="auto"),
                          accept=["Let me see.\n" + written, "<too<tool" + written])
        if style in MARK:
            assert before["accepted"] == [True, True], (style, before)
    for options, tools, reason in (
            (dict(format="generic", choice="nothing"), TOOLS, "there is no function"),
            (dict(format="generic", choice="auto"), [{"type": "web"}], "each must be"),
            (dict(format="generic", choice="auto"), TOOLS[:1] * 2, "is given twice"),
            (dict(format="generic", choice="auto"), [{"type": "function", "function": {
                "name": "x", "parameters": {"properties": {"a": {"not": {}}}}}}], '"not"')):
        answer = tool.ask("tools", json.dumps(tools), options=options)
        assert reason in answer.get("error", ""), answer
    tool.close()
    assert total > 200, total
    print(f"{total} calls sampled, all well-formed and valid")


if __name__ == "__main__":
    main()
