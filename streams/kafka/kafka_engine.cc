#include "streams/kafka/kafka_engine.h"

namespace shoal::streams {

Result<std::unique_ptr<Engine>> open_kafka(KafkaOptions) { return fail(Code::kUnsupported, "not built yet"); }

}  // namespace shoal::streams
