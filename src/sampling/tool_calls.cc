#include "sampling/tool_calls.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "formats/json.h"
#include "sampling/json_schema.h"
#include "sampling/json_text.h"

namespace moxie {
namespace {

using Json = nlohmann::ordered_json;
using Part = GrammarBuilder::Part;
using Rule = GrammarBuilder::Rule;
using State = GrammarBuilder::State;

constexpr JsonLimits kLimits = {
    .bytes = size_t{4} << 20, .depth = 128, .values = 200'000, .ordered_members = 4096};
constexpr size_t kMaxTools = 512;
constexpr uint32_t kMaxCalls = 64;

struct Function {
  std::string name;
  std::string parameters;  ///< a JSON schema
};

Error ToolError(const std::string& what) { return {ErrorCode::kInvalidInput, "tools: " + what}; }

bool IsFunctionName(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
  });
}

Result<Function> ReadFunction(const Json& tool) {
  const bool is_function = tool.is_object() && tool.value("type", "") == "function" &&
                           tool.contains("function") && tool["function"].is_object();
  if (!is_function) return ToolError("each must be {\"type\": \"function\", \"function\": {...}}");
  const Json& function = tool["function"];
  Function read;
  if (function.contains("name") && function["name"].is_string()) read.name = function["name"];
  if (!IsFunctionName(read.name))
    return ToolError("a function's \"name\" must be 1 to 64 letters, digits, _, - or .");
  Json parameters = Json::object();
  if (function.contains("parameters") && !function["parameters"].is_null())
    parameters = function["parameters"];
  if (!parameters.is_object())
    return ToolError("\"parameters\" of \"" + read.name + "\" must be a JSON schema");
  if (!parameters.contains("type")) parameters["type"] = "object";
  if (parameters["type"] != "object")
    return ToolError("\"parameters\" of \"" + read.name + "\" must be the schema of an object");
  read.parameters = parameters.dump();
  return read;
}

Result<std::vector<Function>> ReadTools(std::string_view text) {
  MOXIE_TRY_ASSIGN(const Json tools, ParseOrderedJson(text, "tools", kLimits));
  if (!tools.is_array() || tools.size() > kMaxTools)
    return ToolError("expected a list of at most " + std::to_string(kMaxTools) + " functions");
  std::vector<Function> functions;
  std::set<std::string> names;
  for (const Json& tool : tools) {
    MOXIE_TRY_ASSIGN(Function function, ReadFunction(tool));
    if (!names.insert(function.name).second)
      return ToolError("\"" + function.name + "\" is given twice");
    functions.push_back(std::move(function));
  }
  return functions;
}

/// What differs between the formats: how calls begin, and what a call is called in them.
struct Format {
  const char* mark;       ///< before the calls; empty: their first character
  const char* close;      ///< after each call
  const char* arguments;  ///< the member that holds them
  bool in_list;
  bool has_id;
};

Format FormatOf(ToolCallFormat format) {
  switch (format) {
    case ToolCallFormat::kMistral:
      return {"[TOOL_CALLS]", "", "arguments", true, true};
    case ToolCallFormat::kLlama3:
      return {"", "", "parameters", false, false};
    case ToolCallFormat::kHermes:
      return {"<tool_call>", "</tool_call>", "arguments", false, false};
    case ToolCallFormat::kGeneric:
      break;
  }
  return {"", "", "arguments", true, false};
}

class ToolCallGrammar {
 public:
  ToolCallGrammar(const ToolCallOptions& options, const Tokenizer& tokenizer,
                  GrammarBuilder* builder)
      : options_(options),
        format_(FormatOf(options.format)),
        tokenizer_(tokenizer),
        builder_(*builder),
        text_(builder, true) {}

  Result<Rule> Make(const std::vector<Function>& functions) {
    if (options_.choice == "none") return builder_.MakeRule("root", FreeText(std::nullopt));
    MOXIE_TRY_ASSIGN(const Part calls, Calls(functions));
    const Part marked = Marked(calls);
    return builder_.MakeRule("root", options_.choice == "auto" ? FreeText(marked) : marked);
  }

 private:
  /// A mark of the format: one special token where the vocabulary has it so, else its text.
  Part Mark(const std::string& text) {
    const std::optional<TokenId> token = SpecialToken(text);
    return token ? builder_.Token(*token) : builder_.Literal(text);
  }

  std::optional<TokenId> SpecialToken(const std::string& text) const {
    const std::optional<TokenId> token = tokenizer_.FindPiece(text);
    return token && tokenizer_.IsSpecial(*token) ? token : std::nullopt;
  }

  Result<Part> Call(const Function& function) {
    const Result<Rule> schema =
        AddJsonSchema(function.parameters, {.additional_properties = false}, &builder_);
    if (!schema)
      return Error{schema.error().code,
                   "tools: function \"" + function.name + "\": " + schema.error().message};
    const auto comma = [&] { return builder_.Call(text_.Separator()); };
    const Part name =
        text_.Member(builder_.Literal("\"name\""), builder_.Literal("\"" + function.name + "\""));
    const Part arguments = text_.Member(
        builder_.Literal("\"" + std::string(format_.arguments) + "\""), builder_.Call(*schema));
    std::vector<Part> members = {name, comma(), arguments};
    if (format_.has_id) {
      static constexpr CodePointRange kAlphanumeric[] = {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}};
      const Part id = builder_.Sequence({builder_.Literal("\""),
                                         builder_.Repeat(builder_.CodePoints(kAlphanumeric), 9, 9),
                                         builder_.Literal("\"")});
      members.push_back(builder_.Optional(
          builder_.Sequence({comma(), text_.Member(builder_.Literal("\"id\""), id)})));
    }
    return text_.Object(builder_.Sequence(members));
  }

