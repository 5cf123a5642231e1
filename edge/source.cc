#include "edge/source.h"

#include "edge/exec_source.h"
#include "edge/mqtt_source.h"
#include "edge/replay_source.h"

namespace shoal::edge {

Result<> check_source(const SourceConfig& config) {
  if (config.type == "mqtt") return MqttSource::check(config);
  if (config.type == "replay") return ReplaySource::check(config);
  if (config.type == "exec") return ExecSource::check(config);
  return fail(Code::kInvalid, "source type '" + config.type + "' is not known; use 'mqtt', 'replay' or 'exec'");
}

Result<std::unique_ptr<Source>> start_source(const SourceConfig& config, const std::string& client_id,
                                             HandOver& hand_over) {
  if (auto checked = check_source(config); !checked) return tl::unexpected(checked.error());
  if (config.type == "mqtt") return MqttSource::start(config, client_id, hand_over);
  if (config.type == "replay") return ReplaySource::start(config, hand_over);
  return ExecSource::start(config, hand_over);
}

}  // namespace shoal::edge
