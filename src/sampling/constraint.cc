#include "moxie/constraint.h"

#include <algorithm>
#include <utility>

#include "sampling/constraint_parts.h"
#include "sampling/json_schema.h"
#include "sampling/tool_calls.h"

namespace moxie {
namespace {

/// Steps of the parser that one mask or one token may take, about a tenth of a second: everybody
/// else's answers wait meanwhile.
constexpr int64_t kWorkLimit = 2'000'000;
/// Bytes of masks that one constraint keeps.
constexpr size_t kMaskCacheBytes = size_t{8} << 20;
/// Stack sets after which those no longer in use are cleared away.
constexpr size_t kPoolLimit = 20'000;
constexpr size_t kMaxTokenBytes = 4096;

TokenTries::Pair MakePair(std::vector<TokenTrie::Token> tokens) {
  const auto longer = std::partition(
      tokens.begin(), tokens.end(),
      [](const TokenTrie::Token& token) { return token.bytes.size() <= kRepeatHorizon; });
  std::vector<TokenTrie::Token> rest(std::make_move_iterator(longer),
                                     std::make_move_iterator(tokens.end()));
  tokens.erase(longer, tokens.end());
  return {TokenTrie(std::move(tokens)), TokenTrie(std::move(rest))};
}

TokenTries::Pair ReadTokens(const Tokenizer& tokenizer, bool first) {
  std::vector<TokenTrie::Token> tokens;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.IsSpecial(id)) continue;
    std::string bytes = first ? tokenizer.FirstBytes(id) : tokenizer.Bytes(id);
    if (bytes.empty() || bytes.size() > kMaxTokenBytes) continue;
    tokens.push_back({std::move(bytes), id});
  }
  const auto& stops = tokenizer.stop_tokens();
  std::erase_if(tokens, [&](const auto& token) {
    return std::find(stops.begin(), stops.end(), token.id) != stops.end();
  });
  return MakePair(std::move(tokens));
}

Error Prefixed(const char* notation, const Error& error) {
  if (error.message.starts_with(notation)) return error;
  return {error.code, std::string(notation) + ": " + error.message};
}

}  // namespace

TokenTries::TokenTries(const Tokenizer& tokenizer)
    : within(ReadTokens(tokenizer, false)),
      stop_tokens(tokenizer.stop_tokens()),
      mask_words((static_cast<size_t>(tokenizer.vocab_size()) + 63) / 64) {
  bool differ = false;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    special.push_back(tokenizer.IsSpecial(id));
    differ = differ || tokenizer.FirstBytes(id) != tokenizer.Bytes(id);
  }
  if (differ) first = ReadTokens(tokenizer, true);
  std::erase_if(stop_tokens, [&](TokenId id) { return id < 0 || id >= tokenizer.vocab_size(); });
}

MaskCache::Mask MaskCache::Find(const Fingerprint& key) {
  const std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->mask;
}

void MaskCache::Add(const Fingerprint& key, Mask mask) {
  const std::lock_guard lock(mutex_);
  if (by_key_.contains(key)) return;
  entries_.push_front({key, std::move(mask)});
  by_key_[key] = entries_.begin();
  if (entries_.size() <= capacity_) return;
  by_key_.erase(entries_.back().key);
  entries_.pop_back();
}

