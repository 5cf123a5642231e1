#include "tools/sim/program.h"

#include <set>
#include <utility>

#include "protocol/wire/codec.h"

namespace shoal::sim {
namespace {

class Generator {
 public:
  Generator(AppId app, const ProgramShape& shape, Rng rng) : app_(app), shape_(shape), rng_(rng) {}

  Program generate() {
    const std::uint64_t puts = rng_.below(4);
    for (std::uint64_t i = 0; i < puts; ++i) put();
    const auto tasks = static_cast<std::uint64_t>(rng_.between(shape_.tasks_min, shape_.tasks_max));
    while (program_.tasks < tasks) {
      submit(std::min<std::uint64_t>(tasks - program_.tasks, 1 + rng_.below(8)));
      interlude();
    }
    program_.ops.emplace_back(op::Barrier{true});
    if (!current_.empty()) program_.ops.emplace_back(op::Wait{current_});
    return std::move(program_);
  }

 private:
  void put() {
    const DatumId datum(++last_datum_);
    const std::uint64_t content = rng_.next();
    const bool large = shape_.large_values && rng_.chance(250'000);
    current_[datum] = content;
    program_.ops.emplace_back(op::Put{datum, content, large ? 20'000 + rng_.below(2'000'000) : 0});
  }

  void submit(std::uint64_t calls) {
    op::Submit submit;
    for (std::uint64_t i = 0; i < calls; ++i) submit.calls.push_back(call());
    program_.tasks += calls;
    program_.ops.emplace_back(std::move(submit));
  }

  // What a program does between submissions.
  void interlude() {
    if (rng_.chance(300'000)) program_.ops.emplace_back(op::Think{milliseconds(rng_.between(1, 3000))});
    if (rng_.chance(150'000)) put();
    if (rng_.chance(250'000) && !current_.empty()) {
      op::Wait wait;
      const std::uint64_t count = 1 + rng_.below(3);
      for (std::uint64_t i = 0; i < count; ++i) wait.expected.insert(*pick(current_));
      program_.ops.emplace_back(std::move(wait));
    }
    if (rng_.chance(60'000)) program_.ops.emplace_back(op::Barrier{});
    if (rng_.chance(250'000) && !current_.empty()) {
      const DatumId datum = pick(current_)->first;
      current_.erase(datum);
      program_.ops.emplace_back(op::Release{{datum}});
    }
  }

  std::map<DatumId, std::uint64_t>::iterator pick(std::map<DatumId, std::uint64_t>& from) {
    auto it = from.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(rng_.below(from.size())));
    return it;
  }

  const FunctionSpec& pick_function() {
    for (;;) {
      const FunctionSpec& function = catalogue()[rng_.below(catalogue().size())];
      if (function.units > shape_.units_max) continue;
      if (function.output_bytes > 0 && !shape_.large_values) continue;
      if (function.failures_max > 0 && !shape_.failing_tasks) continue;
      if (function.run_us > 1'000'000 && (!shape_.long_tasks || !rng_.chance(250'000))) continue;
      return function;
    }
  }

  client::TaskCall call() {
    client::TaskCall call;
    call.task = TaskId(++last_task_);
    const FunctionSpec& function = pick_function();
    call.function = function.id;
    used_.clear();
    inputs_.clear();
    literal(call);
    const std::uint64_t reads = rng_.below(4);
    for (std::uint64_t i = 0; i < reads; ++i) {
      if (auto access = datum(client::Direction::kIn)) call.accesses.push_back(*access);
    }
    if (rng_.chance(150'000)) collection(call);
    if (rng_.chance(350'000)) {
      if (auto access = datum(client::Direction::kInOut)) call.accesses.push_back(*access);
    }
    if (rng_.chance(120'000)) {
      if (auto access = datum(client::Direction::kCommutative)) call.accesses.push_back(*access);
    }
    const std::uint64_t results = rng_.below(10) < 7 ? 1 : rng_.below(3);
    for (std::uint64_t i = 0; i < results; ++i) {
      client::Access access;
      access.direction = client::Direction::kOut;
      access.kind = client::AccessKind::kDatum;
      access.datum = DatumId(++last_datum_);
      call.accesses.push_back(access);
    }
    compute(call, function);
    return call;
  }

  void literal(client::TaskCall& call) {
    if (!rng_.chance(500'000)) return;
    client::Access access;
    Payload payload;
    payload.content = rng_.next();
    payload.app = app_;
    access.value = client::Inline{wire::encode(payload)};
    call.accesses.push_back(access);
    inputs_.push_back(payload.content);
  }

  // An access to a datum this call does not use yet.
  std::optional<client::Access> datum(client::Direction direction) {
    if (current_.empty()) return std::nullopt;
    const auto chosen = pick(current_);
    if (!used_.insert(chosen->first).second) return std::nullopt;
    client::Access access;
    access.direction = direction;
    access.kind = client::AccessKind::kDatum;
    access.datum = chosen->first;
    if (direction != client::Direction::kCommutative) inputs_.push_back(chosen->second);
    return access;
  }

  void collection(client::TaskCall& call) {
    client::Access access;
    access.kind = client::AccessKind::kCollection;
    const std::uint64_t items = 2 + rng_.below(3);
    for (std::uint64_t i = 0; i < items; ++i) {
      if (auto item = datum(client::Direction::kIn)) access.items.push_back(*item);
    }
    if (!access.items.empty()) call.accesses.push_back(access);
  }

  // The sequential run: what the data hold after this call.
  void compute(const client::TaskCall& call, const FunctionSpec& function) {
    std::uint32_t k = 0;
    for (const auto& access : call.accesses) {
      if (access.kind != client::AccessKind::kDatum || access.direction == client::Direction::kIn) continue;
      std::uint64_t& content = current_[access.datum];
      content = access.direction == client::Direction::kCommutative ? commutative_content(function.id, inputs_, content)
                                                                    : output_content(function.id, inputs_, k);
      if (access.direction != client::Direction::kCommutative) program_.outputs[{call.task, k}] = content;
      ++k;
    }
  }

  AppId app_;
  ProgramShape shape_;
  Rng rng_;
  Program program_;
  std::map<DatumId, std::uint64_t> current_;  // what each live datum holds, in program order
  std::set<DatumId> used_;                    // by the call being made
  std::vector<std::uint64_t> inputs_;         // of the call being made
  std::uint64_t last_datum_ = 0;
  std::uint64_t last_task_ = 0;
};

}  // namespace

Program make_program(AppId app, const ProgramShape& shape, Rng rng) {
  return Generator(app, shape, rng).generate();
}

}  // namespace shoal::sim
