#include "agent/environment/description.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>

#include "protocol/base/nearest.h"

namespace shoal::environment {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kAccepted =
    "an environment is an environment.toml, a file of requirements (.txt, .lock), a wheel or a directory of wheels, a "
    "project with pyproject.toml, or a module (a package, .py, .so)";

// Reads one environment.toml.
class Reader {
 public:
  explicit Reader(const fs::path& file) : file_(file), base_(file.parent_path()) {}

  Result<Description> read() {
    toml::table table;
    try {
      table = toml::parse_file(file_.string());
    } catch (const toml::parse_error& error) {
      return fail(Code::kInvalid, fmt::format("{}:{}: {}", file_.string(), error.source().begin.line,
                                              std::string_view(error.description())));
    }
    for (const auto& [key, value] : table) {
      if (auto taken = take(key.str(), value); !taken) return tl::unexpected<Error>(taken.error());
    }
    return out_;
  }

 private:
  tl::unexpected<Error> refuse(std::string_view key, std::string_view what) const {
    return fail(Code::kInvalid, fmt::format("{}: {} takes {}", file_.string(), key, what));
  }

  Result<> take(std::string_view key, const toml::node& value) {
    if (key == "name") return text(key, value, out_.name);
    if (key == "python") return text(key, value, out_.python);
    if (key == "requirements") return texts(key, value, out_.requirements);
    if (key == "lock") return paths(key, value, out_.locks);
    if (key == "wheels") return wheels(value);
    if (key == "modules") return paths(key, value, out_.modules);
    if (key == "libraries") return libraries(value);
    if (key == "variables") return variables(value);
    if (key == "image") {
      return fail(Code::kUnsupported,
                  fmt::format("{}: image = \"{}\" is not supported yet: tasks run in no containers; describe the "
                              "environment with requirements, wheels, modules and libraries",
                              file_.string(), value.value_or(std::string_view("…"))));
    }
    const std::vector<std::string_view> known = {"name",    "python",    "requirements", "lock", "wheels",
                                                 "modules", "libraries", "variables",    "image"};
    const auto meant = nearest(key, known);
    return fail(Code::kInvalid, fmt::format("{}: there is no key \"{}\"; {}", file_.string(), key,
                                            meant ? fmt::format("did you mean \"{}\"?", *meant)
                                                  : fmt::format("the keys are {}", fmt::join(known, ", "))));
  }

  Result<> text(std::string_view key, const toml::node& value, std::string& to) {
    const auto given = value.value<std::string>();
    if (!given || !value.is_string()) return refuse(key, "a text, such as \"3.11\"");
    to = *given;
    return {};
  }

  Result<> texts(std::string_view key, const toml::node& value, std::vector<std::string>& to) {
    if (value.is_string()) {
      to.push_back(value.value_or(std::string()));
      return {};
    }
    const auto* list = value.as_array();
    if (list == nullptr) return refuse(key, "a list of texts");
    for (const auto& item : *list) {
      if (!item.is_string()) return refuse(key, "a list of texts");
      to.push_back(item.value_or(std::string()));
    }
    return {};
  }

  Result<> paths(std::string_view key, const toml::node& value, std::vector<std::string>& to) {
    std::vector<std::string> given;
    if (auto taken = texts(key, value, given); !taken) return taken;
    for (const auto& one : given) {
      const fs::path path = (base_ / one).lexically_normal();
      std::error_code ignored;
      if (!fs::exists(path, ignored))
        return fail(Code::kNotFound,
                    fmt::format("{}: {} names {}, which does not exist", file_.string(), key, path.string()));
      to.push_back(path.string());
    }
    return {};
  }

  Result<> wheels(const toml::node& value);

  Result<> libraries(const toml::node& value) {
    const auto* table = value.as_table();
    if (table == nullptr) return refuse("libraries", "a table such as { x86_64 = [\"libfoo.so\"] }");
    for (const auto& [architecture, files] : *table) {
      std::string known(architecture.str());
      if (known == "amd64") known = "x86_64";
      if (known == "arm64") known = "aarch64";
      if (auto taken = paths("libraries", files, out_.libraries[known]); !taken) return taken;
    }
    return {};
  }

  Result<> variables(const toml::node& value) {
    const auto* table = value.as_table();
    if (table == nullptr) return refuse("variables", "a table such as { OMP_NUM_THREADS = \"1\" }");
    for (const auto& [name, item] : *table) {
      if (!item.is_string()) return refuse("variables", "texts as values");
      out_.variables[std::string(name.str())] = item.value_or(std::string());
    }
    return {};
  }

  fs::path file_;
  fs::path base_;
  Description out_;
};

// The wheels in a directory; none: it has none.
std::vector<std::string> wheels_in(const fs::path& directory) {
  std::vector<std::string> out;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".whl") out.push_back(it->path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

Result<> Reader::wheels(const toml::node& value) {
  std::vector<std::string> given;
  if (auto taken = paths("wheels", value, given); !taken) return taken;
  for (const auto& one : given) {
    std::error_code ignored;
    const bool directory = fs::is_directory(one, ignored);
    auto found = directory ? wheels_in(one) : std::vector<std::string>{one};
    if (found.empty())
      return fail(Code::kInvalid, fmt::format("{}: the directory {} has no wheels", file_.string(), one));
    out_.wheels.insert(out_.wheels.end(), found.begin(), found.end());
  }
  return {};
}

Result<Description> of_directory(const fs::path& path) {
  std::error_code ignored;
  if (fs::exists(path / "environment.toml", ignored)) return read_description((path / "environment.toml").string());
  Description out;
  out.name = path.filename().string();
  if (fs::exists(path / "pyproject.toml", ignored) || fs::exists(path / "setup.py", ignored)) {
    out.projects.push_back(path.string());
    return out;
  }
  if (fs::exists(path / "__init__.py", ignored)) {
    out.modules.push_back(path.string());
    return out;
  }
  out.wheels = wheels_in(path);
  if (fs::exists(path / "requirements.txt", ignored)) out.locks.push_back((path / "requirements.txt").string());
  if (out.wheels.empty() && out.locks.empty())
    return fail(Code::kInvalid, fmt::format("the directory {} is none of these: {}", path.string(), kAccepted));
  return out;
}

}  // namespace

Result<Description> read_description(const std::string& said) {
  std::error_code error;
  fs::path path = fs::absolute(said, error).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  if (!fs::exists(path, error)) return fail(Code::kNotFound, fmt::format("there is no {}; {}", said, kAccepted));
  if (fs::is_directory(path, error)) return of_directory(path);
  const std::string file = path.filename().string();
  if (file == "pyproject.toml" || file == "setup.py") return of_directory(path.parent_path());
  const std::string extension = path.extension().string();
  if (extension == ".toml") {
    Reader reader(path);
    auto read = reader.read();
    if (read && read->name.empty()) {
      const bool standard = path.stem() == "environment";
      read->name = standard ? path.parent_path().filename().string() : path.stem().string();
    }
    return read;
  }
  Description out;
  out.name = path.stem().string();
  if (extension == ".txt" || extension == ".lock" || extension == ".in") {
    out.locks.push_back(path.string());
  } else if (extension == ".whl") {
    out.wheels.push_back(path.string());
  } else if (extension == ".py" || extension == ".so") {
    out.modules.push_back(path.string());
  } else {
    return fail(Code::kInvalid, fmt::format("{} is none of these: {}", said, kAccepted));
  }
  return out;
}

}  // namespace shoal::environment
