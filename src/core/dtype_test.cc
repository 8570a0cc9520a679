#include "core/dtype.h"

#include <gtest/gtest.h>

#include <limits>

namespace moxie {
namespace {

TEST(DType, NamesRoundTripWithoutRegardToCase) {
  EXPECT_EQ(DTypeFromName("Q4_K"), DType::kQ4_K);
  EXPECT_EQ(DTypeFromName("bf16"), DType::kBF16);
  EXPECT_EQ(DTypeFromName("q4"), std::nullopt);
}

TEST(DType, BytesRejectPartialBlocksAndOverflow) {
  EXPECT_EQ(BytesOf(DType::kQ4_0, 64), 36);
  EXPECT_EQ(BytesOf(DType::kQ4_0, 33), std::nullopt);
  EXPECT_EQ(BytesOf(DType::kF32, -1), std::nullopt);
  EXPECT_EQ(BytesOf(DType::kF64, std::numeric_limits<int64_t>::max()), std::nullopt);
}

TEST(DType, UnknownIdsAreRefused) {
  for (uint32_t id : {4u, 5u, 9u, 15u, 31u, 36u, 40u, 0xffffffffu}) EXPECT_FALSE(IsKnownDType(id));
}

}  // namespace
}  // namespace moxie
