#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "convert/folder.h"
#include "convert/gguf_vocabulary.h"
#include "convert/sentencepiece_writer.h"
#include "core/printable.h"
#include "engine/model_parts.h"
#include "model/names.h"
#include "tokenizer/gguf_patterns.h"
#include "tokenizer/tokenizer.h"

namespace moxie {
namespace {

using json = nlohmann::ordered_json;
using Type = GgufVocabulary::Type;

bool IsAdded(int32_t type) {
  return type == Type::kControl || type == Type::kUnknown || type == Type::kUserDefined;
}

/// A GGUF's arrays. LoadTokenizer has checked them.
Result<GgufVocabulary> ReadArrays(const GgufMetadata& metadata) {
  GgufVocabulary out;
  MOXIE_TRY_ASSIGN(const auto model, metadata.Text("tokenizer.ggml.model"));
  out.model = model.value_or("");
  MOXIE_TRY_ASSIGN(const auto pre, metadata.Text("tokenizer.ggml.pre"));
  out.pre = pre.value_or("default");
  MOXIE_TRY_ASSIGN(auto tokens, metadata.Texts("tokenizer.ggml.tokens"));
  out.tokens = std::move(tokens).value_or(std::vector<std::string>());
  MOXIE_TRY_ASSIGN(auto merges, metadata.Texts("tokenizer.ggml.merges"));
  out.merges = std::move(merges).value_or(std::vector<std::string>());
  MOXIE_TRY_ASSIGN(const auto types, metadata.Integers("tokenizer.ggml.token_type"));
  out.types.assign(out.tokens.size(), Type::kNormal);
  if (types) out.types.assign(types->begin(), types->end());
  MOXIE_TRY_ASSIGN(const auto scores, metadata.Numbers("tokenizer.ggml.scores"));
  if (scores) out.scores.assign(scores->begin(), scores->end());
  MOXIE_TRY_ASSIGN(const auto space, metadata.Boolean("tokenizer.ggml.add_space_prefix"));
  out.add_space_prefix = space.value_or(out.model != "gpt2");
  MOXIE_TRY_ASSIGN(const auto squeeze, metadata.Boolean("tokenizer.ggml.remove_extra_whitespaces"));
  out.remove_extra_whitespaces = squeeze.value_or(false);
  MOXIE_TRY_ASSIGN(const auto chars, metadata.Integers("tokenizer.ggml.precompiled_charsmap"));
  for (const int64_t byte : chars.value_or(std::vector<int64_t>()))
    out.chars_map.push_back(static_cast<uint8_t>(byte));
  return out;
}

json AddedTokenJson(const GgufVocabulary& vocabulary, size_t id) {
  return {{"content", vocabulary.tokens[id]},
          {"single_word", false},
          {"lstrip", false},
          {"rstrip", false},
          {"normalized", false},
          {"special", vocabulary.types[id] != Type::kUserDefined}};
}

/// What is put around a text, as tokenizer.json's post_processor says it.
json TemplateJson(const Tokenizer& tokenizer) {
  const auto token = [&](TokenId id, int type) {
    return json{{"SpecialToken", {{"id", tokenizer.Piece(id)}, {"type_id", type}}}};
  };
  const std::vector<TokenId> around = tokenizer.Encode("", {.add_special = true});
  json single = json::array();
  json pair = json::array();
  json tokens = json::object();
  for (const int part : {0, 1}) {
    json& list = pair;
    const bool bos = !around.empty() && around.front() == tokenizer.bos();
    const bool eos = !around.empty() && around.back() == tokenizer.eos();
    const json sequence = {{"Sequence", {{"id", part == 0 ? "A" : "B"}, {"type_id", part}}}};
    if (bos) list.push_back(token(around.front(), part));
    list.push_back(sequence);
    if (eos) list.push_back(token(around.back(), part));
    if (part == 0) single = pair;
  }
  for (const TokenId id : around) {
    const std::string piece = tokenizer.Piece(id);
    tokens[piece] = {{"id", piece}, {"ids", {id}}, {"tokens", {piece}}};
  }
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(tokens)}};
}

/// tokenizer.json of a byte-level vocabulary.
Result<std::string> ByteLevelJson(const GgufVocabulary& vocabulary, const Tokenizer& tokenizer) {
  MOXIE_TRY_ASSIGN(const GgufSplit split, FindGgufSplit(vocabulary.pre));
  json steps = json::array();
  for (const std::string_view pattern : split.patterns) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pattern}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  const auto byte_level = [](bool prefix) {
    return json{{"type", "ByteLevel"},
                {"add_prefix_space", prefix},
                {"trim_offsets", false},
                {"use_regex", false}};
  };
  steps.push_back(byte_level(vocabulary.add_space_prefix));
  json pieces = json::object();
  json added = json::array();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (!IsUtf8(vocabulary.tokens[id])) {
      return Error{ErrorCode::kInvalidInput, "tokenizer.ggml.tokens: token " + std::to_string(id) +
                                                 " is not UTF-8, but tokenizer.json must be"};
    }
    if (!IsAdded(vocabulary.types[id])) continue;
    json token = AddedTokenJson(vocabulary, id);
    token["id"] = id;
    added.push_back(std::move(token));
  }
  // An ordered object searches linearly when members are set, so the text is put together here.
  std::string vocab = "{";
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (id > 0) vocab += ',';
    vocab.append(json(vocabulary.tokens[id]).dump()).append(":").append(std::to_string(id));
  }
  vocab += '}';
  const json head = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", std::move(added)},
      {"normalizer", split.nfc ? json{{"type", "NFC"}} : json(nullptr)},
      {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}}},
      {"post_processor", TemplateJson(tokenizer)},
      {"decoder", byte_level(false)},
  };
  const json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", split.ignore_merges},
                      {"merges", vocabulary.merges}};
  std::string text = head.dump();
  text.back() = ',';
  std::string model_text = model.dump();
  model_text.back() = ',';
  return text + "\"model\":" + model_text + "\"vocab\":" + vocab + "}}\n";
}

