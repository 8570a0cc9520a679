#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moxie {

/// Finds the first of several strings in a text that arrives in pieces, and holds back whatever
/// could still become the beginning of one.
class StopStrings {
 public:
  /// Empty strings never match.
  explicit StopStrings(std::vector<std::string> stops);

  /// Takes the next piece and returns the text that can be shown. Once found() is true, that text
  /// ends before the stop string and everything later is swallowed.
  std::string Add(std::string_view piece);

  /// The text held back; nothing more will come.
  std::string Finish();

  bool found() const { return found_; }

 private:
  std::vector<std::string> stops_;
  size_t longest_ = 0;
  std::string held_;
  bool found_ = false;
};

}  // namespace moxie
