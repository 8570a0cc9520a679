#include "kernels/avx2/avx2.h"
#include "kernels/x86/pack_rows.h"

namespace moxie::avx2 {
namespace {

constexpr int kRows = 8;

x86::Runs RunsOf(DType type) { return x86::RunsOf(type, 2); }

}  // namespace

int64_t PackedRowsOf(DType type) { return RunsOf(type).run[0].count == 0 ? 0 : kRows; }

void Pack(DType type, int64_t row_bytes, const std::byte* rows, std::byte* out) {
  x86::PackRows<kRows>(RunsOf(type), TraitsOf(type).block_elements, row_bytes, rows, out);
}

void UnpackRow(DType type, int64_t row_bytes, const std::byte* rows, int64_t row, std::byte* out) {
  x86::UnpackRow<kRows>(RunsOf(type), TraitsOf(type).block_elements, row_bytes, rows, row, out);
}

}  // namespace moxie::avx2
