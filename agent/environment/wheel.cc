#include "agent/environment/wheel.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "agent/packing/directory_archive.h"

namespace shoal::environment {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kWheelEntriesMax = 200'000;

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> out;
  for (;;) {
    const auto end = text.find(separator);
    out.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return out;
    text.remove_prefix(end + 1);
  }
}

// PEP 503: names are equal when they differ in case and in runs of "-", "_" and "." only.
std::string normalised(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const bool separator = c == '-' || c == '_' || c == '.';
    if (separator && (out.empty() || out.back() == '-')) continue;
    if (separator) {
      out.push_back('-');
    } else {
      out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
    }
  }
  return out;
}

std::uint64_t bytes_below(const fs::path& directory) {
  std::uint64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (it->is_regular_file(error)) bytes += it->file_size(error);
  }
  return bytes;
}

// Moves what is in `from` below `to`, over what is there. Both lie in one file system.
Result<> merge(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::create_directories(to, error);
  std::vector<fs::path> children;
  for (fs::directory_iterator it(from, error), end; !error && it != end; it.increment(error))
    children.push_back(it->path());
  for (const auto& child : children) {
    const fs::path target = to / child.filename();
    const bool both = fs::is_directory(child, error) && fs::is_directory(target, error);
    if (both) {
      if (auto merged = merge(child, target); !merged) return merged;
      continue;
    }
    fs::rename(child, target, error);
    if (error) return fail(Code::kUnavailable, fmt::format("cannot write {}: {}", target.string(), error.message()));
  }
  return {};
}

// "#!python" and "#!pythonw" stand for the interpreter that runs the environment.
void set_interpreter(const fs::path& scripts, const std::string& python) {
  std::error_code error;
  for (fs::directory_iterator it(scripts, error), end; !error && it != end; it.increment(error)) {
    std::ifstream in(it->path(), std::ios::binary);
    std::string line;
    if (!std::getline(in, line) || !line.starts_with("#!python")) {
      fs::permissions(it->path(), fs::perms::owner_exec | fs::perms::group_exec | fs::perms::others_exec,
                      fs::perm_options::add, error);
      continue;
    }
    std::ostringstream rest;
    rest << in.rdbuf();
    in.close();
    std::ofstream(it->path(), std::ios::binary | std::ios::trunc) << "#!" << python << '\n' << rest.str();
    fs::permissions(it->path(), fs::perms::owner_exec | fs::perms::group_exec | fs::perms::others_exec,
                    fs::perm_options::add, error);
  }
}

bool is_wheel_inside(const fs::path& unpacked) {
  std::error_code error;
  for (fs::directory_iterator it(unpacked, error), end; !error && it != end; it.increment(error)) {
    if (!it->path().filename().string().ends_with(".dist-info")) continue;
    std::ifstream file(it->path() / "WHEEL");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with("Wheel-Version: 1.")) return true;
    }
  }
  return false;
}

// "<name>.data/<scheme>": where each scheme goes.
Result<> spread_data(const fs::path& unpacked, const InstallPlaces& places) {
  std::vector<fs::path> data;
  std::error_code error;
  for (fs::directory_iterator it(unpacked, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().ends_with(".data") && it->is_directory(error)) data.push_back(it->path());
  }
  for (const auto& folder : data) {
    for (const char* scheme : {"purelib", "platlib"}) {
      if (!fs::is_directory(folder / scheme, error)) continue;
      if (auto merged = merge(folder / scheme, unpacked); !merged) return merged;
    }
    if (fs::is_directory(folder / "scripts", error)) {
      set_interpreter(folder / "scripts", places.python);
      if (auto merged = merge(folder / "scripts", places.scripts); !merged) return merged;
    }
    if (fs::is_directory(folder / "data", error)) {
      if (auto merged = merge(folder / "data", fs::path(places.scripts).parent_path()); !merged) return merged;
    }
    fs::remove_all(folder, error);  // headers are of no use at run time
  }
  return {};
}

}  // namespace

