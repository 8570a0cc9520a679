#include "convert/probe_file.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <system_error>

#include "core/atomic_file.h"

namespace moxie {
namespace {

/// A number that a divergence can be, from the whole of `word`.
std::optional<double> Divergence(const std::string& word) {
  char* end = nullptr;
  const double number = std::strtod(word.c_str(), &end);
  if (word.empty() || *end != '\0' || !std::isfinite(number) || number < 0) return std::nullopt;
  return number;
}

}  // namespace

Result<ProbeResults> ReadProbes(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file)
    return Error{errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                 path.string() + ": cannot be read: " + std::generic_category().message(errno)};
  ProbeResults results;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    std::istringstream words(line);
    std::string name, coarse, fine, more;
    words >> name >> coarse >> fine >> more;
    ProbedDivergences divergences;
    const auto first = Divergence(coarse);
    if (!fine.empty()) divergences.fine = Divergence(fine);
    if (!first || divergences.fine.has_value() == fine.empty() || !more.empty())
      return Error{ErrorCode::kInvalidInput,
                   path.string() + ": line " + std::to_string(number) +
                       " must be a tensor's name and one or two divergences"};
    divergences.coarse = *first;
    results[name] = divergences;
  }
  if (file.bad()) return Error{ErrorCode::kIo, path.string() + ": cannot be read"};
  return results;
}

Result<void> WriteProbes(const ProbeResults& results, const std::filesystem::path& path) {
  std::string text;
  for (const auto& [name, divergences] : results) {
    char numbers[80];
    const int length = std::snprintf(numbers, sizeof numbers, " %.9g", divergences.coarse);
    if (divergences.fine)
      std::snprintf(numbers + length, sizeof numbers - static_cast<size_t>(length), " %.9g",
                    *divergences.fine);
    text += name + numbers + "\n";
  }
  MOXIE_TRY_ASSIGN(AtomicFile file, AtomicFile::Create(path));
  MOXIE_TRY(file.Write(text));
  return file.Commit();
}

}  // namespace moxie
