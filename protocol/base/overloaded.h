// protocol/base/overloaded.h
//
// One visitor for a std::variant out of several lambdas.
#pragma once

namespace shoal {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

}  // namespace shoal
