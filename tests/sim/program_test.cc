// Goal: random programs are well formed, and their expected values are those of a sequential run.
// Method: an interpreter of its own runs the calls in order, one by one, and compares every wait.
#include "tools/sim/program.h"

#include <gtest/gtest.h>

#include <set>

namespace shoal::sim {
namespace {

// Adds what a call reads to `inputs`; commutative and written-only parameters do not count.
void inputs_of(const std::vector<client::Access>& accesses, const std::map<DatumId, std::uint64_t>& data,
               std::vector<std::uint64_t>& inputs) {
  for (const auto& access : accesses) {
    if (access.kind == client::AccessKind::kCollection) {
      inputs_of(access.items, data, inputs);
    } else if (access.kind == client::AccessKind::kLiteral) {
      inputs.push_back(Arena().read(access.value)->content);
    } else if (access.direction == client::Direction::kIn || access.direction == client::Direction::kInOut) {
      inputs.push_back(data.at(access.datum));
    }
  }
}

TEST(Program, ExpectsWhatASequentialRunComputes) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Program program = make_program(AppId(1, seed), ProgramShape{}, Rng(seed));
    std::map<DatumId, std::uint64_t> data;
    std::uint64_t tasks = 0;
    for (const auto& operation : program.ops) {
      if (const auto* put = std::get_if<op::Put>(&operation)) data[put->datum] = put->content;
      if (const auto* release = std::get_if<op::Release>(&operation)) {
        for (const DatumId datum : release->data) EXPECT_EQ(data.erase(datum), 1u);
      }
      if (const auto* wait = std::get_if<op::Wait>(&operation)) {
        for (const auto& [datum, content] : wait->expected) EXPECT_EQ(data.at(datum), content);
      }
      const auto* submit = std::get_if<op::Submit>(&operation);
      if (submit == nullptr) continue;
      for (const auto& call : submit->calls) {
        EXPECT_EQ(call.task, TaskId(++tasks));
        std::vector<std::uint64_t> inputs;
        inputs_of(call.accesses, data, inputs);
        std::uint32_t output = 0;
        for (const auto& access : call.accesses) {
          if (access.kind != client::AccessKind::kDatum || access.direction == client::Direction::kIn) continue;
          data[access.datum] = access.direction == client::Direction::kCommutative
                                   ? commutative_content(call.function, inputs, data.at(access.datum))
                                   : output_content(call.function, inputs, output);
          ++output;
        }
      }
    }
    EXPECT_EQ(tasks, program.tasks);
    EXPECT_GE(tasks, 4u);
  }
}

TEST(Program, CommutativeUpdatesGiveTheSameSumInAnyOrder) {
  const FunctionId f = catalogue()[0].id;
  const std::uint64_t one = commutative_content(f, {1}, commutative_content(f, {2}, 10));
  const std::uint64_t other = commutative_content(f, {2}, commutative_content(f, {1}, 10));
  EXPECT_EQ(one, other);
}

}  // namespace
}  // namespace shoal::sim