Result<WheelName> parse_wheel_name(std::string_view file) {
  const auto refuse = [&] {
    return fail(Code::kInvalid,
                fmt::format("{} is not the name of a wheel (NAME-VERSION-PYTHON-ABI-PLATFORM.whl)", file));
  };
  if (!file.ends_with(".whl") || file.size() > 255 || file.starts_with(".")) return refuse();
  const auto fine = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == '-' || c == '+' || c == '!';
  };
  if (!std::all_of(file.begin(), file.end(), fine)) return refuse();
  auto parts = split(file.substr(0, file.size() - 4), '-');
  if (parts.size() == 6) parts.erase(parts.begin() + 2);  // the build number
  if (parts.size() != 5 || std::any_of(parts.begin(), parts.end(), [](const auto& part) { return part.empty(); }))
    return refuse();
  return WheelName{std::string(file), normalised(parts[0]), parts[1],
                   fmt::format("{}-{}-{}", parts[2], parts[3], parts[4])};
}

Result<std::map<std::string, std::vector<WheelName>>> by_distribution(const std::vector<std::string>& files) {
  std::map<std::string, std::vector<WheelName>> out;
  for (const auto& file : files) {
    auto name = parse_wheel_name(file);
    if (!name) return tl::unexpected<Error>(name.error());
    auto& of_one = out[name->distribution];
    if (!of_one.empty() && of_one.front().version != name->version) {
      return fail(Code::kInvalid, fmt::format("there are two versions of {}: {} and {}; keep one", name->distribution,
                                              of_one.front().version, name->version));
    }
    of_one.push_back(std::move(*name));
  }
  return out;
}

Result<std::vector<WheelName>> choose_wheels(const std::vector<std::string>& files,
                                             const scheduler::Platform& platform) {
  auto grouped = by_distribution(files);
  if (!grouped) return tl::unexpected<Error>(grouped.error());
  std::vector<WheelName> chosen;
  for (const auto& [distribution, wheels] : *grouped) {
    const auto best = std::max_element(wheels.begin(), wheels.end(), [&](const WheelName& a, const WheelName& b) {
      return scheduler::suits(platform, a.tag) < scheduler::suits(platform, b.tag);
    });
    if (scheduler::suits(platform, best->tag) == 0) {
      std::string tags;
      for (const auto& wheel : wheels) tags += (tags.empty() ? "" : " or ") + wheel.tag;
      return fail(Code::kUnsupported, fmt::format("{} {} is built for {}, and this is {}", distribution, best->version,
                                                  tags, scheduler::platform_text(platform)));
    }
    chosen.push_back(*best);
  }
  return chosen;
}

Result<> install_wheel(const std::string& path, const InstallPlaces& places, std::uint64_t& bytes_left) {
  const std::string unpacked = places.site + ".wheel";
  std::error_code ignored;
  fs::remove_all(unpacked, ignored);
  packing::UnpackOptions options;
  options.format = packing::Format::kZip;
  options.links = packing::Links::kRefuse;
  options.bytes_max = bytes_left;
  options.entries_max = kWheelEntriesMax;
  Result<> done = packing::unpack_directory(path, unpacked, options);
  if (!done && done.error().code == Code::kCorrupt)
    done = fail(Code::kCorrupt, "it is no wheel, or damaged: " + done.error().message);
  if (done && !is_wheel_inside(unpacked))
    done = fail(Code::kCorrupt, "it is no wheel: a *.dist-info/WHEEL of version 1 is missing");
  if (done) {
    bytes_left -= std::min(bytes_left, bytes_below(unpacked));
    done = spread_data(unpacked, places);
  }
  if (done) done = merge(unpacked, places.site);
  fs::remove_all(unpacked, ignored);
  return done;
}

}  // namespace shoal::environment
