#include "edge/edge.h"

namespace shoal::edge {

class Edge::Impl {};
Edge::Edge(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Edge::~Edge() = default;
Result<std::unique_ptr<Edge>> Edge::open(EdgeConfig) { return std::unique_ptr<Edge>(new Edge(std::make_unique<Impl>())); }
bool Edge::handles(const std::string& method) { return method.rfind("edge.", 0) == 0; }
void Edge::on_request(Instant, ClientId client, std::uint64_t request, const std::string&, const wire::Dynamic&, std::vector<Output>& out) {
  out.push_back(out::Reply{client, request, fail(Code::kUnsupported, "edge sources are not built yet")});
}
void Edge::on_reply(Instant, std::uint64_t, const Result<wire::Dynamic>&, std::vector<Output>&) {}
void Edge::on_wake(Instant, std::vector<Output>&) {}
Instant Edge::next_deadline() const { return Instant::never(); }
int Edge::fd() const { return -1; }
EdgeCounters Edge::counters() const { return {}; }

}  // namespace shoal::edge
