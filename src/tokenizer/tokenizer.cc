#include "tokenizer/tokenizer.h"

#include <filesystem>
#include <system_error>

#include "tokenizer/loaders.h"

namespace moxie {

namespace {

Error InFile(std::string_view name, Error error) {
  if (!error.message.starts_with(name)) error.message = std::string(name) + ": " + error.message;
  return error;
}

std::unique_ptr<Tokenizer> Finish(TokenizerParts parts) {
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

/// The tokenizer files of a folder, the most specific first.
struct Candidate {
  const char* name;
  Result<TokenizerParts> (*load)(std::string_view text);
  bool says_what_is_added;
};
constexpr Candidate kCandidates[] = {
    {"tokenizer.json", LoadTokenizerJson, true},
    {"tokenizer.model", LoadSentencePiece, false},
    {"tekken.json", LoadTekken, false},
    {"tokenizer.model.v3", LoadSentencePiece, false},
    {"tokenizer.model.v2", LoadSentencePiece, false},
    {"tokenizer.model.v1", LoadSentencePiece, false},
};

Result<std::unique_ptr<Tokenizer>> LoadFromFolder(const ModelFiles& files) {
  for (const Candidate& candidate : kCandidates) {
    MOXIE_TRY_ASSIGN(const std::optional<std::string> text, files.ReadCompanion(candidate.name));
    if (!text) continue;
    Result<TokenizerParts> parts = candidate.load(*text);
    if (!parts) return InFile(candidate.name, std::move(parts).error());
    MOXIE_TRY_ASSIGN(const TokenizerHints hints, ReadTokenizerHints(files));
    if (candidate.load == LoadSentencePiece) {
      Result<void> added = AddHintedTokens(hints, &parts.value());
      if (!added) return InFile("tokenizer_config.json", std::move(added).error());
    }
    ApplyHints(hints, candidate.says_what_is_added, &parts.value());
    return Finish(std::move(parts).value());
  }
  return Error{ErrorCode::kNotFound,
               files.path.string() + ": has no tokenizer.json, tokenizer.model or tekken.json"};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> LoadTokenizer(const ModelFiles& files) {
  if (files.layout != FileLayout::kGguf) return LoadFromFolder(files);
  Result<TokenizerParts> parts = LoadGgufTokenizer(files.metadata);
  if (!parts) return InFile(files.path.filename().string(), std::move(parts).error());
  return Finish(std::move(parts).value());
}

Result<std::unique_ptr<Tokenizer>> OpenTokenizer(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    MOXIE_TRY_ASSIGN(const ModelFiles files, OpenModelFiles(path));
    return LoadTokenizer(files);
  }
  // A folder needs no weights to have a tokenizer.
  ModelFiles files;
  files.layout = FileLayout::kHuggingFace;
  files.path = path;
  return LoadTokenizer(files);
}

}  // namespace moxie
