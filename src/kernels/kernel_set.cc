#include "kernels/kernel_set.h"

#include <array>

#include "kernels/scalar/scalar.h"

namespace moxie {

std::span<const KernelSet* const> AllKernelSets() {
  static const std::array<const KernelSet*, 1> sets = {&ScalarKernels()};
  return sets;
}

const KernelSet& BestKernelSet() {
  const KernelSet* best = &ScalarKernels();
  for (const KernelSet* set : AllKernelSets()) {
    if (set->usable()) best = set;
  }
  return *best;
}

const KernelSet* FindKernelSet(std::string_view name) {
  for (const KernelSet* set : AllKernelSets()) {
    if (set->name == name && set->usable()) return set;
  }
  return nullptr;
}

}  // namespace moxie