  /// One call or several, without the mark before the first.
  Result<Part> Calls(const std::vector<Function>& functions) {
    std::vector<Part> calls;
    for (const Function& function : functions) {
      const bool any = options_.choice == "auto" || options_.choice == "required";
      if (!any && function.name != options_.choice) continue;
      MOXIE_TRY_ASSIGN(const Part call, Call(function));
      calls.push_back(call);
    }
    if (calls.empty())
      return ToolError("there is no function \"" + options_.choice.substr(0, 100) + "\" to call");
    const Rule call = builder_.MakeRule("call", builder_.Choice(calls));
    const uint32_t most = options_.parallel ? kMaxCalls : 1;
    if (format_.in_list)
      return text_.Array(builder_.RepeatSeparated(call, text_.Separator(), 1, most));
    const std::string close = format_.close;
    if (close.empty()) return builder_.Call(call);
    const auto one = [&] {
      const Part space = builder_.OneOf({"", "\n"});
      return builder_.Sequence(
          {space, builder_.Call(call), builder_.OneOf({"", "\n"}), Mark(close)});
    };
    const Part more = builder_.Sequence({builder_.OneOf({"", "\n"}), Mark(format_.mark), one()});
    return builder_.Sequence({one(), builder_.Repeat(more, 0, most - 1)});
  }

  Part Marked(Part calls) {
    if (options_.format == ToolCallFormat::kLlama3) {
      // Llama 3.1 may put a token of its own before a call.
      const auto tag = SpecialToken("<|python_tag|>");
      return tag ? builder_.Sequence({builder_.Optional(builder_.Token(*tag)), calls}) : calls;
    }
    if (*format_.mark == '\0') return calls;
    return builder_.Sequence({Mark(format_.mark), text_.Space(), calls});
  }

  /// Text in which no call begins, then `calls`, where given, or nothing more.
  Part FreeText(const std::optional<Part>& calls) {
    const Part whole = builder_.Never();
    const std::string mark = format_.mark;
    if (calls) builder_.AddEmpty(calls->exit, whole.exit);
    builder_.AddEmpty(whole.entry, whole.exit);
    if (mark.empty()) {
      // A call is known by the answer's first character.
      const auto first = static_cast<uint8_t>(format_.in_list ? '[' : '{');
      const State text = builder_.NewState();
      builder_.AddBytes(whole.entry, 0, static_cast<uint8_t>(first - 1), text);
      builder_.AddBytes(whole.entry, static_cast<uint8_t>(first + 1), 255, text);
      builder_.AddBytes(text, 0, 255, text);
      builder_.AddEmpty(text, whole.exit);
      if (calls) builder_.AddEmpty(whole.entry, calls->entry);
      return whole;
    }
    // The automaton of Knuth, Morris and Pratt (SIAM J. Comput. 6(2), 1977): a state is how much of
    // the mark the text ends with.
    std::vector<State> states;
    for (size_t k = 0; k < mark.size(); ++k) states.push_back(builder_.NewState());
    builder_.AddEmpty(whole.entry, states[0]);
    const bool special = SpecialToken(mark).has_value();
    for (size_t k = 0; k < mark.size(); ++k) {
      builder_.AddEmpty(states[k], whole.exit);
      if (calls && special) builder_.AddEmpty(states[k], calls->entry);
      for (int byte = 0; byte < 256; ++byte) {
        const size_t next = Overlap(mark, k, static_cast<char>(byte));
        const auto b = static_cast<uint8_t>(byte);
        if (next < mark.size()) builder_.AddBytes(states[k], b, b, states[next]);
      }
    }
    // Where the mark is text, calls begin anew with it: its beginning is a beginning of both.
    if (calls && !special) {
      for (const State state : states) builder_.AddEmpty(state, calls->entry);
    }
    return whole;
  }

  /// The longest beginning of `mark` that the first `k` bytes of it and `c` end with.
  static size_t Overlap(const std::string& mark, size_t k, char c) {
    const std::string text = mark.substr(0, k) + c;
    size_t length = std::min(text.size(), mark.size());
    while (text.compare(text.size() - length, length, mark, 0, length) != 0) --length;
    return length;
  }

  const ToolCallOptions& options_;
  Format format_;
  const Tokenizer& tokenizer_;
  GrammarBuilder& builder_;
  JsonText text_;
};

}  // namespace

Result<Rule> AddToolCalls(std::string_view tools, const ToolCallOptions& options,
                          const Tokenizer& tokenizer, GrammarBuilder* builder) {
  MOXIE_TRY_ASSIGN(const std::vector<Function> functions, ReadTools(tools));
  return ToolCallGrammar(options, tokenizer, builder).Make(functions);
}

}  // namespace moxie
