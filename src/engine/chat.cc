#include "moxie/chat.h"

#include <nlohmann/json.hpp>

#include "engine/model_parts.h"

namespace moxie {
namespace {

using Json = nlohmann::ordered_json;

/// Deeper values are refused: writing them out again would recurse as deep.
constexpr int kMaxDepth = 200;

/// Parses text that must be JSON of that type; `what` begins the message of the error.
Result<Json> Parse(const std::string& text, Json::value_t type, const char* what) {
  bool too_deep = false;
  const auto watch = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  Json value = Json::parse(text, watch, /*allow_exceptions=*/false);
  if (!too_deep && value.type() == type) return value;
  return Error{ErrorCode::kInvalidInput,
               std::string(what) + (too_deep ? ": JSON nested deeper than 200 levels"
                                    : type == Json::value_t::array ? ": not a JSON array"
                                                                   : ": not a JSON object")};
}

Result<Json> MessageJson(const Message& message) {
  Json out = {{"role", message.role}, {"content", message.content}};
  if (message.fields_json.empty()) return out;
  MOXIE_TRY_ASSIGN(const Json fields, Parse(message.fields_json, Json::value_t::object, "message"));
  out.update(fields);
  return out;
}

/// Invalid UTF-8 cannot stand in JSON; each bad byte becomes U+FFFD.
std::string DumpJson(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Json> TemplateVariables(const Tokenizer& tokenizer, const std::vector<Message>& messages,
                               const ChatOptions& options) {
  Json variables = Json::object();
  Json& list = variables["messages"] = Json::array();
  for (const Message& message : messages) {
    MOXIE_TRY_ASSIGN(Json item, MessageJson(message));
    list.push_back(std::move(item));
  }
  if (!options.tools_json.empty()) {
    MOXIE_TRY_ASSIGN(variables["tools"], Parse(options.tools_json, Json::value_t::array, "tools"));
  }
  if (!options.documents_json.empty()) {
    MOXIE_TRY_ASSIGN(variables["documents"],
                     Parse(options.documents_json, Json::value_t::array, "documents"));
  }
  variables["add_generation_prompt"] = options.add_generation_prompt;
  if (tokenizer.bos()) variables["bos_token"] = tokenizer.Piece(*tokenizer.bos());
  if (tokenizer.eos()) variables["eos_token"] = tokenizer.Piece(*tokenizer.eos());
  return variables;
}

/// tokenizer_config.json's chat_template: a text, or a list of {"name", "template"}.
std::string TemplateOfConfig(const std::string& config_text) {
  const Json config = Json::parse(config_text, nullptr, /*allow_exceptions=*/false);
  const auto found = config.is_object() ? config.find("chat_template") : config.end();
  if (!config.is_object() || found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) return "";
  for (const Json& entry : *found) {
    if (entry.is_object() && entry.value("name", Json()) == "default" &&
        entry.value("template", Json()).is_string())
      return entry["template"].get<std::string>();
  }
  return "";
}

}  // namespace

Result<std::string> ReadChatTemplate(const ModelFiles& files) {
  if (files.layout == FileLayout::kGguf) {
    MOXIE_TRY_ASSIGN(const std::optional<std::string> text,
                     files.metadata.Text("tokenizer.chat_template"));
    return text.value_or("");
  }
  MOXIE_TRY_ASSIGN(const std::optional<std::string> jinja,
                   files.ReadCompanion("chat_template.jinja"));
  if (jinja) return *jinja;
  MOXIE_TRY_ASSIGN(const std::optional<std::string> config,
                   files.ReadCompanion("tokenizer_config.json"));
  return config ? TemplateOfConfig(*config) : "";
}

Result<std::string> RenderChat(const Model& model, const std::vector<Message>& messages,
                               const ChatOptions& options) {
  const Model::Parts& parts = model.parts();
  if (!parts.chat_template)
    return Error{ErrorCode::kUnsupported,
                 parts.files.path.string() + ": has no chat template, so --raw is needed"};
  const auto prefix = [&](const Error& error) {
    return Error{error.code, parts.files.path.string() + ": chat template: " + error.message};
  };
  if (!*parts.chat_template) return prefix(parts.chat_template->error());
  MOXIE_TRY_ASSIGN(const Json variables, TemplateVariables(*parts.tokenizer, messages, options));
  Result<std::string> text = (*parts.chat_template)->Render(DumpJson(variables));
  if (!text) return prefix(text.error());
  return text;
}

Result<std::vector<TokenId>> EncodeChat(const Model& model, const std::vector<Message>& messages,
                                        const ChatOptions& options) {
  MOXIE_TRY_ASSIGN(const std::string text, RenderChat(model, messages, options));
  return model.tokenizer().Encode(text, {.add_special = false, .parse_special = true});
}

Result<Completion> Conversation::Ask(std::string text, Request settings,
                                     const EventHandler& on_event) {
  std::vector<Message> all;
  if (!system_.empty()) all.push_back({"system", system_, ""});
  all.insert(all.end(), messages_.begin(), messages_.end());
  all.push_back({"user", text, ""});
  MOXIE_TRY_ASSIGN(settings.prompt, EncodeChat(model_, all));
  MOXIE_TRY_ASSIGN(Completion answer, engine_.Run(std::move(settings), on_event));
  messages_.push_back({"user", std::move(text), ""});
  messages_.push_back({"assistant", answer.text, ""});
  return answer;
}

}  // namespace moxie
