// agent/settings/settings.h
//
// What an agent can be told, and where it was told: flag > environment > file of the home > file of the user > file of
// the system > built-in. One table declares every key; the parser, the help text, `shoal config show --origin` and the
// reference page are made from it. A key or value that is not understood is refused with its place and the accepted
// values, never ignored.
//
// A home that somebody names holds everything of its agent: then its config.toml is the only file that is read.
// `config` names another file instead of all three.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/base/result.h"

namespace shoal::settings {

enum class Type : std::uint8_t { kText, kInteger, kChoice, kFlag, kLabels };

struct Key {
  std::string_view name;  // as in the file and, with dashes, as a flag
  Type type = Type::kText;
  std::string_view builtin;  // its value when nobody says anything
  std::string_view help;
  std::string_view choices;  // of kChoice, separated by '|'
  std::int64_t low = 0;      // of kInteger
  std::int64_t high = 0;
  bool live = false;  // SIGHUP changes it; everything else needs a restart
};

// Where things lie when nobody says: the XDG directories of a user, /etc, /var/lib and /run for root and services.
struct Places {
  std::string home;
  std::string user_file;  // empty: none
  std::string system_file;
  std::string runtime;  // of the socket; empty: below the home
};
// systemd's STATE_DIRECTORY, RUNTIME_DIRECTORY and CONFIGURATION_DIRECTORY, then the XDG_* variables, then defaults.
Places default_places(const std::map<std::string, std::string>& environment, bool root);
// Of this process.
Places default_places(const std::map<std::string, std::string>& environment);

// Every key, in the order of the help text.
const std::vector<Key>& keys();

struct Value {
  std::string text;
  std::string origin;  // "built-in", "file /path:12", "environment SHOAL_NAME", "flag --name"
};

// One [[source]] table of the file: its pairs as text.
using SourceTable = std::map<std::string, std::string>;

class Settings {
 public:
  // Reads `arguments` (without the program's name), SHOAL_* of `environment`, and the files. kInvalid with place and
  // accepted values for anything not understood.
  static Result<Settings> load(const std::vector<std::string>& arguments,
                               const std::map<std::string, std::string>& environment, const Places& places);
  static Result<Settings> load(const std::vector<std::string>& arguments,
                               const std::map<std::string, std::string>& environment);
  // The same again: the files may have changed.
  Result<Settings> reload() const { return load(arguments_, environment_, places_); }
  // Takes over the values of the keys that are live.
  void adopt_live(const Settings& other);
  // Keys whose values differ.
  std::vector<std::string> changed(const Settings& other) const;
  // Where the socket lies; empty: below the home, as always with a home that somebody named.
  const std::string& runtime_dir() const { return runtime_dir_; }

  const std::string& text(std::string_view key) const;
  std::int64_t integer(std::string_view key) const;
  bool flag(std::string_view key) const;
  std::map<std::string, std::string> labels() const;
  const std::vector<SourceTable>& sources() const { return sources_; }
  const std::map<std::string, Value, std::less<>>& all() const { return values_; }

 private:
  std::map<std::string, Value, std::less<>> values_;
  std::vector<SourceTable> sources_;
  std::string runtime_dir_;
  std::vector<std::string> arguments_;
  std::map<std::string, std::string> environment_;
  Places places_;
};

// The text of --help: one line a key.
std::string help_text();

// The process environment as a map: for main() only.
std::map<std::string, std::string> process_environment();

}  // namespace shoal::settings
