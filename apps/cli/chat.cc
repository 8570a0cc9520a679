#include "moxie/chat.h"

#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "answer.h"
#include "command.h"
#include "files.h"
#include "interrupt.h"
#include "line_editor.h"
#include "options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kHelp[] =
    "/help          this\n"
    "/system TEXT   sets the system message (without TEXT: shows it); - removes it\n"
    "/save FILE     writes the conversation as JSON\n"
    "/load FILE     continues a saved conversation\n"
    "/routing       how the tokens so far spread over the experts\n"
    "/stats         speed and memory of the last answer\n"
    "/clear         forgets the conversation, not the system message\n"
    "/quit          ends (also Ctrl-D)\n"
    "Ctrl-C stops an answer. A line that ends in \\ continues; pasted lines stay together.\n";

struct ChatArguments {
  ModelArguments model;
  SamplingArguments sampling;
  std::string system;
};

std::string ToJson(const Conversation& conversation) {
  Json messages = Json::array();
  for (const Message& message : conversation.messages())
    messages.push_back({{"role", message.role}, {"content", message.content}});
  const Json out = {{"system", conversation.system()}, {"messages", std::move(messages)}};
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// Takes over what ToJson wrote; any other content is refused whole.
Result<void> FromJson(const std::string& file, const std::string& text,
                      Conversation& conversation) {
  const Error refused{ErrorCode::kInvalidInput,
                      file +
                          ": not a conversation saved by /save (an object of system and "
                          "messages)"};
  const Json saved = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!saved.is_object() || !saved.contains("system") || !saved["system"].is_string() ||
      !saved.contains("messages") || !saved["messages"].is_array())
    return refused;
  std::vector<Message> messages;
  for (const Json& item : saved["messages"]) {
    if (!item.is_object() || !item.contains("role") || !item["role"].is_string() ||
        !item.contains("content") || !item["content"].is_string())
      return refused;
    messages.push_back({item["role"], item["content"], ""});
  }
  conversation.SetSystem(saved["system"]);
  conversation.SetMessages(std::move(messages));
  return {};
}

class Chat {
 public:
  Chat(Model& model, const ChatArguments& arguments)
      : model_(model),
        arguments_(arguments),
        engine_(model),
        conversation_(model, engine_),
        editor_(ChatHistoryFile()) {
    conversation_.SetSystem(arguments.system);
  }

  int Run() {
    if (IsTerminal(stdout)) Print("Type a message, or /help. Ctrl-D ends.\n");
    while (const std::optional<LineEditor::Input> input = editor_.Read(">")) {
      const std::string& text = input->text;
      if (input->interrupted || text.find_first_not_of(" \t\r\n") == std::string::npos) continue;
      if (text.starts_with('/')) {
        if (!Command(text)) return kDone;
      } else {
        Answer(text);
      }
    }
    return kDone;
  }

 private:
  /// Returns false where the conversation is over.
  bool Command(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    std::string argument = space == std::string::npos ? "" : line.substr(space + 1);
    const size_t begin = argument.find_first_not_of(' ');
    argument = begin == std::string::npos ? "" : argument.substr(begin);
    if (name == "/quit" || name == "/exit") return false;
    if (name == "/help") {
      Note(kHelp);
    } else if (name == "/system") {
      System(argument);
    } else if (name == "/save" || name == "/load") {
      const Result<void> done = name == "/save" ? Save(argument) : Load(argument);
      if (!done) Fail("chat", done.error());
    } else if (name == "/routing") {
      const std::string table = RoutingTable(routing_);
      Note(table.empty() ? "Nothing has been routed: the model is dense, or has not answered.\n"
                         : table);
    } else if (name == "/stats") {
      Note(last_ ? AnswerTable(model_, *last_) : "No answer yet.\n");
    } else if (name == "/clear") {
      conversation_.SetMessages({});
    } else {
      Note("No command " + name + "; /help lists them.\n");
    }
    return true;
  }

  static void Note(const std::string& text) { std::fputs(text.c_str(), stderr); }

  void System(const std::string& text) {
    if (text.empty()) {
      Note(conversation_.system().empty() ? "No system message.\n" : conversation_.system() + "\n");
    } else {
      conversation_.SetSystem(text == "-" ? "" : text);
    }
  }

  Result<void> Save(const std::string& file) {
    if (file.empty()) return Error{ErrorCode::kInvalidInput, "/save needs a FILE"};
    return WriteFile(file, ToJson(conversation_));
  }

  Result<void> Load(const std::string& file) {
    if (file.empty()) return Error{ErrorCode::kInvalidInput, "/load needs a FILE"};
    MOXIE_TRY_ASSIGN(const std::string text, ReadFile(file));
    return FromJson(file, text, conversation_);
  }

  void Answer(const std::string& text) {
    const InterruptGuard guard;
    Request request = arguments_.sampling.ToRequest();
    request.observe_routing = model_.is_mixture();
    ProgressBar bar("reading");
    bool within_line = false;
    Result<Completion> answer =
        conversation_.Ask(text, std::move(request), [&](const Event& event) {
          bar.Clear();
          Print(event.text);
          std::fflush(stdout);
          if (!event.text.empty()) within_line = event.text.back() != '\n';
          return !InterruptGuard::Interrupted();
        });
    if (within_line) Print("\n");
    std::fflush(stdout);
    if (!answer) {
      Fail("chat", arguments_.model.model, answer.error());
      return;
    }
    if (answer->finish_reason == FinishReason::kLength)
      Note(Styled(stderr, Style::kDim, "(cut short: --max-tokens or --context is reached)\n"));
    routing_.Add(answer->routing);
    last_ = std::move(*answer);
  }

  Model& model_;
  const ChatArguments& arguments_;
  Engine engine_;
  Conversation conversation_;
  LineEditor editor_;
  RoutingShares routing_;
  std::optional<Completion> last_;
};

int RunChat(const ChatArguments& arguments) {
  const Result<std::unique_ptr<Model>> model =
      Model::Open(arguments.model.model, arguments.model.ToOptions());
  if (!model) return Fail("chat", model.error());
  if (!(*model)->has_chat_template())
    return Fail("chat", arguments.model.model,
                {ErrorCode::kUnsupported,
                 "has no chat template, so it holds no conversations (moxie run continues texts)"});
  return Chat(**model, arguments).Run();
}

}  // namespace

void AddChat(Program& program) {
  const auto arguments = std::make_shared<ChatArguments>();
  CLI::App* const command = AddCommand(program, "chat", "Hold a conversation in the terminal",
                                       [arguments] { return RunChat(*arguments); });
  AddModelOptions(*command, arguments->model);
  command->add_option("--system", arguments->system, "System message")->type_name("TEXT");
  AddSamplingOptions(*command, arguments->sampling);
  command->footer("Within the conversation, /help lists the commands.");
}

}  // namespace moxie::cli
