#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "convert/folder.h"

namespace moxie {
namespace {

/// What vocabularies are compared on beside their own pieces: words, numbers, contractions, white
/// space, scripts, signs, and an accent apart from its letter.
constexpr std::string_view kProbe =
    "Hello, world! I'm sure you'LL say it's 3.14159 or 1234567; don't we've they'd re-read "
    "CamelCase snake_case http://example.org/a?b=c&d=e#f \n\n\n \t\t  x = {\"k\": [1, 22, "
    "333]};\r\n"
    "        indented    tabs\tand  double  spaces  \n na\u00efve caf\u00e9 cafe\u0301 "
    "\u00dcbergr\u00f6\u00dfe \u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 "
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u3053\u3093\u306b\u3061\u306f \uc548\ub155 "
    "\u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a "
    "\U0001f680\U0001f469\u200d\U0001f4bb \u2014 \u2026 \u00bd \u2167 a\u0302\u0323b "
    "!!!??? ------ ====== ```code``` <tag> $5 10% a/b\\c  ";

Result<void> Compare(std::string_view name, const Tokenizer& wanted, const Tokenizer& made,
                     std::string_view text) {
  const EncodeOptions plain{.add_special = false, .parse_special = false};
  const std::vector<TokenId> want = wanted.Encode(text, plain);
  const std::vector<TokenId> got = made.Encode(text, plain);
  if (want == got) return {};
  const auto [a, b] = std::ranges::mismatch(want, got);
  const auto show = [](const Tokenizer& tokenizer, const auto& at, const auto& end) {
    return at == end ? std::string("nothing") : "\"" + tokenizer.Piece(*at) + "\"";
  };
  return Error{ErrorCode::kUnsupported,
               std::string(name) + ": its tokenizer gives " + show(wanted, a, want.end()) +
                   " where the nearest that the other layout can say gives " +
                   show(made, b, got.end())};
}

}  // namespace

Result<void> CheckSameTokens(std::string_view name, const Tokenizer& wanted,
                             const Tokenizer& made) {
  MOXIE_TRY(Compare(name, wanted, made, kProbe));
  std::string together, apart;
  for (TokenId id = 0; id < wanted.vocab_size(); ++id) {
    if (wanted.IsSpecial(id)) continue;
    const std::string bytes = wanted.Bytes(id);
    together += bytes;
    apart.append(bytes).append(" ");
  }
  MOXIE_TRY(Compare(name, wanted, made, together));
  return Compare(name, wanted, made, apart);
}

}  // namespace moxie
