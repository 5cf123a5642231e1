#include "agent/environment/build.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "agent/environment/wheel.h"
#include "agent/packing/directory_archive.h"
#include "protocol/identity/crypto.h"
#include "scheduler/resources.h"

namespace shoal::environment {

namespace {

namespace fs = std::filesystem;

Result<> install(const std::string& bundle, const Manifest& manifest, const Machine& machine,
                 const std::string& scratch) {
  packing::UnpackOptions options;
  options.links = packing::Links::kRefuse;
  options.bytes_max = kBundleBytesMax;
  options.entries_max = kBundleEntriesMax;
  const std::string unpacked = scratch + "/bundle";
  if (auto done = packing::unpack_directory(bundle, unpacked, options); !done) return done;
  std::error_code error;
  fs::create_directories(scratch + "/bin", error);
  // The packages' own modules first, so that extra modules may replace some of theirs.
  const InstallPlaces places{scratch + "/site", scratch + "/bin", machine.python};
  fs::create_directories(places.site, error);
  if (error) return fail(Code::kUnavailable, fmt::format("cannot make {}: {}", places.site, error.message()));
  if (!manifest.wheels.empty()) {
    if (!machine.platform)
      return fail(Code::kUnsupported, "it needs Python, and this agent has no interpreter (setting \"python\")");
    auto wheels = choose_wheels(manifest.wheels, *machine.platform);
    if (!wheels) return tl::unexpected<Error>(wheels.error());
    std::uint64_t bytes_left = kBuiltBytesMax;
    for (const auto& wheel : *wheels) {
      if (auto done = install_wheel(unpacked + "/wheels/" + wheel.file, places, bytes_left); !done)
        return fail(done.error().code, fmt::format("package {}: {}", wheel.file, done.error().message));
    }
  }
  for (const char* folder : {"modules", "lib"}) {
    const fs::path from = fs::path(unpacked) / folder;
    if (!fs::exists(from, error)) continue;
    fs::rename(from, fs::path(scratch) / folder, error);
    if (error) return fail(Code::kUnavailable, fmt::format("cannot keep {}: {}", folder, error.message()));
  }
  fs::remove_all(unpacked, error);
  return {};
}

}  // namespace

Result<EnvironmentId> id_of_bundle(const std::string& bundle) {
  std::ifstream file(bundle, std::ios::binary);
  if (!file) return fail(Code::kUnavailable, fmt::format("cannot read {}", bundle));
  identity::Sha256 hash;
  std::array<char, 256U << 10> block{};
  std::uint64_t bytes = 0;
  while (file) {
    file.read(block.data(), block.size());
    const auto got = static_cast<std::size_t>(file.gcount());
    hash.update({block.data(), got});
    bytes += got;
    if (bytes > kBundleBytesMax)
      return fail(Code::kExhausted, fmt::format("the bundle is larger than {} MiB", kBundleBytesMax >> 20));
  }
  return *EnvironmentId::from_bytes(hash.finish().substr(0, EnvironmentId::kSize));
}

Result<Manifest> manifest_of_bundle(const std::string& bundle) {
  auto text = packing::read_entry(bundle, "manifest", kManifestBytesMax);
  if (!text) return fail(Code::kCorrupt, "it is no bundle of an environment: " + text.error().message);
  return parse_manifest(*text);
}

Result<> check_machine(const Manifest& manifest, const Machine& machine) {
  scheduler::Resources here;
  here.computing_units = 1;
  here.architecture = machine.architecture;
  here.facts["processor_architecture"] = machine.architecture;
  if (machine.platform) {
    here.facts[std::string(scheduler::kPlatformFact)] = scheduler::platform_text(*machine.platform);
    here.facts["python_version"] = fmt::format("3.{}", machine.platform->minor);
  }
  for (const auto& requirement : requirements_of(manifest)) {
    scheduler::Demand demand;
    demand.units = 0;
    demand.requirements = {requirement};
    if (scheduler::can_meet(here, demand)) continue;
    return fail(Code::kUnsupported, fmt::format("environment \"{}\" asks for {}, and this agent has {}", manifest.name,
                                                scheduler::describe(requirement),
                                                machine.platform ? scheduler::platform_text(*machine.platform)
                                                                 : machine.architecture + " without Python"));
  }
  return {};
}

Result<> build(const std::string& bundle, const Manifest& manifest, const Machine& machine, const std::string& target,
               const std::string& scratch) {
  std::error_code ignored;
  fs::remove_all(scratch, ignored);
  Result<> done = check_machine(manifest, machine);
  if (done) done = install(bundle, manifest, machine, scratch);
  if (done) {
    std::error_code error;
    fs::rename(scratch, target, error);
    if (error && !fs::is_directory(target, ignored))
      done = fail(Code::kUnavailable, fmt::format("cannot make {}: {}", target, error.message()));
  }
  fs::remove_all(scratch, ignored);
  return done;
}

Surroundings surroundings_of(EnvironmentId id, const Manifest& manifest, const std::string& target,
                             const std::string& architecture) {
  Surroundings out;
  out.id = id;
  out.modules = {target + "/modules", target + "/site"};
  out.programs = {target + "/bin"};
  if (manifest.libraries.contains(architecture)) out.libraries = {target + "/lib/" + architecture};
  out.variables = manifest.variables;
  return out;
}

}  // namespace shoal::environment
