#include "agent/settings/settings.h"

#include <fmt/format.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <charconv>
#include <filesystem>

#include "protocol/base/nearest.h"

namespace shoal::settings {
namespace {

namespace po = boost::program_options;

std::string flag_of(std::string_view key) {
  std::string flag(key);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

std::string variable_of(std::string_view key) {
  std::string variable = "SHOAL_";
  for (char c : key) variable.push_back(static_cast<char>(std::toupper(static_cast<unsigned char>(c))));
  return variable;
}

const Key* find_key(std::string_view name) {
  for (const auto& key : keys()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

std::string unknown_key(std::string_view name, std::string_view origin) {
  std::vector<std::string_view> names;
  for (const auto& key : keys()) names.push_back(key.name);
  std::string message = fmt::format("{}: there is no setting \"{}\"", origin, name);
  if (auto meant = nearest(name, names)) return message + fmt::format("; did you mean \"{}\"?", *meant);
  return message + fmt::format("; the settings are {}", fmt::join(names, " "));
}

Result<std::int64_t> parse_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return fail(Code::kInvalid, "not a whole number");
  return value;
}

// Refuses a value that its key does not take, saying what it takes.
Result<> check_value(const Key& key, const Value& value) {
  switch (key.type) {
    case Type::kText:
      return {};
    case Type::kInteger: {
      auto number = parse_integer(value.text);
      if (!number || *number < key.low || *number > key.high) {
        return fail(Code::kInvalid, fmt::format("{}: {} takes a whole number from {} to {}, not \"{}\"", value.origin,
                                                key.name, key.low, key.high, value.text));
      }
      return {};
    }
    case Type::kChoice: {
      const std::string padded = fmt::format("|{}|", key.choices);
      if (value.text.empty() || padded.find(fmt::format("|{}|", value.text)) == std::string::npos) {
        return fail(Code::kInvalid,
                    fmt::format("{}: {} takes one of {}, not \"{}\"", value.origin, key.name, key.choices, value.text));
      }
      return {};
    }
    case Type::kFlag:
      if (value.text != "true" && value.text != "false") {
        return fail(Code::kInvalid,
                    fmt::format("{}: {} takes true or false, not \"{}\"", value.origin, key.name, value.text));
      }
      return {};
    case Type::kLabels: {
      std::string_view rest = value.text;
      while (!rest.empty()) {
        const auto comma = std::min(rest.find(','), rest.size());
        const std::string_view pair = rest.substr(0, comma);
        const auto equals = pair.find('=');
        if (equals == std::string_view::npos || equals == 0) {
          return fail(Code::kInvalid, fmt::format("{}: {} takes KEY=VALUE pairs separated by commas, not \"{}\"",
                                                  value.origin, key.name, pair));
        }
        rest = comma < rest.size() ? rest.substr(comma + 1) : std::string_view();
      }
      return {};
    }
  }
  return {};
}

std::string text_of(const toml::node& node) {
  if (auto text = node.value<std::string>()) return *text;
  if (auto number = node.as_integer()) return std::to_string(number->get());
  if (auto flag = node.as_boolean()) return flag->get() ? "true" : "false";
  if (auto real = node.as_floating_point()) return fmt::format("{}", real->get());
  if (const auto* table = node.as_table()) {
    std::string out;
    for (const auto& [key, value] : *table) {
      if (!out.empty()) out += ',';
      out += fmt::format("{}={}", std::string_view(key), text_of(value));
    }
    return out;
  }
  return {};
}

// What a key takes, for messages.
std::string accepted(const Key& key) {
  switch (key.type) {
    case Type::kText:
      return "a text";
    case Type::kInteger:
      return fmt::format("a whole number from {} to {}", key.low, key.high);
    case Type::kChoice:
      return fmt::format("one of {}", key.choices);
    case Type::kFlag:
      return "true or false";
    case Type::kLabels:
      return "a table such as { tier = \"edge\" }";
  }
  return "";
}

// Of a shape that can be the key's value at all; check_value() looks at the value.
bool fits(const Key& key, const toml::node& node) {
  if (node.is_table()) return key.type == Type::kLabels;
  return node.is_string() || node.is_integer() || node.is_boolean() || node.is_floating_point();
}

Result<> read_sources(const toml::node& node, const std::string& origin, std::vector<SourceTable>& sources) {
  const auto* tables = node.as_array();
  if (tables == nullptr) return fail(Code::kInvalid, origin + ": write sources as [[source]] tables");
  for (const auto& item : *tables) {
    const auto* table = item.as_table();
    if (table == nullptr) return fail(Code::kInvalid, origin + ": write sources as [[source]] tables");
    SourceTable source;
    for (const auto& [key, value] : *table) source[std::string(std::string_view(key))] = text_of(value);
    sources.push_back(std::move(source));
  }
  return {};
}

Result<> read_file(const std::string& path, std::map<std::string, Value, std::less<>>& values,
                   std::vector<SourceTable>& sources) {
  toml::table file;
  try {
    file = toml::parse_file(path);
  } catch (const toml::parse_error& e) {
    return fail(Code::kInvalid, fmt::format("{}:{}: {}", path, e.source().begin.line, e.description()));
  }
  for (const auto& [name, node] : file) {
    const std::string origin = fmt::format("file {}:{}", path, node.source().begin.line);
    if (name == "source") {
      if (auto read = read_sources(node, origin, sources); !read) return read;
      continue;
    }
    const Key* key = find_key(std::string_view(name));
    if (key == nullptr) return fail(Code::kInvalid, unknown_key(std::string_view(name), origin));
    if (key->name == "home" || key->name == "config") {
      return fail(Code::kInvalid,
                  fmt::format("{}: {} says where this file lies, so it is no setting of a file; use --{} or {}", origin,
                              key->name, key->name, variable_of(key->name)));
    }
    if (!fits(*key, node))
      return fail(Code::kInvalid, fmt::format("{}: {} takes {}", origin, key->name, accepted(*key)));
    values[std::string(key->name)] = {text_of(node), origin};
  }
  return {};
}

Result<std::map<std::string, std::string>> read_flags(const std::vector<std::string>& arguments) {
  po::options_description known;
  for (const auto& key : keys()) {
    auto* semantic = po::value<std::vector<std::string>>()->composing();
    if (key.type == Type::kFlag) semantic->implicit_value({"true"}, "true");
    known.add_options()(flag_of(key.name).c_str(), semantic);
  }
  po::variables_map parsed;
  try {
    po::store(po::command_line_parser(arguments)
                  .options(known)
                  .style(po::command_line_style::unix_style & ~po::command_line_style::allow_guessing)
                  .positional(po::positional_options_description())
                  .run(),
              parsed);
  } catch (const po::error& e) {
    return fail(Code::kInvalid, fmt::format("{}; --help lists the options", e.what()));
  }
  std::map<std::string, std::string> out;
  for (const auto& key : keys()) {
    const std::string flag = flag_of(key.name);
    if (parsed.count(flag) == 0) continue;
    const auto& given = parsed[flag].as<std::vector<std::string>>();
    // Labels add up; anything else said twice means what was said last.
    out[std::string(key.name)] = key.type == Type::kLabels ? fmt::format("{}", fmt::join(given, ",")) : given.back();
  }
  return out;
}

}  // namespace

const std::vector<Key>& keys() {
  static const std::vector<Key> kKeys = {
      {"home", Type::kText, "", "directory of keys, state, logs and the socket; one agent each", "", 0, 0},
      {"config", Type::kText, "", "settings file, instead of those of system, user and home", "", 0, 0},
      {"name", Type::kText, "", "name of this agent for people (default: the host's name)", "", 0, 0},
      {"listen", Type::kText, "127.0.0.1:0",
       "address and port for other agents, \"none\" to dial out only; port 0 takes a free one", "", 0, 0},
      {"advertise", Type::kText, "", "host:port under which others reach this agent (default: the listen address)", "",
       0, 0},
      {"http", Type::kText, "127.0.0.1:0", "address and port of the HTTP gateway, \"none\" for no gateway", "", 0, 0},
      {"compss_rest", Type::kChoice, "owner",
       "who may use the paths under /COMPSs of that gateway, which start programs: the user who runs the agent, any "
       "process of this host, anyone who reaches the port",
       "owner|host|anyone|none", 0, 0},
      {"region", Type::kText, "root", "name of the region that an agent founds when it joins nobody", "", 0, 0},
      {"labels", Type::kLabels, "", "KEY=VALUE pairs that constraints can ask for", "", 0, 0},
      {"preset", Type::kChoice, "lan", "time-outs of the network", "lan|wan|radio", 0, 0},
      {"computing_units", Type::kInteger, "-1", "tasks at a time (-1: one per core; 0: none, all go elsewhere)", "", -1,
       4096},
      {"memory_mb", Type::kInteger, "-1", "memory for tasks in MiB (-1: what the machine has)", "", -1, 1LL << 30},
      {"python", Type::kText, "", "interpreter of executors when an app names none (default: python3)", "", 0, 0},
      {"scheduler", Type::kText, "", "scheduler of applications that name none (default: completion)", "", 0, 0},
      {"store_mb", Type::kInteger, "-1", "most MiB that the object store may use (-1: the disk's free space)", "", -1,
       1LL << 40},
      {"environments_mb", Type::kInteger, "4096",
       "MiB that environments of applications may use before the ones "
       "unused for longest go",
       "", 0, 1LL << 40},
      {"elastic_max", Type::kInteger, "0", "most agents that programs may have made on request (0: none)", "", 0, 1000},
      {"elastic_command", Type::kText, "",
       "program that makes and ends them: create NAME, destroy NAME (default: further agents on this host)", "", 0, 0},
      {"elastic_units", Type::kInteger, "1", "computing units of each one made on this host", "", 0, 4096},
      {"log_level", Type::kChoice, "info", "least severe log lines to write", "trace|debug|info|warn|error", 0, 0,
       true},
      {"log_format", Type::kChoice, "text", "log lines as text or as JSON objects", "text|json", 0, 0, true},
  };
  return kKeys;
}

Result<Settings> Settings::load(const std::vector<std::string>& arguments,
                                const std::map<std::string, std::string>& environment) {
  return load(arguments, environment, default_places(environment));
}

Result<Settings> Settings::load(const std::vector<std::string>& arguments,
                                const std::map<std::string, std::string>& environment, const Places& places) {
  auto flags = read_flags(arguments);
  if (!flags) return tl::unexpected<Error>(flags.error());
  std::map<std::string, Value, std::less<>> said;
  for (const auto& key : keys()) {
    const std::string variable = variable_of(key.name);
    if (auto it = environment.find(variable); it != environment.end()) {
      said[std::string(key.name)] = {it->second, "environment " + variable};
    }
  }
  for (const auto& [key, text] : *flags) said[key] = {text, "flag --" + flag_of(key)};

  Settings out;
  out.arguments_ = arguments;
  out.environment_ = environment;
  out.places_ = places;
  for (const auto& key : keys()) out.values_[std::string(key.name)] = {std::string(key.builtin), "built-in"};
  out.values_["home"].text = places.home;
  for (const char* early : {"home", "config"}) {
    if (auto it = said.find(early); it != said.end()) out.values_[early] = it->second;
  }
  const bool home_named = said.count("home") != 0 && !out.values_["home"].text.empty();
  if (!home_named) out.runtime_dir_ = places.runtime;
  // The later a file, the stronger.
  const std::string named = out.values_["config"].text;
  std::vector<std::string> files = {named};
  if (named.empty()) files = {out.values_["home"].text + "/config.toml"};
  if (named.empty() && !home_named) files.insert(files.begin(), {places.system_file, places.user_file});
  for (const auto& path : files) {
    std::error_code ignored;
    if (path.empty() || (named.empty() && !std::filesystem::exists(path, ignored))) continue;
    if (auto read = read_file(path, out.values_, out.sources_); !read) return tl::unexpected<Error>(read.error());
  }
  for (const auto& [key, value] : said) out.values_[key] = value;
  for (const auto& key : keys()) {
    if (auto checked = check_value(key, out.values_[std::string(key.name)]); !checked) {
      return tl::unexpected<Error>(checked.error());
    }
  }
  return out;
}

const std::string& Settings::text(std::string_view key) const {
  return values_.find(key)->second.text;
}

std::int64_t Settings::integer(std::string_view key) const {
  return parse_integer(text(key)).value_or(0);
}

bool Settings::flag(std::string_view key) const {
  return text(key) == "true";
}

std::map<std::string, std::string> Settings::labels() const {
  std::map<std::string, std::string> out;
  std::string_view rest = text("labels");
  while (!rest.empty()) {
    const auto comma = std::min(rest.find(','), rest.size());
    const std::string_view pair = rest.substr(0, comma);
    const auto equals = pair.find('=');
    out[std::string(pair.substr(0, equals))] = std::string(pair.substr(equals + 1));
    rest = comma < rest.size() ? rest.substr(comma + 1) : std::string_view();
  }
  return out;
}

std::string help_text() {
  std::string out;
  for (const auto& key : keys()) {
    std::string left = "--" + flag_of(key.name);
    if (key.type != Type::kFlag) left += key.choices.empty() ? " VALUE" : fmt::format(" {}", key.choices);
    out += fmt::format("  {:<28} {}", left, key.help);
    if (!key.builtin.empty() && key.builtin != "-1") out += fmt::format(" [{}]", key.builtin);
    out += '\n';
  }
  return out;
}

Places default_places(const std::map<std::string, std::string>& environment, bool root) {
  const auto value = [&](const char* name) {
    auto it = environment.find(name);
    return it == environment.end() ? std::string() : it->second;
  };
  // systemd separates several directories by colons; the first is the agent's.
  const auto given = [&](const char* systemd, const char* xdg, std::string_view below) {
    if (const std::string dirs = value(systemd); !dirs.empty()) return dirs.substr(0, dirs.find(':'));
    if (const std::string dir = value(xdg); !dir.empty()) return dir + "/shoal";
    const std::string home = root ? "" : value("HOME");
    return home.empty() || below.empty() ? std::string() : fmt::format("{}/{}/shoal", home, below);
  };
  const bool service = !value("STATE_DIRECTORY").empty();
  const std::string config = given("CONFIGURATION_DIRECTORY", "XDG_CONFIG_HOME", ".config");
  Places out;
  out.home = given("STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state");
  if (out.home.empty()) out.home = "/var/lib/shoal";
  out.system_file = service && !config.empty() ? config + "/config.toml" : "/etc/shoal/config.toml";
  if (!service && !config.empty()) out.user_file = config + "/config.toml";
  out.runtime = given("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "");
  if (out.runtime.empty() && root) out.runtime = "/run/shoal";
  return out;
}

Places default_places(const std::map<std::string, std::string>& environment) {
  return default_places(environment, ::geteuid() == 0);
}

void Settings::adopt_live(const Settings& other) {
  for (const auto& key : keys()) {
    if (key.live) values_[std::string(key.name)] = other.values_.find(key.name)->second;
  }
}

std::vector<std::string> Settings::changed(const Settings& other) const {
  std::vector<std::string> out;
  for (const auto& [key, value] : values_) {
    if (other.text(key) != value.text) out.push_back(key);
  }
  if (other.sources_ != sources_) out.emplace_back("source");
  return out;
}

std::map<std::string, std::string> process_environment() {
  std::map<std::string, std::string> out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view pair(*entry);
    const auto equals = pair.find('=');
    if (equals != std::string_view::npos) out.emplace(pair.substr(0, equals), pair.substr(equals + 1));
  }
  return out;
}

}  // namespace shoal::settings
