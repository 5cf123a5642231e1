// What the HTTP gateway answers with: counts of every part, and whether the agent takes work.
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>

#include "agent/daemon/impl.h"
#include "agent/gateway/exposition.h"

namespace shoal::daemon {
namespace {

using gateway::Exposition;
using gateway::MetricType;

constexpr std::size_t kHttpBodyMax = 256U << 10;  // an application's parameters

double processor_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

std::uint64_t count_of(const wire::Dynamic& map, const char* key) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, map.int_or(key, 0)));
}

void write_overlay(Exposition& out, const overlay::Overlay& overlay) {
  const auto status = overlay.report("status");
  std::map<std::pair<std::string, std::string>, std::uint64_t> agents;
  const auto report = overlay.report("agents");
  if (const auto* rows = report["agents"].as_array()) {
    for (const auto& row : *rows) ++agents[{row.text_or("scope", ""), row.text_or("status", "")}];
  }
  out.family("shoal_agents", MetricType::kGauge, "Agents that this one knows, by region (home, parent) and state.");
  for (const char* scope : {"home", "parent"}) {
    for (const char* state : {"alive", "suspect", "dead", "left"})
      out.sample(agents[{scope, state}], {{"scope", scope}, {"state", state}});
  }
  out.gauge("shoal_head", "1 while this agent speaks for its region.", status.bool_or("is_head", false) ? 1 : 0);
  out.gauge("shoal_epoch", "Epoch of the region's head as this agent knows it.", count_of(status, "epoch"));
  out.gauge("shoal_attached", "1 while this agent holds its region's seat in the parent region.",
            status.bool_or("attached", false) ? 1 : 0);
  out.gauge("shoal_isolated", "1 while this agent believes that it is cut off, not the others dead.",
            overlay.isolated() ? 1 : 0);
  out.counter("shoal_suspicions_total", "Agents that this one began to suspect.", count_of(status, "suspicions"));
  out.counter("shoal_refutations_total", "Times this agent had to say that it is alive.",
              count_of(status, "refutations"));
}

void write_tasks(Exposition& out, const wire::Dynamic& totals) {
  out.gauge("shoal_apps_running", "Applications whose master is this agent.", count_of(totals, "apps"));
  out.counter("shoal_tasks_submitted_total", "Tasks submitted to this agent as master.", count_of(totals, "submitted"));
  out.family("shoal_tasks_ended_total", MetricType::kCounter, "Tasks of this master that ended, by how.");
  for (const char* state : {"done", "failed", "cancelled"}) out.sample(count_of(totals, state), {{"state", state}});
  out.family(
      "shoal_tasks", MetricType::kGauge,
      "Tasks now: unfinished of this master; queued to be placed and waiting for units or inputs on this agent.");
  out.sample(count_of(totals, "unfinished"), {{"state", "unfinished"}});
  out.sample(count_of(totals, "queued"), {{"state", "queued"}});
  out.sample(count_of(totals, "waiting_here"), {{"state", "waiting"}});
  out.counter("shoal_tasks_retried_total", "Attempts of this master after a failure.", count_of(totals, "retried"));
  out.counter("shoal_tasks_lost_attempts_total", "Attempts of this master lost with their agent or executor.",
              count_of(totals, "lost_attempts"));
  out.counter("shoal_tasks_recomputed_total", "Tasks of this master run again for a value that was lost.",
              count_of(totals, "recomputed"));
}

void write_executors(Exposition& out, const executor::ExecutorPool::Counters& counters, std::size_t running) {
  out.counter("shoal_attempts_started_total", "Attempts handed to this agent's executors.", counters.launched);
  out.counter("shoal_attempts_finished_total", "Attempts that this agent reported.", counters.finished);
  out.gauge("shoal_attempts_running", "Attempts on this agent now.", running);
  out.gauge("shoal_executors", "Executor processes now.", counters.executors);
  out.gauge("shoal_commands", "Command processes now.", counters.commands);
  out.family("shoal_executor_events_total", MetricType::kCounter, "Executor processes, by what happened to them.");
  out.sample(counters.executors_started, {{"event", "started"}});
  out.sample(counters.executors_failed, {{"event", "failed"}});
  out.sample(counters.executors_lost, {{"event", "lost"}});
  out.sample(counters.executors_killed, {{"event", "killed"}});
}

void write_streams(Exposition& out, const streams::BrokerCounters& streams, const edge::EdgeCounters& edge) {
  out.counter("shoal_stream_records_in_total", "Records accepted from clients and sources of this agent.",
              streams.records_in);
  out.counter("shoal_stream_records_out_total", "Records returned to clients of this agent.", streams.records_out);
  out.counter("shoal_stream_bytes_in_total", "Bytes of records accepted.", streams.bytes_in);
  out.counter("shoal_stream_bytes_out_total", "Bytes of records returned.", streams.bytes_out);
  out.counter("shoal_stream_records_forwarded_total", "Records acknowledged by another owner or by Kafka.",
              streams.records_forwarded);
  out.counter("shoal_stream_duplicates_total", "Records rejected because the log has them already.",
              streams.duplicates);
  out.counter("shoal_stream_records_dropped_total", "Records dropped by the policy of a full stream.",
              streams.records_dropped);
  out.counter("shoal_stream_redelivered_total", "Records delivered again.", streams.redelivered);
  out.gauge("shoal_streams_owned", "Streams whose log is here.", streams.streams_owned);
  out.gauge("shoal_stream_outbox_bytes", "Bytes of records not delivered to their owner yet.", streams.outbox_bytes);
  out.gauge("shoal_stream_polls_waiting", "Consumers that wait for records.", streams.polls_waiting);
  out.gauge("shoal_sources", "Sources of sensor data.", edge.sources);
  out.gauge("shoal_sources_connected", "Sources that are connected.", edge.connected);
  out.counter("shoal_source_records_total", "Records of sources appended to streams.", edge.records);
  out.counter("shoal_source_refused_total", "Records of sources refused and kept for another try.", edge.refused);
}

}  // namespace

