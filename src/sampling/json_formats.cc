#include "sampling/json_formats.h"

#include <utility>

namespace moxie {
namespace {

#define MOXIE_DATE                                                                        \
  "(([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)-((0[13578]|1[02])-(0[1-9]|[12]"  \
  "[0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|([0-9]{2}(0" \
  "[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29)"
#define MOXIE_TIME \
  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define MOXIE_LABEL "[a-zA-Z0-9]([a-zA-Z0-9-]{0,58}[a-zA-Z0-9])?"
#define MOXIE_HOST MOXIE_LABEL "(\\." MOXIE_LABEL "){0,3}"
#define MOXIE_BYTE "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define MOXIE_GROUP "[0-9a-fA-F]{1,4}"
#define MOXIE_URI_CHARACTER "[a-zA-Z0-9._~!$&()*+,;=:@-]"

constexpr std::pair<std::string_view, std::string_view> kPatterns[] = {
    {"date", "^" MOXIE_DATE "$"},
    {"time", "^" MOXIE_TIME "$"},
    {"date-time", "^" MOXIE_DATE "T" MOXIE_TIME "$"},
    {"uuid", "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
    {"email",
     "^[a-zA-Z0-9_+-]{1,32}(\\.[a-zA-Z0-9_+-]{1,30})?@(" MOXIE_LABEL "\\.){1,3}[a-zA-Z]{2,20}$"},
    {"hostname", "^" MOXIE_HOST "$"},
    {"ipv4", "^" MOXIE_BYTE "(\\." MOXIE_BYTE "){3}$"},
    {"ipv6", "^((" MOXIE_GROUP ":){7}" MOXIE_GROUP "|(" MOXIE_GROUP ":){1,6}:" MOXIE_GROUP
             "|:(:" MOXIE_GROUP "){1,7}|(" MOXIE_GROUP ":){1,7}:|::)$"},
    {"uri",
     "^[a-z][a-z0-9+.-]{0,15}://" MOXIE_HOST "(:[1-9][0-9]{0,3})?(/" MOXIE_URI_CHARACTER
     "{0,200}){0,20}(\\?" MOXIE_URI_CHARACTER "{0,500})?(#" MOXIE_URI_CHARACTER "{0,200})?$"},
};

}  // namespace

std::optional<std::string_view> PatternOfFormat(std::string_view format) {
  for (const auto& [name, pattern] : kPatterns) {
    if (name == format) return pattern;
  }
  return std::nullopt;
}

}  // namespace moxie
