#!/usr/bin/env python3
"""JSON-schema constraints against Python's `jsonschema`: whatever is sampled under the constraint of
a random schema is valid, every valid instance made from the schema is accepted, and what is accepted
is valid. Skipped without the package."""
import copy
import json
import os
import random

from python_support import skip

try:
    import jsonschema
except ImportError as error:
    skip(f"no reference implementation: {error}")

from constraint_tool import Tool

SEED = int(os.environ.get("MOXIE_CONSTRAINT_SEED", "1"))
COUNT = int(os.environ.get("MOXIE_CONSTRAINT_COUNT", "300"))
CHECKER = jsonschema.FormatChecker(["date", "ipv4", "ipv6", "uuid", "email"])
NAMES = ["a", "b", "name", "na", "ä", 'quo"te', "back\\slash", "tab\t", "€"]
TEXTS = ["", "a", "abc", "ä€😀", 'say "hi"', "a\\b", "\n.", "\x01", "2024-02-29", "x" * 40, "12"]
PATTERNS = ["^[a-c]{2,4}$", "b", "^\\d+$", "^(x|yy)*\"?$", "c$|^a", "^[^a]$"]
FORMATS = {"date": ["2024-02-29", "1999-12-31"], "ipv4": ["127.0.0.1", "255.1.20.3"],
           "uuid": ["123e4567-e89b-12d3-a456-426614174000"], "email": ["a.b@example.com"],
           "ipv6": ["::1", "2001:db8::1", "1:2:3:4:5:6:7:8"]}


