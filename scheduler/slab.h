// scheduler/slab.h
//
// Records with stable addresses and small dense indices, reused after they are freed: what a graph of millions of
// short-lived tasks is made of. Not a container to iterate; `live()` counts.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "protocol/base/check.h"

namespace shoal::scheduler {

constexpr std::uint32_t kNone = 0xffffffff;

template <class T>
class Slab {
 public:
  // The index of a record in its default state.
  std::uint32_t add() {
    ++live_;
    if (!free_.empty()) {
      const std::uint32_t index = free_.back();
      free_.pop_back();
      return index;
    }
    if (size_ == first_of(chunks_.size())) chunks_.push_back(std::make_unique<T[]>(kFirst << chunks_.size()));
    return size_++;
  }

  // Puts the record back into its default state and its index up for reuse.
  void free(std::uint32_t index) {
    SHOAL_CHECK(index < size_ && live_ > 0, "only a live record can be freed");
    --live_;
    (*this)[index] = T();
    free_.push_back(index);
  }

  T& operator[](std::uint32_t index) {
    const std::size_t chunk = chunk_of(index);
    return chunks_[chunk][index - first_of(chunk)];
  }
  const T& operator[](std::uint32_t index) const {
    const std::size_t chunk = chunk_of(index);
    return chunks_[chunk][index - first_of(chunk)];
  }

  std::size_t live() const { return live_; }
  // One past the largest index ever given out: for scans on rare events. Free records are in their default state.
  std::uint32_t end() const { return size_; }

 private:
  // Each chunk is twice as large as the one before: small tables are small, and records never move.
  static constexpr std::size_t kFirst = 8;
  static constexpr std::size_t first_of(std::size_t chunk) { return kFirst * ((std::size_t{1} << chunk) - 1); }
  static constexpr std::size_t chunk_of(std::uint32_t index) {
    return static_cast<std::size_t>(std::bit_width(index / kFirst + 1)) - 1;
  }

  std::vector<std::unique_ptr<T[]>> chunks_;
  std::vector<std::uint32_t> free_;
  std::uint32_t size_ = 0;
  std::size_t live_ = 0;
};

}  // namespace shoal::scheduler
