#pragma once

#include <cstddef>
#include <vector>

#include "moxie/result.h"

namespace moxie {

/// First in, first out; takes its memory at creation.
template <class T>
class Ring {
 public:
  explicit Ring(size_t capacity) : items_(capacity) {}
  bool empty() const { return count_ == 0; }
  size_t size() const { return count_; }
  /// The oldest; there must be one.
  T& front() { return items_[first_]; }
  void Push(const T& item) {
    MOXIE_CHECK(count_ < items_.size());
    items_[(first_ + count_++) % items_.size()] = item;
  }
  T Pop() {
    const T item = items_[first_];
    first_ = (first_ + 1) % items_.size();
    --count_;
    return item;
  }

 private:
  std::vector<T> items_;
  size_t first_ = 0;
  size_t count_ = 0;
};

}  // namespace moxie