class Maker:
    """Random schemas, and instances that are valid by them."""

    def __init__(self, rng):
        self.rng = rng
        self.defs = {}

    def root(self):
        rng = self.rng
        # A recursive definition that can end: a tree.
        self.defs["tree"] = {"type": "object", "properties": {
            "value": self.schema(3), "children": {"type": "array", "items": {"$ref": "#/$defs/tree"},
                                                  "maxItems": 2}},
            "required": ["value"], "additionalProperties": False}
        self.defs["leaf"] = self.schema(2)
        result = self.schema(0)
        if result is True:
            result = {}
        if rng.random() < 0.2:
            result = {"$ref": "#/$defs/tree"}
        self.body = result
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": self.defs,
                "title": "made up", **result}

    def schema(self, depth):
        rng = self.rng
        kinds = ["string", "integer", "number", "boolean", "null", "enum", "text", "format", "any"]
        if depth < 3:
            kinds += ["object", "array", "anyOf", "allOf", "oneOf", "tuple", "map", "types"] * 2
        if depth > 0:
            kinds += ["ref"]
        return getattr(self, "make_" + rng.choice(kinds))(depth)

    def make_any(self, depth):
        return self.rng.choice([True, {}, {"description": "anything"}])

    def make_boolean(self, depth):
        return {"type": "boolean"}

    def make_null(self, depth):
        return {"type": "null"}

    def make_string(self, depth):
        result = {"type": "string"}
        low = self.rng.choice([0, 0, 1, 3, 40])
        if low:
            result["minLength"] = low
        if self.rng.random() < 0.5:
            result["maxLength"] = low + self.rng.choice([0, 1, 5, 60])
        return result

    def make_text(self, depth):
        return {"type": "string", "pattern": self.rng.choice(PATTERNS)}

    def make_format(self, depth):
        return {"type": "string", "format": self.rng.choice(sorted(FORMATS))}

    def number(self):
        rng = self.rng
        return rng.choice([0, 1, -1, 5, 10, 99, 100, -17, 1000, 12345, 0.5, -0.25, 3.125, -12.5, 0.1])

    def bounds(self, integers):
        rng = self.rng
        result = {}
        low, high = sorted([self.number(), self.number()])
        if integers or high - low < 0.2:
            high += 2
        if rng.random() < 0.6:
            result[rng.choice(["minimum", "exclusiveMinimum"])] = low
        if rng.random() < 0.6:
            result[rng.choice(["maximum", "exclusiveMaximum"])] = high
        return result

    def make_integer(self, depth):
        return {"type": "integer", **self.bounds(True)}

    def make_number(self, depth):
        return {"type": "number", **self.bounds(False)}

    def make_enum(self, depth):
        values = self.rng.sample([1, "a", None, True, 2.5, "ä\"", [1, 2], {"k": []}, -3, "abc"],
                                 self.rng.randint(1, 4))
        return {"const": values[0]} if self.rng.random() < 0.3 else {"enum": values}

    def make_ref(self, depth):
        return {"$ref": "#/$defs/" + self.rng.choice(["tree", "leaf"] if depth < 3 else ["tree"])}

    def make_types(self, depth):
        return {"type": self.rng.sample(["string", "null", "integer", "boolean"], 2), "minLength": 1,
                "minimum": 3}

    def make_object(self, depth):
        rng = self.rng
        names = rng.sample(NAMES, rng.randint(0, 4))
        result = {"type": "object", "properties": {n: self.schema(depth + 1) for n in names},
                  "required": [n for n in names if rng.random() < 0.5]}
        choice = rng.random()
        if choice < 0.4:
            result["additionalProperties"] = False
        elif choice < 0.6:
            result["additionalProperties"] = self.schema(3)
        if rng.random() < 0.2:
            result["minProperties"] = 1
        return result

    def make_map(self, depth):
        return {"type": "object", "additionalProperties": self.schema(depth + 1)}

    def make_array(self, depth):
        result = {"type": "array", "items": self.schema(depth + 1)}
        low = self.rng.choice([0, 0, 1, 2])
        if low:
            result["minItems"] = low
        if self.rng.random() < 0.5:
            result["maxItems"] = low + self.rng.randint(0, 3)
        return result

    def make_tuple(self, depth):
        rng = self.rng
        result = {"type": "array",
                  "prefixItems": [self.schema(depth + 1) for _ in range(rng.randint(1, 3))]}
        if rng.random() < 0.6:
            result["items"] = rng.choice([False, self.schema(3)])
        if rng.random() < 0.5:
            result["minItems"] = rng.randint(0, 3)
        return result

    def make_anyOf(self, depth):
        result = {"anyOf": [self.schema(depth + 1) for _ in range(self.rng.randint(1, 3))]}
        return {"allOf": [result]} if self.rng.random() < 0.2 else result

    def make_oneOf(self, depth):
        kinds = self.rng.sample(["circle", "line", "dot"], 2)
        return {"oneOf": [{"type": "object", "properties": {"kind": {"const": kind},
                                                            "size": self.schema(depth + 1)},
                           "required": ["kind"]} for kind in kinds] + [{"type": "string"}]}

    def make_allOf(self, depth):
        first = self.make_object(depth + 1)
        second = self.make_object(depth + 1)
        return {"allOf": [first, second], "type": "object"}

    def instance(self, schema, depth=0):
        """A valid instance, or an exception where this way of making one fails."""
        rng = self.rng
        if schema is True or not set(schema) - {"description"}:
            return rng.choice([None, 1, "any", [], {"z": [1, {}]}, -2.5e-7, 1e21])
        if schema is False:
            raise ValueError
        if "$ref" in schema:
            if depth > 12:
                raise ValueError
            return self.instance(self.defs[schema["$ref"].rsplit("/", 1)[1]], depth + 1)
        if "allOf" in schema:
            result = {}
            for part in schema["allOf"]:
                made = self.instance(part, depth + 1)
                if not isinstance(made, dict):
                    return made
                result = {**made, **result}
            return result
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self.instance(rng.choice(schema[key]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return rng.choice(schema["enum"])
        kind = schema["type"]
        if isinstance(kind, list):
            kind = rng.choice(kind)
        if kind == "object":
            return self.object_instance(schema, depth)
        if kind == "array":
            return self.array_instance(schema, depth)
        if kind == "string":
            if "format" in schema:
                return rng.choice(FORMATS[schema["format"]])
            return rng.choice(TEXTS + ["ab", "yy", "xyy\"", "b", "cc", "zc", "x" * 5, "y" * 70])
        if kind == "boolean":
            return rng.random() < 0.5
        if kind == "null":
            return None
        if kind == "integer":
            return rng.choice([rng.randint(-20, 20), rng.randint(-15000, 15000), 0, 99, 100])
        numbers = [self.number(), round(rng.uniform(-20, 200), 2) or 0.0]
        # So many digits are not said near a bound that is excluded.
        if not any(key.startswith("exclusive") for key in schema):
            numbers.append(rng.uniform(-20, 20))
        return rng.choice(numbers)

    def object_instance(self, schema, depth):
        result = {}
        for name, part in schema.get("properties", {}).items():
            if name in schema.get("required", []) or self.rng.random() < 0.4:
                result[name] = self.instance(part, depth + 1)
        others = schema.get("additionalProperties", True)
        if others is not False and self.rng.random() < 0.3:
            result[self.rng.choice(["other", "n", "nam", "names", "", "öl", "\x02"])] = (
                self.instance(others, depth + 1))
        return result

    def array_instance(self, schema, depth):
        result = []
        prefix = schema.get("prefixItems", [])
        count = self.rng.randint(schema.get("minItems", 0), schema.get("maxItems", 4))
        for i in range(count):
            part = prefix[i] if i < len(prefix) else schema.get("items", True)
            if part is False:
                break
            result.append(self.instance(part, depth + 1))
        return result


def in_order(schema):
    """Whether instances are made with their members in the schema's order: not under allOf."""
    return "allOf" not in json.dumps(schema)


def spoiled(rng, value):
    """The instance with one thing changed somewhere."""
    value = copy.deepcopy(value)
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        if rng.random() < 0.3:
            del value[key]
        else:
            value[key] = spoiled(rng, value[key])
        return value
    if isinstance(value, list) and value and rng.random() < 0.8:
        i = rng.randrange(len(value))
        value[i] = spoiled(rng, value[i])
        return value
    return rng.choice([None, 0, 7, -3, 2.5, "", "abc", [], {}, [1], {"a": 1}, True])


def main():
    rng = random.Random(SEED)
    tool = Tool()
    refused = {}
    sampled = accepted = rejected = 0
    for number in range(COUNT):
        maker = Maker(rng)
        schema = maker.root()
        validator = jsonschema.Draft202012Validator(schema, format_checker=CHECKER)
        valid, spoilt = [], []
        for _ in range(30):
            try:
                instance = maker.instance(maker.body)
            except ValueError:
                continue
            if validator.is_valid(instance) and in_order(schema):
                valid.append(instance)
            spoilt.append(spoiled(rng, instance))
        texts = [json.dumps(v, ensure_ascii=False, **form) for v in valid
                 for form in ({}, {"indent": 2}, {"separators": (",", ":")})]
        others = [json.dumps(v, ensure_ascii=False) for v in spoilt]
        text = json.dumps(schema)
        answer = tool.ask("schema", text, accept=texts + others, samples=6, seed=number)
        if "error" in answer:
            reason = answer["error"].split(": ")[-1][:60]
            assert not ("no text" in reason and valid), (text, answer)
            refused[reason] = refused.get(reason, 0) + 1
            continue
        for candidate, ok in zip(texts, answer["accepted"]):
            assert ok, f"valid, but not accepted: {candidate}\nof {text}"
            accepted += 1
        for candidate, ok in zip(others, answer["accepted"][len(texts):]):
            if ok:
                assert validator.is_valid(json.loads(candidate)), (candidate, text)
            else:
                rejected += 1
        for sample, done in answer["samples"]:
            if done:
                assert validator.is_valid(json.loads(sample)), f"sampled {sample}\nof {text}"
                sampled += 1
    tool.close()
    assert sampled > COUNT and accepted > COUNT and rejected > COUNT
    assert sum(refused.values()) < COUNT / 2, refused
    print(f"{COUNT} schemas: {sampled} samples valid, {accepted} valid texts accepted, "
          f"{rejected} others rejected; refused: {refused}")


if __name__ == "__main__":
    main()
