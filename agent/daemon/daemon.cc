#include "agent/daemon/daemon.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "agent/daemon/impl.h"
#include "agent/daemon/logging.h"
#include "agent/daemon/machine.h"
#include "agent/daemon/notify.h"
#include "agent/daemon/python_path.h"
#include "protocol/identity/crypto.h"

namespace shoal::daemon {
namespace {

constexpr Duration kDrainTime = seconds(3);     // for a polite leave
constexpr Duration kExecutorTime = seconds(2);  // for executors to end

std::string tcp_url(const std::string& host_and_port) {
  return host_and_port.starts_with("tcp://") ? host_and_port : "tcp://" + host_and_port;
}

node::Preset preset_of(const std::string& text) {
  if (text == "wan") return node::Preset::kWan;
  return text == "radio" ? node::Preset::kRadio : node::Preset::kLan;
}

}  // namespace

WallTime wall_now() {
  return {std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
              .count()};
}

Result<std::unique_ptr<Daemon>> Daemon::open(const settings::Settings& settings) {
  auto impl = std::make_unique<Impl>(settings);
  if (auto opened = impl->open(); !opened) return tl::unexpected<Error>(opened.error());
  return std::unique_ptr<Daemon>(new Daemon(std::move(impl)));
}

Daemon::Daemon(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Daemon::~Daemon() = default;
int Daemon::run() {
  return impl_->run();
}

Daemon::Impl::Impl(settings::Settings given)
    : settings(std::move(given)),
      home(settings.text("home")),
      identity{{identity::KeyPair::generate(), {}}, {}, {}, {}},
      tokens(RealmId()) {}

Daemon::Impl::~Impl() {
  if (lock_fd >= 0) {
    home.clear_ready();
    ::close(lock_fd);
  }
}

Result<> Daemon::Impl::open_identity() {
  auto loaded = identity::load_identity(home.dir());
  if (!loaded && loaded.error().code == Code::kNotFound) {
    // Started with nothing: an agent by itself, in a realm of its own.
    loaded = identity::init_realm(home.dir(), {name, settings.labels()}, wall_now());
    if (loaded) spdlog::info("new realm {}: this agent belongs to nobody yet", loaded->realm.brief());
  }
  if (!loaded) return tl::unexpected<Error>(loaded.error());
  identity = std::move(*loaded);
  // One that issues can renew its own certificate, however long it was off.
  if (identity.issuer()) {
    auto certificate = identity::read_certificate(identity.chain);
    if (certificate && identity::renewal_due(*certificate, wall_now())) {
      auto chain = identity::renew_own_certificate(identity, wall_now());
      if (!chain) return tl::unexpected<Error>(chain.error());
      identity.chain = std::move(*chain);
      if (auto saved = identity::save_identity(home.dir(), identity); !saved) return saved;
    }
  }
  return {};
}

Result<> Daemon::Impl::open_node() {
  auto pairs = engine->load("");
  if (!pairs) return tl::unexpected<Error>(pairs.error());
  for (const auto& manifest : engine->manifests()) (*pairs)["s/m/" + manifest.object.hex()] = wire::encode(manifest);
  tokens = identity::TokenBook(identity.realm);
  if (auto book = pairs->find("d/tokens"); book != pairs->end()) {
    auto parsed = identity::TokenBook::parse(identity.realm, book->second);
    if (!parsed) return tl::unexpected<Error>(parsed.error());
    tokens = std::move(*parsed);
  }
  auto admission = home.read_admission();
  if (!admission) return tl::unexpected<Error>(admission.error());

  const auto policy = scheduler::parse_policy(settings.text("scheduler"));
  if (!policy) return tl::unexpected<Error>(policy.error());
  node::NodeConfig config;
  config.policy = policy->policy;
  config.id = identity.id();
  config.name = name;
  config.endpoint = settings.text("advertise").empty() ? transport->endpoint() : tcp_url(settings.text("advertise"));
  config.curve_key = identity.keys.curve.public_key;
  config.labels = settings.labels();
  config.preset = preset_of(settings.text("preset"));
  for (const auto& contact : admission->contacts) {
    for (const auto& endpoint : contact.endpoints)
      config.contacts.push_back({contact.agent, endpoint, contact.curve_key});
  }
  config.child_region = admission->child_region;
  config.region_name = settings.text("region");
  config.resources = resources_of(settings, python);
  const Bytes seed = identity::random_bytes(8);
  std::uint64_t number = 0;
  std::memcpy(&number, seed.data(), sizeof(number));
  node = std::make_unique<node::Node>(std::move(config), std::move(*pairs), Rng(number));
  return {};
}

Result<> Daemon::Impl::open() {
  started = agent::Reactor::now();
  if (auto prepared = home.prepare(); !prepared) return prepared;
  auto lock = home.lock();
  if (!lock) return tl::unexpected<Error>(lock.error());
  lock_fd = *lock;
  if (auto prepared = home.prepare_run(settings.runtime_dir()); !prepared) return prepared;
  home.clear_ready();
  name = settings.text("name").empty() ? host_name() : settings.text("name");
  python = find_python(settings.text("python"));
  if (python.empty()) spdlog::warn("{}", no_python(settings.text("python")));
  if (auto identified = open_identity(); !identified) return identified;

  auto made = agent::Reactor::create();
  if (!made) return tl::unexpected<Error>(made.error());
  reactor = std::move(*made);
  // On a terminal SIGHUP says that the terminal is gone; only elsewhere it asks to read the settings again.
  std::vector<int> signals = {SIGTERM, SIGINT};
  if (::isatty(STDIN_FILENO) == 0) signals.push_back(SIGHUP);
  if (auto watching = reactor->watch_signals(signals, [this](int number) { on_signal(number); }); !watching)
    return watching;
  ::signal(SIGPIPE, SIG_IGN);

  storage::EngineConfig engine_config;
  engine_config.dir = home.at("state");
  engine_config.hasher = [](std::string_view content) { return identity::object_id_of(content); };
  auto opened_engine = storage::Engine::open(std::move(engine_config));
  if (!opened_engine) return tl::unexpected<Error>(opened_engine.error());
  engine = std::move(*opened_engine);

  link::TransportConfig link_config;
  if (settings.text("listen") != "none") link_config.bind = tcp_url(settings.text("listen"));
  if (!settings.text("advertise").empty()) link_config.announce = tcp_url(settings.text("advertise"));
  link_config.realm = identity.realm;
  link_config.chain = identity.chain;
  link_config.curve = identity.keys.curve;
  auto opened_link = link::Transport::open(std::move(link_config));
  if (!opened_link) {
    const bool bind_failed = opened_link.error().code == Code::kExists || opened_link.error().code == Code::kInvalid;
    return fail(opened_link.error().code,
                opened_link.error().message + (bind_failed ? " with --listen (port 0 takes a free one)" : ""));
  }
  transport = std::move(*opened_link);

  auto opened_values = ValueTable::open(home.arena(identity.id()), home.at("files"));
  if (!opened_values) return tl::unexpected<Error>(opened_values.error());
  values.emplace(std::move(*opened_values));
  transfer = std::make_unique<Transfer>(
      *values,
      [this](const std::string& key, std::uint64_t offset, std::uint32_t length) {
        return read_part(key, offset, length);
      },
      [this](const std::string& archive, const std::string& directory, std::function<void(Instant, Result<>)> done) {
        unpack_value(archive, directory, std::move(done));
      },
      [this](wire::Envelope envelope) { return route(std::move(envelope)); });
  worker = std::make_unique<WorkerThread>(*reactor);
  checkpoint_worker = std::make_unique<WorkerThread>(*reactor);
  environments = open_environments();
  if (auto opened = environments->open(); !opened) return opened;
  clients = std::make_unique<executor::ClientServer>(
      *reactor, [this](executor::ClientEvent&& event) { on_client_event(std::move(event)); });
  executors = open_executors(std::max<std::uint32_t>(1, resources_of(settings, python).computing_units));
  apps = std::make_unique<AppRunner>(
      *reactor, home.at("logs"),
      [this](AppId app, int stream, std::string_view text) { on_app_output(app, stream, text); },
      [this](const AppState& state) { on_app_exit(state); });
  if (auto opened = open_node(); !opened) return opened;
  if (auto opened = open_streams(); !opened) return opened;

  wake_timer = reactor->add_timer([this] { on_wake(); });
  renewal_timer = reactor->add_timer([this] { renew_certificate(); });
  progress_timer = reactor->add_timer([this] { tell_progress(); });
  mirror_timer = reactor->add_timer([this] { on_mirror_timer(); });
  guard_timer = reactor->add_timer([this] { on_guard_timer(); });
  spare_timer = reactor->add_timer([this] { values->release_spares(); });
  checkpoint_timer = reactor->add_timer([this] { on_checkpoint_timer(); });
  reactor->set_timer(renewal_timer, started + seconds(60));
  for (auto& watched :
       std::initializer_list<std::pair<int, void (Impl::*)()>>{{engine->event_fd(), &Impl::on_engine_events},
                                                               {transport->fd(), &Impl::on_link_events},
                                                               {broker->fd(), &Impl::wake_streams_and_drain},
                                                               {edge->fd(), &Impl::wake_streams_and_drain}}) {
    auto added =
        reactor->add(watched.first, EPOLLIN, [this, call = watched.second](std::uint32_t) { (this->*call)(); });
    if (!added) return added;
  }
  caller = std::make_unique<gateway::HttpCaller>(*reactor);
  if (auto opened = open_gateway(); !opened) return opened;
  open_elastic();
  feed(node::in::Start{});
  wake_streams_and_drain();
  if (auto listening = clients->listen(home.socket()); !listening) return listening;
  if (auto written = home.write_ready({static_cast<std::uint64_t>(getpid()), identity.id().hex(), name,
                                       transport->endpoint(), gateway ? gateway->url() : ""});
      !written) {
    return written;
  }
  spdlog::info("agent {} ({}) is ready at {}, socket {}, {}", name, identity.id().brief(),
               transport->endpoint().empty() ? "no port" : transport->endpoint(), home.socket(),
               gateway ? gateway->url() : "no HTTP");
  notify_ready();
  return {};
}

Result<> Daemon::Impl::open_streams() {
  streams::BrokerConfig broker_config;
  broker_config.dir = home.at("streams");
  broker_config.address = {identity.id(), {}};
  auto opened_broker = streams::Broker::open(std::move(broker_config));
  if (!opened_broker) return tl::unexpected<Error>(opened_broker.error());
  broker = std::move(*opened_broker);
  edge::EdgeConfig edge_config;
  edge_config.dir = home.at("streams/sources");
  edge_config.client_id = "shoal-" + name;
  auto opened_edge = edge::Edge::open(std::move(edge_config));
  if (!opened_edge) return tl::unexpected<Error>(opened_edge.error());
  edge = std::move(*opened_edge);
  return {};
}

void Daemon::Impl::wake_streams_and_drain() {
  wake_streams();
  drain();
}

void Daemon::Impl::on_wake() {
  const Instant now = agent::Reactor::now();
  if (stop_deadline <= now) {
    finish_stop();
    return;
  }
  if (node_wake <= now) {
    node_wake = Instant::never();
    inputs.emplace_back(node::in::Wake{});
  }
  if (transfer->next_deadline() <= now) transfer->on_wake(now);
  expire_asks();
  if (broker->next_deadline() <= now || edge->next_deadline() <= now) wake_streams();
  if (transport->next_deadline() <= now) on_link_events();
  drain();
}

int Daemon::Impl::run() {
  while (!stopped) reactor->run_once();
  return exit_code;
}

void Daemon::Impl::on_signal(int number) {
  if (number == SIGHUP) {
    reload_settings();
  } else {
    begin_stop("signal");
  }
}

void Daemon::Impl::reload_settings() {
  auto fresh = settings.reload();
  if (!fresh) {
    spdlog::error("the settings stay as they are: {}", fresh.error().message);
    return;
  }
  std::string applied;
  std::string waiting;
  for (const auto& changed : settings.changed(*fresh)) {
    const auto& keys = settings::keys();
    const auto key = std::find_if(keys.begin(), keys.end(), [&](const settings::Key& k) { return k.name == changed; });
    auto& list = key != keys.end() && key->live ? applied : waiting;
    list += (list.empty() ? "" : ", ") + changed;
  }
  adjust_logging(*fresh);
  // What needs a restart is compared with what runs, so the old values stay.
  settings.adopt_live(*fresh);
  spdlog::info("settings were read again; changed: {}; need a restart: {}", applied.empty() ? "nothing" : applied,
               waiting.empty() ? "nothing" : waiting);
}

// The agent says that it leaves, lets what was sent go out, and ends its processes.
void Daemon::Impl::begin_stop(const std::string& why) {
  if (stopping) {
    finish_stop();
    return;
  }
  stopping = true;
  notify_stopping();
  spdlog::info("stopping ({})", why);
  for (const auto& state : apps->list()) {
    if (state.running) (void)apps->stop(state.app, seconds(1));
  }
  elastic->abandon();
  stop_deadline = agent::Reactor::now() + kDrainTime;
  feed(node::in::Leave{});
}

void Daemon::Impl::finish_stop() {
  if (stopped) return;
  stopped = true;
  executors->shutdown(agent::Reactor::now() + kExecutorTime);
  transport->close(milliseconds(200));
  home.clear_ready();
  spdlog::info("stopped");
}

}  // namespace shoal::daemon
