#include "agent/environment/pack.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "agent/environment/build.h"
#include "agent/environment/pip.h"
#include "agent/environment/wheel.h"
#include "agent/packing/directory_archive.h"
#include "protocol/wire/codec.h"

namespace shoal::environment {

namespace {

namespace fs = std::filesystem;

constexpr fs::perms kPlainFile =
    fs::perms::owner_read | fs::perms::owner_write | fs::perms::group_read | fs::perms::others_read;
constexpr fs::perms kProgramFile =
    kPlainFile | fs::perms::owner_exec | fs::perms::group_exec | fs::perms::others_exec;  // and directories

// Copies one file with one of two modes, so that equal contents make equal bundles whatever the user's umask is.
Result<> copy_as_is(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::create_directories(to.parent_path(), error);
  fs::copy_file(from, to, fs::copy_options::overwrite_existing, error);
  if (error) return fail(Code::kUnavailable, fmt::format("cannot copy {}: {}", from.string(), error.message()));
  const bool program = (fs::status(from, error).permissions() & fs::perms::owner_exec) != fs::perms::none;
  fs::permissions(to, program ? kProgramFile : kPlainFile, error);
  return {};
}

// Directories have one mode, too.
void set_directory_modes(const fs::path& root) {
  std::error_code error;
  for (fs::recursive_directory_iterator it(root, error), end; !error && it != end; it.increment(error)) {
    if (it->is_directory(error)) fs::permissions(it->path(), kProgramFile, error);
  }
}

Result<std::string> elf_build(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::array<char, kElfHeaderBytes> head{};
  in.read(head.data(), head.size());
  return build_of(file.filename().string(), std::string_view(head.data(), static_cast<std::size_t>(in.gcount())));
}

class Packer {
 public:
  Packer(const Description& description, const PackOptions& options)
      : description_(description), options_(options), root_(fs::path(options.scratch) / "bundle") {}

  Result<Bundle> run() {
    manifest_.name = description_.name;
    manifest_.python = description_.python;
    manifest_.variables = description_.variables;
    std::error_code error;
    fs::create_directories(root_, error);
    if (error) return fail(Code::kUnavailable, fmt::format("cannot make {}: {}", root_.string(), error.message()));
    Result<> done = add_wheels();
    if (done) done = add_modules();
    if (done) done = add_libraries();
    if (done) done = check_manifest(manifest_);
    if (!done) {
      const Code code = done.error().code == Code::kCorrupt ? Code::kInvalid : done.error().code;
      return fail(code, fmt::format("environment \"{}\": {}", description_.name, done.error().message));
    }
    return write();
  }

 private:
  void say(const std::string& line) const {
    if (options_.progress) options_.progress(line);
  }

  Result<> add_wheels() {
    std::vector<std::string> wheels = description_.wheels;
    if (!description_.requirements.empty() || !description_.locks.empty() || !description_.projects.empty()) {
      const std::string collected = options_.scratch + "/collected";
      if (auto done = collect_wheels(description_, options_, collected); !done) return done;
      std::error_code error;
      for (fs::directory_iterator it(collected, error), end; !error && it != end; it.increment(error)) {
        const auto& path = it->path();
        const bool given = std::any_of(wheels.begin(), wheels.end(), [&](const std::string& wheel) {
          return fs::path(wheel).filename() == path.filename();
        });
        if (!given) wheels.push_back(path.string());
      }
    }
    for (const auto& wheel : wheels) {
      const std::string file = fs::path(wheel).filename().string();
      if (auto name = parse_wheel_name(file); !name) return tl::unexpected<Error>(name.error());
      if (auto done = copy_as_is(wheel, root_ / "wheels" / file); !done) return done;
      manifest_.wheels.push_back(file);
    }
    std::sort(manifest_.wheels.begin(), manifest_.wheels.end());
    auto grouped = by_distribution(manifest_.wheels);
    return grouped ? Result<>() : tl::unexpected<Error>(grouped.error());
  }