Constraint::Constraint(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Constraint::~Constraint() = default;

struct ConstraintCompiler::Impl {
  const Tokenizer& tokenizer;
  mutable std::once_flag built;
  mutable std::shared_ptr<const TokenTries> tries;

  Result<ConstraintPtr> Make(const char* notation, GrammarBuilder* builder,
                             const Result<GrammarBuilder::Rule>& start) const {
    if (!start) return Prefixed(notation, start.error());
    Result<Grammar> grammar = builder->Finish(*start);
    if (!grammar) return Prefixed(notation, grammar.error());
    std::call_once(built, [&] { tries = std::make_shared<const TokenTries>(tokenizer); });
    const size_t mask_bytes = std::max<size_t>(1, tries->mask_words * sizeof(uint64_t));
    auto impl = std::make_unique<Constraint::Impl>();
    impl->tokenizer = &tokenizer;
    impl->tries = tries;
    impl->grammar = std::move(*grammar);
    impl->masks = std::make_unique<MaskCache>(std::max<size_t>(16, kMaskCacheBytes / mask_bytes));
    return ConstraintPtr(std::make_shared<const Constraint>(std::move(impl)));
  }
};

ConstraintCompiler::ConstraintCompiler(const Tokenizer& tokenizer)
    : impl_(new Impl{tokenizer, {}, nullptr}) {}
ConstraintCompiler::~ConstraintCompiler() = default;

Result<ConstraintPtr> ConstraintCompiler::JsonSchema(std::string_view schema,
                                                     const JsonSchemaOptions& options) const {
  GrammarBuilder builder;
  return impl_->Make("JSON schema", &builder, AddJsonSchema(schema, options, &builder));
}

Result<ConstraintPtr> ConstraintCompiler::Regex(std::string_view pattern) const {
  GrammarBuilder builder;
  return impl_->Make("regular expression", &builder, AddRegex(pattern, &builder));
}

Result<ConstraintPtr> ConstraintCompiler::Choice(const std::vector<std::string>& choices) const {
  GrammarBuilder builder;
  const GrammarBuilder::Rule start = builder.MakeRule("root", builder.OneOf(choices));
  return impl_->Make("choice", &builder, start);
}

Result<ConstraintPtr> ConstraintCompiler::Gbnf(std::string_view grammar) const {
  GrammarBuilder builder;
  return impl_->Make("grammar", &builder, AddGbnf(grammar, impl_->tokenizer, &builder));
}

Result<ConstraintPtr> ConstraintCompiler::ToolCalls(std::string_view tools,
                                                    const ToolCallOptions& options) const {
  GrammarBuilder builder;
  return impl_->Make("tools", &builder, AddToolCalls(tools, options, impl_->tokenizer, &builder));
}

struct ConstraintState::Impl {
  explicit Impl(ConstraintPtr given)
      : constraint(std::move(given)),
        parts(constraint->impl()),
        parser(parts.grammar),
        state(parser.Start(&pool)) {}

  const TokenTries::Pair& tries() const {
    return begun || !parts.tries->first ? parts.tries->within : *parts.tries->first;
  }

  bool IsStop(TokenId token) const {
    const auto& stops = parts.tries->stop_tokens;
    return std::find(stops.begin(), stops.end(), token) != stops.end();
  }

  Result<MaskCache::Mask> Compute() const;
  void ClearPool();

  ConstraintPtr constraint;
  const Constraint::Impl& parts;
  StackPool pool;
  mutable Parser parser;
  ParseState state;
  bool begun = false;    ///< whether the text has begun: its first token's bytes may differ
  MaskCache::Mask mask;  ///< of `state`, once asked for
};

Result<MaskCache::Mask> ConstraintState::Impl::Compute() const {
  Fingerprint key = state.print;
  key.Add(begun);
  if (MaskCache::Mask known = parts.masks->Find(key)) return known;
  parser.work = 0;
  // In the midst of a long repetition all states have the same mask, but for the longest tokens.
  StackPool scratch;
  const ParseState aliased = parser.Move(state, pool, true, &scratch);
  const bool in_midst = aliased.print != state.print;
  Fingerprint aliased_key = aliased.print;
  aliased_key.Add(begun ? 3 : 2);
  MaskCache::Mask shorter = in_midst ? parts.masks->Find(aliased_key) : nullptr;
  auto all = std::make_shared<TokenMask>(parts.tries->mask_words, 0);
  if (shorter) {
    *all = *shorter;
  } else {
    tries().shorter.Allow(&parser, aliased, scratch, false, kWorkLimit, all.get());
    for (const ParseState::Place& place : state.places) {
      const Grammar::State& at = parts.grammar.states[place.state];
      for (uint32_t e = at.tokens_begin; e < at.tokens_end; ++e)
        SetToken(all.get(), parts.grammar.token_edges[e].token);
    }
    if (state.can_end) {
      for (const TokenId stop : parts.tries->stop_tokens) SetToken(all.get(), stop);
    }
    if (in_midst && parser.work <= kWorkLimit)
      parts.masks->Add(aliased_key, std::make_shared<const TokenMask>(*all));
  }
  tries().longer.Allow(&parser, state, pool, false, kWorkLimit, all.get());
  if (parser.work > kWorkLimit)
    return Error{ErrorCode::kInvalidInput,
                 "the constraint is too ambiguous to be followed: one token takes more than " +
                     std::to_string(kWorkLimit) + " steps"};
  MaskCache::Mask done = std::move(all);
  if (!in_midst) parts.masks->Add(key, done);
  return done;
}

void ConstraintState::Impl::ClearPool() {
  if (pool.size() < kPoolLimit) return;
  StackPool fresh;
  state = parser.Move(state, pool, false, &fresh);
  pool = std::move(fresh);
}

ConstraintState::ConstraintState(ConstraintPtr constraint)
    : impl_(std::make_unique<Impl>(std::move(constraint))) {}
ConstraintState::~ConstraintState() = default;
ConstraintState::ConstraintState(ConstraintState&&) noexcept = default;
ConstraintState& ConstraintState::operator=(ConstraintState&&) noexcept = default;

Result<std::span<const uint64_t>> ConstraintState::Mask() {
  if (!impl_->mask) {
    MOXIE_TRY_ASSIGN(impl_->mask, impl_->Compute());
  }
  return std::span<const uint64_t>(*impl_->mask);
}

bool ConstraintState::Advance(TokenId token) {
  Impl& impl = *impl_;
  const TokenTries& tries = *impl.parts.tries;
  if (token < 0 || static_cast<size_t>(token) >= tries.special.size()) return false;
  ParseState next = impl.parser.StepToken(impl.state, token, &impl.pool);
  if (next.dead() && impl.IsStop(token)) return can_end();
  bool text = false;
  if (!tries.special[static_cast<size_t>(token)] && !impl.IsStop(token)) {
    const std::string bytes =
        impl.begun ? impl.parts.tokenizer->Bytes(token) : impl.parts.tokenizer->FirstBytes(token);
    ParseState read = impl.state;
    for (const char c : bytes) {
      if (read.dead()) break;
      read = impl.parser.StepByte(read, static_cast<uint8_t>(c), &impl.pool);
    }
    if (bytes.empty()) read = {};
    text = !impl.parts.tokenizer->Bytes(token).empty();
    next = impl.parser.Join(next, read, &impl.pool);
  }
  if (next.dead()) return false;
  impl.begun = impl.begun || text;
  impl.state = std::move(next);
  impl.mask = nullptr;
  impl.ClearPool();
  return true;
}

bool ConstraintState::can_end() const { return impl_->state.can_end; }
bool ConstraintState::must_end() const {
  return impl_->state.can_end && impl_->state.places.empty();
}

}  // namespace moxie