std::string ScoredModel(const GgufVocabulary& vocabulary, const Tokenizer& tokenizer) {
  SentencePieceModel model;
  int64_t unknown = -1;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    SentencePieceModel::Piece piece;
    piece.text = vocabulary.tokens[id];
    if (piece.text.empty()) piece.text = "[EMPTY_" + std::to_string(id) + "]";
    piece.score = vocabulary.scores[id];
    const int32_t type = vocabulary.types[id];
    if (type == Type::kUnknown && unknown < 0) unknown = static_cast<int64_t>(id);
    // tokenizer_config.json cuts those out of the text, so the model itself must not look for them.
    piece.type = type == Type::kUserDefined ? SentencePieceModel::Type::kControl
                                            : static_cast<SentencePieceModel::Type>(type);
    model.pieces.push_back(std::move(piece));
  }
  model.unigram = vocabulary.model == "t5";
  model.byte_fallback =
      std::ranges::count(vocabulary.types, static_cast<int32_t>(Type::kByte)) == 256;
  model.add_dummy_prefix = vocabulary.add_space_prefix;
  model.remove_extra_whitespaces = vocabulary.remove_extra_whitespaces;
  model.chars_map.assign(vocabulary.chars_map.begin(), vocabulary.chars_map.end());
  model.bos_id = tokenizer.bos().value_or(-1);
  model.eos_id = tokenizer.eos().value_or(-1);
  return SerializeSentencePieceModel(model, unknown);
}

Result<std::string> TokenizerConfig(const ModelFiles& gguf, const GgufVocabulary& vocabulary,
                                    const Tokenizer& tokenizer) {
  const bool scored = vocabulary.model != "gpt2";
  json config = {{"tokenizer_class", scored ? "LlamaTokenizer" : "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false}};
  if (scored) config["legacy"] = false;
  const std::vector<TokenId> around = tokenizer.Encode("", {.add_special = true});
  config["add_bos_token"] = !around.empty() && around.front() == tokenizer.bos();
  config["add_eos_token"] = !around.empty() && around.back() == tokenizer.eos();
  if (tokenizer.bos()) config["bos_token"] = tokenizer.Piece(*tokenizer.bos());
  if (tokenizer.eos()) config["eos_token"] = tokenizer.Piece(*tokenizer.eos());
  for (const auto& [name, key] : {std::pair{"pad_token", "tokenizer.ggml.padding_token_id"},
                                  std::pair{"unk_token", "tokenizer.ggml.unknown_token_id"}}) {
    MOXIE_TRY_ASSIGN(const auto id, gguf.metadata.Integer(key));
    if (id && *id >= 0 && *id < tokenizer.vocab_size())
      config[name] = tokenizer.Piece(static_cast<TokenId>(*id));
  }
  json& added = config["added_tokens_decoder"] = json::object();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (IsAdded(vocabulary.types[id])) added[std::to_string(id)] = AddedTokenJson(vocabulary, id);
  }
  MOXIE_TRY_ASSIGN(const std::string chat_template, ReadChatTemplate(gguf));
  if (!chat_template.empty()) config["chat_template"] = chat_template;
  return config.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string GenerationConfig(const Tokenizer& tokenizer) {
  json config = json::object();
  if (tokenizer.bos()) config["bos_token_id"] = *tokenizer.bos();
  const std::vector<TokenId>& stops = tokenizer.stop_tokens();
  if (!stops.empty()) config["eos_token_id"] = stops;
  return config.dump(2) + "\n";
}

}  // namespace

Result<void> WriteFolderTokenizer(const ModelFiles& gguf, FolderWriter& folder) {
  if (gguf.metadata.Find("tokenizer.ggml.model") == nullptr) return {};
  MOXIE_TRY_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, LoadTokenizer(gguf));
  MOXIE_TRY_ASSIGN(const GgufVocabulary vocabulary, ReadArrays(gguf.metadata));
  if (vocabulary.model == "gpt2") {
    MOXIE_TRY_ASSIGN(const std::string text, ByteLevelJson(vocabulary, *tokenizer));
    MOXIE_TRY(folder.WriteFile("tokenizer.json", text));
  } else {
    MOXIE_TRY(folder.WriteFile("tokenizer.model", ScoredModel(vocabulary, *tokenizer)));
  }
  MOXIE_TRY_ASSIGN(const std::string config, TokenizerConfig(gguf, vocabulary, *tokenizer));
  MOXIE_TRY(folder.WriteFile("tokenizer_config.json", config));
  MOXIE_TRY(folder.WriteFile("generation_config.json", GenerationConfig(*tokenizer)));
  ModelFiles written;
  written.layout = FileLayout::kHuggingFace;
  written.path = folder.path();
  MOXIE_TRY_ASSIGN(const std::unique_ptr<Tokenizer> made, LoadTokenizer(written));
  return CheckSameTokens(DisplayName(gguf), *tokenizer, *made);
}

}  // namespace moxie