  Result<> add_modules() {
    for (const auto& module : description_.modules) {
      const fs::path from(module);
      const std::string name = from.filename().string();
      if (!is_plain(name)) return fail(Code::kInvalid, fmt::format("{} is not the name of a module", module));
      std::error_code error;
      const Result<> done = fs::is_directory(from, error) ? add_package(from) : add_module_file(from, name, "");
      if (!done) return done;
      manifest_.modules.push_back(name);
    }
    std::sort(manifest_.modules.begin(), manifest_.modules.end());
    return {};
  }

  Result<> add_package(const fs::path& package) {
    const fs::path parent = package.parent_path();
    std::error_code error;
    constexpr auto kFollow = fs::directory_options::follow_directory_symlink;
    for (fs::recursive_directory_iterator it(package, kFollow, error), end; !error && it != end; it.increment(error)) {
      const std::string name = it->path().filename().string();
      const bool is_directory = it->is_directory(error);
      if (name == "__pycache__" || name == ".git" || it.depth() > 64) {
        if (is_directory) it.disable_recursion_pending();
        continue;
      }
      if (is_directory || !it->is_regular_file(error) || name.ends_with(".pyc")) continue;
      const fs::path relative = it->path().lexically_relative(parent);
      std::string prefix = relative.parent_path().string();
      std::replace(prefix.begin(), prefix.end(), '/', '.');
      if (auto done = add_module_file(it->path(), relative, prefix + "."); !done) return done;
    }
    if (error) return fail(Code::kUnavailable, fmt::format("cannot read {}: {}", package.string(), error.message()));
    return {};
  }

  Result<> add_module_file(const fs::path& from, const fs::path& relative, const std::string& prefix) {
    const std::string name = from.filename().string();
    if (name.ends_with(".so")) {
      auto build = elf_build(from);
      if (!build) return tl::unexpected<Error>(build.error());
      manifest_.builds[prefix + name.substr(0, name.find('.'))].push_back(*build);
    }
    return copy_as_is(from, root_ / "modules" / relative);
  }

  Result<> add_libraries() {
    for (const auto& [architecture, files] : description_.libraries) {
      for (const auto& file : files) {
        const std::string name = fs::path(file).filename().string();
        auto build = elf_build(file);
        if (!build) return tl::unexpected<Error>(build.error());
        if (!build->ends_with("linux_" + architecture)) {
          return fail(Code::kInvalid, fmt::format("{} is named under {}, and is built for {}", file, architecture,
                                                  build->substr(build->rfind("linux_") + 6)));
        }
        if (auto done = copy_as_is(file, root_ / "lib" / architecture / name); !done) return done;
        manifest_.libraries[architecture].push_back(name);
      }
    }
    return {};
  }

  Result<Bundle> write() {
    {
      std::ofstream file(root_ / "manifest", std::ios::binary);
      file << wire::encode(manifest_);
      if (!file) return fail(Code::kExhausted, fmt::format("cannot write in {}", root_.string()));
    }
    std::error_code error;
    fs::permissions(root_ / "manifest", kPlainFile, error);
    set_directory_modes(root_);
    Bundle out;
    out.path = options_.scratch + "/bundle.tar";
    out.manifest = manifest_;
    say("packing");
    if (auto packed = packing::pack_directory(root_.string(), out.path); !packed)
      return tl::unexpected<Error>(packed.error());
    fs::remove_all(root_, error);
    auto id = id_of_bundle(out.path);
    if (!id) return tl::unexpected<Error>(id.error());
    out.id = *id;
    out.bytes = fs::file_size(out.path, error);
    return out;
  }

  const Description& description_;
  const PackOptions& options_;
  const fs::path root_;
  Manifest manifest_;
};

}  // namespace

Result<Bundle> pack(const Description& description, const PackOptions& options) {
  return Packer(description, options).run();
}

}  // namespace shoal::environment
