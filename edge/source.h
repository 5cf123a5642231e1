// edge/source.h
//
// Something that brings readings, on a thread of its own: an MQTT subscription, a replayed file, a command. It hands
// them over and reports its health through a HandOver; everything else (the stream, retries, the list of sources) is
// Edge's business.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "edge/hand_over.h"
#include "protocol/base/result.h"
#include "protocol/wire/codec.h"
#include "protocol/wire/dynamic.h"

namespace shoal::edge {

// How long a source that lost its sensor waits before it tries again: the first time, and at most.
constexpr std::int64_t kPauseFirstMs = 500;
constexpr std::int64_t kPauseMaxMs = 30'000;

struct SourceConfig {
  std::string name;
  std::string type;  // "mqtt", "replay", "exec"
  std::string stream;
  wire::Dynamic stream_options;  // of streams.open, should the stream not exist
  wire::Dynamic options;         // of the type, checked by its make function
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.name, self.type, self.stream, self.stream_options, self.options);
  }
};

class Source {
 public:
  virtual ~Source() = default;  // stops the thread; the HandOver has been stopped before
};

// Checks the options of `config` without starting anything; the error says what is accepted.
Result<> check_source(const SourceConfig& config);

// Starts the source. `hand_over` outlives it. `client_id` names this agent to others.
Result<std::unique_ptr<Source>> start_source(const SourceConfig& config, const std::string& client_id,
                                             HandOver& hand_over);

}  // namespace shoal::edge