std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  statm >> total >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

Result<> Daemon::Impl::open_gateway() {
  const std::string& address = settings.text("http");
  if (address == "none") return {};
  gateway::Sources sources;
  sources.metrics = [this](std::function<void(std::string)> done) { collect_metrics(std::move(done)); };
  sources.not_ready = [this] { return why_not_ready(); };
  gateway::ServerLimits limits;
  limits.message.body_bytes_max = kHttpBodyMax;
  auto opened = gateway::Gateway::open(*reactor, address, std::move(sources), compss_control(), limits);
  if (!opened) return tl::unexpected<Error>(opened.error());
  gateway = std::move(*opened);
  return {};
}

std::string Daemon::Impl::why_not_ready() const {
  if (stopping) return "the agent is stopping";
  if (node->overlay().isolated()) return "the agent is cut off from its region";
  if (!node->overlay().head()) return "the region has no head yet";
  return {};
}

void Daemon::Impl::collect_metrics(std::function<void(std::string text)> done) {
  query_scheduler("totals", {}, [this, done = std::move(done)](Answer totals) {
    done(describe_metrics(totals ? *totals : wire::Dynamic()));
  });
}

std::string Daemon::Impl::describe_metrics(const wire::Dynamic& task_totals) const {
  Exposition out;
  out.family("shoal_build_info", MetricType::kGauge, "Version of this agent.")
      .sample(std::uint64_t{1}, {{"version", SHOAL_VERSION}, {"name", name}, {"agent", identity.id().hex()}});
  out.family("shoal_uptime_seconds", MetricType::kGauge, "Since the agent started.")
      .sample(static_cast<double>((agent::Reactor::now() - started).us) / 1e6);
  out.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident_bytes());
  out.family("process_cpu_seconds_total", MetricType::kCounter, "Processor time of this process in seconds.")
      .sample(processor_seconds());
  write_overlay(out, node->overlay());

  const auto& links = transport->counters();
  out.gauge("shoal_links", "Links to other agents that are up.", links.links_now);
  links.each([&](std::string_view what, std::uint64_t value) {
    if (what == "links_now") return;
    std::string words(what);
    std::replace(words.begin(), words.end(), '_', ' ');
    out.counter("shoal_link_" + std::string(what) + "_total", "Links to other agents: " + words + ".", value);
  });
  out.family("shoal_frames_dropped_total", MetricType::kCounter, "Frames not passed on, by who dropped them.");
  out.sample(links.frames_dropped, {{"by", "link"}});
  out.sample(links.refused_exhausted + links.refused_no_link + links.refused_too_big, {{"by", "sender"}});
  out.sample(frames_refused, {{"by", "agent"}});
  out.sample(count_of(node->overlay().report("status"), "frames_dropped"), {{"by", "overlay"}});

  write_tasks(out, task_totals);
  write_executors(out, executors->counters(), attempts_running.size());
  const auto usage = engine->usage();
  out.gauge("shoal_store_objects", "Objects kept here.", usage.objects);
  out.gauge("shoal_store_object_bytes", "Bytes of objects kept here.", usage.object_bytes);
  out.gauge("shoal_store_segment_bytes", "Bytes of segment files, dead objects included.", usage.segment_bytes);
  out.gauge("shoal_store_disk_free_bytes", "Bytes free on the disk of the store.", usage.disk_free_bytes);
  out.gauge("shoal_values", "Values of tasks kept here.", values->size());
  write_streams(out, broker->counters(), edge->counters());

  const auto& local = clients->counters();
  out.gauge("shoal_clients", "Local connections now: drivers, executors, command line.", clients->clients());
  out.family("shoal_client_total", MetricType::kCounter, "Events of local connections, by what.");
  out.sample(local.accepted, {{"event", "accepted"}}).sample(local.refused, {{"event", "refused"}});
  out.sample(local.broken, {{"event", "broken"}}).sample(local.slow, {{"event", "slow"}});
  const auto http = gateway->counters();
  out.counter("shoal_http_requests_total", "Requests to the HTTP gateway.", http.requests);
  out.family("shoal_http_refused_total", MetricType::kCounter,
             "Connections to the HTTP gateway that were ended, by why.");
  out.sample(http.refused, {{"cause", "refused"}}).sample(http.timed_out, {{"cause", "slow"}});
  return out.text();
}

}  // namespace shoal::daemon
