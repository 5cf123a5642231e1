// tools/sim/program.h
//
// Random task programs with the answer known beforehand: what a sequential run of the same calls computes. The
// generator and the oracle are one pass, so a program carries, at each wait, the contents it must see.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/base/rng.h"
#include "protocol/wire/client.h"
#include "tools/sim/values.h"

namespace shoal::sim {

namespace op {
struct Put {  // a datum of the main program
  DatumId datum;
  std::uint64_t content = 0;
  std::uint64_t bytes = 0;
};
struct Submit {
  std::vector<client::TaskCall> calls;
};
struct Wait {
  std::map<DatumId, std::uint64_t> expected;
};
struct Barrier {
  bool last = false;
};
struct Release {
  std::vector<DatumId> data;
};
struct Think {
  Duration length;
};
}  // namespace op
using Op = std::variant<op::Put, op::Submit, op::Wait, op::Barrier, op::Release, op::Think>;

struct ProgramShape {
  std::uint32_t tasks_min = 4;
  std::uint32_t tasks_max = 40;
  std::uint32_t units_max = 2;  // no function asks for more
  bool large_values = true;
  bool failing_tasks = true;
  bool long_tasks = true;
};

struct Program {
  std::vector<Op> ops;
  // What each output of each task must be; without those that depend on the order of commutative updates.
  std::map<std::pair<TaskId, std::uint32_t>, std::uint64_t> outputs;
  std::uint64_t tasks = 0;
};

Program make_program(AppId app, const ProgramShape& shape, Rng rng);

}  // namespace shoal::sim
