#include <ctime>

#include "tokenizer/jinja_interpreter.h"

namespace moxie::jinja {
namespace {

Value MakeFunction(std::string name, Function::Body body, int depth = 0) {
  return ObjectPtr(std::make_shared<Function>(std::move(name), std::move(body), depth));
}

std::optional<Value> LoopMember(const Value& object, Loop& loop, std::string_view name) {
  const auto size = static_cast<int64_t>(loop.items->items.size());
  const auto index = static_cast<int64_t>(loop.index);
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return size - index;
  if (name == "revindex0") return size - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 >= size;
  if (name == "length") return size;
  if (name == "depth") return loop.depth0 + 1;
  if (name == "depth0") return loop.depth0;
  if (name == "previtem") {
    return index > 0 ? loop.items->items[loop.index - 1]
                     : Value::MakeUndefined("there is no previous item");
  }
  if (name == "nextitem") {
    return index + 1 < size ? loop.items->items[loop.index + 1]
                            : Value::MakeUndefined("there is no next item");
  }
  // The functions hold the loop, for it may be gone by the time they are called.
  if (name == "cycle") {
    return MakeFunction(
        "cycle",
        [object, &loop](Runtime&, const Arguments& arguments) {
          if (arguments.positional.empty()) throw Failure{"loop.cycle needs items"};
          return arguments.positional[loop.index % arguments.positional.size()];
        },
        1 + loop.depth);
  }
  if (name == "changed") {
    return MakeFunction(
        "changed",
        [object, &loop](Runtime& runtime, const Arguments& arguments) {
          const Value now = Value::Tuple(arguments.positional);
          if (runtime.AreEqual(loop.last_changed, now)) return Value(false);
          if (!loop.ended) loop.last_changed = now;
          return Value(true);
        },
        1 + loop.depth);
  }
  return std::nullopt;
}

std::optional<Value> MacroMember(const Macro& macro, std::string_view name) {
  if (name == "name") return Value(macro.body->name);
  if (name == "catch_kwargs") return macro.body->uses_kwargs;
  if (name == "catch_varargs") return macro.body->uses_varargs;
  if (name == "caller") return macro.body->uses_caller;
  if (name != "arguments") return std::nullopt;
  std::vector<Value> names;
  for (const std::string& parameter : macro.body->parameters) names.emplace_back(parameter);
  return Value::Tuple(std::move(names));
}

Value MakeRange(Runtime&, const Arguments& arguments) {
  constexpr int64_t kMaxRange = 100'000;  // Jinja's sandbox
  const Parameters p(arguments, "range", {"start", "stop", "step"}, 1);
  const bool only_stop = !p.Has(1);
  const int64_t step = p.Integer(2, 1);
  if (step == 0) throw Failure{"range's step must not be zero"};
  auto range = std::make_shared<Range>(only_stop ? 0 : p.Integer(0, 0),
                                       p.Integer(only_stop ? 0 : 1, 0), step);
  if (range->size() > kMaxRange)
    throw Failure{"a range is longer than " + std::to_string(kMaxRange) + ", the limit"};
  return ObjectPtr(std::move(range));
}

// dict(mapping or pairs, name=value, …)
Dict MakeEntries(Runtime& runtime, const Arguments& arguments, std::string_view function) {
  if (arguments.positional.size() > 1)
    throw Failure{std::string(function) + " takes at most one positional argument"};
  Dict dict;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    RequireDefined(source);
    if (const DictPtr* mapping = source.If<DictPtr>()) {
      runtime.Charge(static_cast<int64_t>((*mapping)->entries.size()));
      dict = **mapping;
    } else {
      const SequencePtr all = Iterate(runtime, source);
      for (const Value& pair : all->items) {
        const SequencePtr parts = Iterate(runtime, pair);
        if (parts->items.size() != 2) throw Failure{std::string(function) + " expects pairs"};
        runtime.Charge(2 + Cost(parts->items[0]));
        dict.Set(parts->items[0], parts->items[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) dict.Set(Value(name), value);
  return dict;
}

Value MakeDict(Runtime& runtime, const Arguments& arguments) {
  return DictPtr(std::make_shared<Dict>(MakeEntries(runtime, arguments, "dict")));
}

Value MakeNamespaceFrom(Runtime& runtime, const Arguments& arguments) {
  Dict entries = MakeEntries(runtime, arguments, "namespace");
  for (const auto& [key, value] : entries.entries) {
    if (key.IsString() && key.string().starts_with('_'))
      throw Failure{"a namespace's attribute may not start with an underscore"};
  }
  Value made = runtime.MakeNamespace();
  ObjectAs<Namespace>(made, Object::Kind::kNamespace)->attributes = std::move(entries);
  return made;
}

Value RaiseException(Runtime& runtime, const Arguments& arguments) {
  const Parameters p(arguments, "raise_exception", {"message"}, 1);
  throw Failure{runtime.Text(p[0])};
}

Value FormatTime(Runtime&, const Arguments& arguments) {
  const Parameters p(arguments, "strftime_now", {"format"}, 1);
  // The final space tells an empty result from one that does not fit.
  const std::string format = p.String(0, "") + " ";
  if (format.size() > 256) throw Failure{"strftime_now's format is longer than 255 bytes"};
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char buffer[4096];
  const size_t size = std::strftime(buffer, sizeof buffer, format.c_str(), &parts);
  if (size == 0) throw Failure{"strftime_now's result is too long"};
  return std::string(buffer, size - 1);
}

// A separator that is empty at its first use.
Value MakeJoiner(Runtime&, const Arguments& arguments) {
  const Parameters p(arguments, "joiner", {"sep"});
  const std::string separator = p.String(0, ", ");
  auto used = std::make_shared<bool>(false);
  return MakeFunction("joiner", [separator, used](Runtime&, const Arguments&) {
    return Value(std::exchange(*used, true) ? separator : "");
  });
}

}  // namespace

std::optional<Value> FindMember(const Value& object, const std::string& name) {
  if (auto* loop = ObjectAs<Loop>(object, Object::Kind::kLoop))
    return LoopMember(object, *loop, name);
  if (const auto* macro = ObjectAs<Macro>(object, Object::Kind::kMacro))
    return MacroMember(*macro, name);
  if (const auto* space = ObjectAs<Namespace>(object, Object::Kind::kNamespace)) {
    const Value* found = space->attributes.Find(std::string_view(name));
    return found != nullptr ? std::optional<Value>(*found) : std::nullopt;
  }
  if (const auto* range = ObjectAs<Range>(object, Object::Kind::kRange)) {
    if (name == "start") return range->start;
    if (name == "stop") return range->stop;
    if (name == "step") return range->step;
  }
  const SequencePtr* sequence = object.If<SequencePtr>();
  if (sequence != nullptr && (*sequence)->kind == Sequence::Kind::kGroup) {
    if (name == "grouper") return (*sequence)->items[0];
    if (name == "list") return (*sequence)->items[1];
  }
  return FindMethod(object, name);
}

std::optional<Value> FindGlobal(std::string_view name) {
  using Global = Value (*)(Runtime&, const Arguments&);
  static constexpr std::pair<std::string_view, Global> kGlobals[] = {
      {"dict", MakeDict},
      {"joiner", MakeJoiner},
      {"namespace", MakeNamespaceFrom},
      {"raise_exception", RaiseException},
      {"range", MakeRange},
      {"strftime_now", FormatTime},
  };
  for (const auto& [global, function] : kGlobals) {
    if (global == name) return MakeFunction(std::string(name), function);
  }
  return std::nullopt;
}

}  // namespace moxie::jinja
