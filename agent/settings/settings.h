// agent/settings/settings.h
//
// What an agent can be told, and where it was told: flag > environment > TOML file > built-in. One table declares every
// key; the parser, the help text, `shoal config show --origin` and the reference page are made from it. A key or value
// that is not understood is refused with its place and the accepted values, never ignored.
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
};

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
  // Reads `arguments` (without the program's name), SHOAL_* of `environment`, and the file that `config` names
  // (or <home>/config.toml when that exists). kInvalid with place and accepted values for anything not understood.
  static Result<Settings> load(const std::vector<std::string>& arguments,
                               const std::map<std::string, std::string>& environment);

  const std::string& text(std::string_view key) const;
  std::int64_t integer(std::string_view key) const;
  bool flag(std::string_view key) const;
  std::map<std::string, std::string> labels() const;
  const std::vector<SourceTable>& sources() const { return sources_; }
  const std::map<std::string, Value, std::less<>>& all() const { return values_; }

 private:
  std::map<std::string, Value, std::less<>> values_;
  std::vector<SourceTable> sources_;
};

// The text of --help: one line a key.
std::string help_text();

// The home directory when nobody names one: $XDG_STATE_HOME/shoal, else ~/.local/state/shoal, else /var/lib/shoal.
std::string default_home(const std::map<std::string, std::string>& environment);

// The process environment as a map: for main() only.
std::map<std::string, std::string> process_environment();

}  // namespace shoal::settings
