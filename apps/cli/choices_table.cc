#include "choices_table.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <vector>

#include "table.h"

namespace moxie::cli {
namespace {

/// "blk.3.ffn_up.5.weight" is of layer "3" and kind "ffn_up".
struct Place {
  std::string layer;
  std::string kind;
};

Place PlaceOf(std::string_view tensor) {
  std::vector<std::string> words;
  for (size_t begin = 0; begin <= tensor.size();) {
    const size_t end = std::min(tensor.find('.', begin), tensor.size());
    words.emplace_back(tensor.substr(begin, end - begin));
    begin = end + 1;
  }
  if (words.size() < 4 || words[0] != "blk") return {"", words[0]};
  return {words[1], words[2]};
}

/// How many tensors have which type: "q4_k", or "5 q4_k, 3 q3_k".
std::string CellOf(const std::map<std::string, int>& types) {
  if (types.empty()) return "-";
  if (types.size() == 1) return types.begin()->first;
  std::vector<std::pair<int, std::string>> counts;
  counts.reserve(types.size());
  for (const auto& [type, count] : types) counts.emplace_back(-count, type);
  std::ranges::sort(counts);
  std::string text;
  for (const auto& [count, type] : counts)
    text += (text.empty() ? "" : ", ") + std::to_string(-count) + " " + type;
  return text;
}

}  // namespace

std::string ChoicesTable(std::span<const QuantizeReport::Choice> choices) {
  std::string text;
  std::vector<std::string> layers, kinds;
  std::map<std::pair<std::string, std::string>, std::map<std::string, int>> cells;
  const auto note = [](std::vector<std::string>& names, const std::string& name) {
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  };
  for (const QuantizeReport::Choice& choice : choices) {
    const Place place = PlaceOf(choice.tensor);
    if (place.layer.empty()) {
      text += place.kind + "  " + choice.type + "\n";
      continue;
    }
    note(layers, place.layer);
    note(kinds, place.kind);
    ++cells[{place.layer, place.kind}][choice.type];
  }
  Table table(std::vector<Align>(kinds.size() + 1, Align::kLeft));
  std::vector<std::string> row = {"layer"};
  row.insert(row.end(), kinds.begin(), kinds.end());
  table.AddHeading(row);
  for (const std::string& layer : layers) {
    row = {layer};
    for (const std::string& kind : kinds) row.push_back(CellOf(cells[{layer, kind}]));
    table.Add(row);
  }
  return text + table.Text();
}

}  // namespace moxie::cli
