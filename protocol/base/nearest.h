// protocol/base/nearest.h
//
// The word somebody probably meant: for messages about unknown commands, options and settings.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace shoal {

// Letters to insert, remove or replace until `a` is `b`, neighbours to swap counted as one. O(|a|·|b|).
std::size_t edit_distance(std::string_view a, std::string_view b);

// The candidate with the smallest distance to `word`, the first of several; nothing when none is close enough to be a
// slip of the hand: a third of the word's letters, at least one and at most three, or a word that begins like it.
std::optional<std::string_view> nearest(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace shoal
