// What only the running agent can know; `shoal doctor` adds what the machine says.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "agent/daemon/impl.h"
#include "agent/daemon/python_path.h"

namespace shoal::daemon {
namespace {

constexpr std::size_t kMembersAsked = 32;
constexpr Duration kAnswerTime = seconds(2);
constexpr std::int64_t kSkewWarnMs = 2000;
constexpr std::int64_t kSkewMostMs = identity::CertificateTerms{}.skew_ms;  // beyond it certificates are refused

// What the neighbours said of their clocks and versions.
struct Survey {
  wire::Dynamic::Array checks;
  std::int64_t worst_skew_ms = 0;
  std::string worst_name;
  std::string others;  // that run another version
  std::string silent;
  std::size_t asked = 0;
  std::size_t left = 0;
};

void note(std::string& list, const std::string& name) {
  list += (list.empty() ? "" : ", ") + name;
}

void add(wire::Dynamic::Array& checks, const char* what, const char* status, std::string fact, std::string fix) {
  const bool good = std::string_view(status) == "ok";
  checks.emplace_back(wire::Dynamic::Map{
      {"check", what}, {"status", status}, {"fact", std::move(fact)}, {"fix", good ? "" : std::move(fix)}});
}

void conclude(Survey& survey) {
  if (survey.asked == 0) return;
  const std::int64_t skew = std::abs(survey.worst_skew_ms);
  add(survey.checks, "clock skew",
      skew < kSkewWarnMs   ? "ok"
      : skew < kSkewMostMs ? "warn"
                           : "fail",
      skew == 0 ? fmt::format("none seen to {} members", survey.asked)
                : fmt::format("at most {} ms, to {}", skew, survey.worst_name),
      "synchronise the clocks (chrony, systemd-timesyncd): certificates need clocks that agree");
  add(survey.checks, "version skew", survey.others.empty() ? "ok" : "warn",
      survey.others.empty() ? fmt::format("all run {}", SHOAL_VERSION)
                            : fmt::format("this agent runs {}, others: {}", SHOAL_VERSION, survey.others),
      "bring all agents of the region to one version");
  add(survey.checks, "members answer", survey.silent.empty() ? "ok" : "warn",
      survey.silent.empty() ? fmt::format("{} of {}", survey.asked, survey.asked) : "silent: " + survey.silent,
      "look at those agents, or at the network between");
}

}  // namespace

void Daemon::Impl::request_doctor(const Requester& from, const Params& /*params*/) {
  wire::Dynamic::Array checks;
  const auto check = [&](const char* what, bool good, std::string fact, std::string fix) {
    checks.emplace_back(wire::Dynamic::Map{{"check", what},
                                           {"status", good ? "ok" : "fail"},
                                           {"fact", std::move(fact)},
                                           {"fix", good ? "" : std::move(fix)}});
  };
  auto certificate = identity::read_certificate(identity.chain);
  const std::int64_t left_ms = certificate ? certificate->not_after.unix_ms - wall_now().unix_ms : 0;
  check("certificate", left_ms > 0, fmt::format("valid for {} more minutes", left_ms / 60000),
        "let it reach an issuing agent of its region, or join again");
  check("membership", !node->overlay().isolated() && node->overlay().head().has_value(),
        fmt::format("{} members in its region", node->overlay().members(overlay::Scope::kHome).size()),
        "check that the region's agents can be reached: `shoal agents`");
  const auto usage = engine->usage();
  check("disk", usage.disk_free_bytes > (64ULL << 20), fmt::format("{} MiB free", usage.disk_free_bytes >> 20),
        "free some space: writes are refused when the disk is full");
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  check("open files", files.rlim_cur >= 4096, fmt::format("limit {}", files.rlim_cur),
        "raise it: ulimit -n 65536, or LimitNOFILE in the unit");
  checks.emplace_back(wire::Dynamic::Map{{"check", "python"},
                                         {"status", python.empty() ? "warn" : "ok"},
                                         {"fact", python.empty() ? "no interpreter that runs" : python},
                                         {"fix", python.empty() ? no_python(settings.text("python")) : ""}});
  const bool elastic_works = elastic->agents_max() == 0 || identity.issuer();
  check("elastic agents", elastic_works, elastic->describe(),
        "programs ask in vain: this agent does not issue certificates, so no new agent can join through it; set "
        "elastic_max where the realm was founded");
  struct statvfs arena{};
  const bool known = ::statvfs(values->arena_dir().c_str(), &arena) == 0;
  const std::uint64_t arena_free = known ? static_cast<std::uint64_t>(arena.f_bavail) * arena.f_frsize : 0;
  check("shared memory", arena_free > (64ULL << 20),
        fmt::format("{} MiB free in {}", arena_free >> 20, values->arena_dir()),
        "free or enlarge /dev/shm: values of tasks live there");
  check_members(from, std::move(checks));
}

void Daemon::Impl::request_clock(const Requester& from, const Params& /*params*/) {
  reply(from, wire::Dynamic(wire::Dynamic::Map{{"unix_ms", wall_now().unix_ms}, {"version", SHOAL_VERSION}}));
}

// Asks the members of the region for their clocks and versions, and answers with all checks.
void Daemon::Impl::check_members(const Requester& from, wire::Dynamic::Array checks) {
  auto survey = std::make_shared<Survey>();
  survey->checks = std::move(checks);
  std::vector<std::pair<wire::Address, std::string>> members;
  for (const auto& [id, member] : node->overlay().members(overlay::Scope::kHome)) {
    if (id == identity.id() || members.size() == kMembersAsked) continue;
    wire::Address address{id, node->address().path};
    if (!address.path.empty() && member.home != address.path.back()) address.path.push_back(member.home);
    members.emplace_back(std::move(address), member.name);
  }
  survey->asked = members.size();
  survey->left = members.size() + 1;
  const auto one_less = [this, from, survey] {
    if (--survey->left > 0) return;
    conclude(*survey);
    reply(from, wire::Dynamic(wire::Dynamic::Map{{"checks", std::move(survey->checks)}}));
  };
  for (const auto& [address, member] : members) {
    const std::int64_t sent_ms = wall_now().unix_ms;
    ask_agent(address, "agent.clock", {}, kAnswerTime, [survey, one_less, sent_ms, who = member](Answer answer) {
      if (!answer) {
        note(survey->silent, who);
        return one_less();
      }
      // Its clock was read somewhere between sending and now: only what cannot be the way is skew.
      const std::int64_t theirs = answer->int_or("unix_ms", sent_ms);
      const std::int64_t skew =
          theirs < sent_ms ? theirs - sent_ms : std::max<std::int64_t>(0, theirs - wall_now().unix_ms);
      if (std::abs(skew) > std::abs(survey->worst_skew_ms)) {
        survey->worst_skew_ms = skew;
        survey->worst_name = who;
      }
      const std::string version = answer->text_or("version", "?");
      if (version != SHOAL_VERSION) note(survey->others, fmt::format("{} {}", who, version));
      one_less();
    });
  }
  one_less();
}

}  // namespace shoal::daemon
