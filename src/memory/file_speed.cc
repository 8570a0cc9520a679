#include "memory/file_speed.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <vector>

namespace moxie {
namespace {

constexpr int64_t kPiece = int64_t{8} << 20;
constexpr int64_t kPieces = 32;

/// Reads all of it; bytes a second.
Result<double> Time(FileReader& reader, const std::vector<FileReader::Read>& reads) {
  int64_t bytes = 0;
  const auto start = std::chrono::steady_clock::now();
  for (const FileReader::Read& read : reads) {
    reader.Queue(read);
    bytes += read.bytes;
  }
  std::optional<Error> error;
  while (reader.pending() > 0) {
    std::optional<FileReader::Done> done = reader.Take(true);
    if (done->error) error = std::move(done->error);
  }
  if (error) return *std::move(error);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return static_cast<double>(bytes) / seconds.count();
}

}  // namespace

Result<double> ReadWhole(FileReader& reader, const PageBuffer& memory) {
  std::vector<FileReader::Read> reads;
  for (int64_t at = 0; at < memory.size(); at += kPiece)
    reads.push_back({.offset = static_cast<uint64_t>(at),
                     .bytes = std::min(kPiece, memory.size() - at),
                     .to = memory.data() + at});
  return Time(reader, reads);
}

Result<double> MeasureReading(const TensorFiles& files) {
  struct Place {
    int file;
    int64_t offset;
  };
  std::vector<Place> places;
  for (size_t i = 0; i < files.files().size(); ++i) {
    for (int64_t at = 0; at + kPiece <= files.files()[i].identity().size; at += kPiece)
      places.push_back({static_cast<int>(i), at});
  }
  const int64_t all = std::ssize(places), count = std::min(all, kPieces);
  if (count == 0) return Error{ErrorCode::kUnsupported, "the files are too small to tell"};
  MOXIE_TRY_ASSIGN(const PageBuffer memory,
                   PageBuffer::Create(count * kPiece, "measuring how files are read"));
  std::memset(memory.data(), 0, static_cast<size_t>(memory.size()));
  MOXIE_TRY_ASSIGN(const auto reader, FileReader::Create(files.files(), FileReader::Options{}));
  std::vector<FileReader::Read> reads;
  for (int64_t i = 0; i < count; ++i) {
    const Place& place = places[static_cast<size_t>(i * all / count)];
    reads.push_back({.file = place.file,
                     .offset = static_cast<uint64_t>(place.offset),
                     .bytes = kPiece,
                     .to = memory.data() + i * kPiece});
  }
  return Time(*reader, reads);
}

}  // namespace moxie
