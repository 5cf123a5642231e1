#include "tools/shoal/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "agent/settings/settings.h"
#include "protocol/base/nearest.h"

namespace shoal::cli {
namespace {

using Words = std::vector<std::string>;

std::size_t words_of(std::string_view name) {
  return static_cast<std::size_t>(std::count(name.begin(), name.end(), ' ')) + 1;
}

// Not "-" and "--", and not a negative number.
bool is_option(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && word != "--" && (word[1] < '0' || word[1] > '9');
}

// "--name", or "--name=value".
struct Long {
  std::string name;
  std::optional<std::string> value;
};

Long long_of(const std::string& word) {
  const auto equals = word.find('=');
  if (equals == std::string::npos) return {word.substr(2), std::nullopt};
  return {word.substr(2, equals - 2), word.substr(equals + 1)};
}

const Option* find_option(const std::vector<Option>& options, std::string_view name) {
  const auto it = std::find_if(options.begin(), options.end(), [&](const Option& o) { return o.name == name; });
  return it == options.end() ? nullptr : &*it;
}

const Option* find_letter(const std::vector<Option>& options, char letter) {
  const auto it = std::find_if(options.begin(), options.end(), [&](const Option& o) { return o.letter == letter; });
  return it == options.end() ? nullptr : &*it;
}

bool is_setting(std::string_view name) {
  std::string key(name);
  std::replace(key.begin(), key.end(), '-', '_');
  const auto& keys = settings::keys();
  return std::any_of(keys.begin(), keys.end(), [&](const settings::Key& k) { return k.name == key; });
}

// All options there are: before the command is known, any of them may come. A name means the same everywhere, as far as
// taking a value goes (tests/unit/cli checks it).
std::vector<Option> every_option() {
  std::vector<Option> out;
  for (const auto& command : commands()) {
    for (const auto& option : options_of(command)) {
      if (find_option(out, option.name) == nullptr) out.push_back(option);
    }
  }
  return out;
}

// True when the value of `word` is the word after it.
bool takes_next(const std::vector<Option>& options, const std::string& word) {
  if (word.starts_with("--")) {
    const Long said = long_of(word);
    if (said.value) return false;
    if (const Option* option = find_option(options, said.name)) return !option->argument.empty();
    return is_setting(said.name);
  }
  for (std::size_t i = 1; i < word.size(); ++i) {
    const Option* option = find_letter(options, word[i]);
    if (option == nullptr) return false;
    if (!option->argument.empty()) return i + 1 == word.size();
  }
  return false;
}

const Command* find_command(const Words& words, std::size_t from) {
  const Command* found = nullptr;
  for (const auto& command : commands()) {
    const std::size_t count = words_of(command.name);
    if (words.size() < from + count) continue;
    std::string said = words[from];
    for (std::size_t i = 1; i < count; ++i) said += " " + words[from + i];
    if (said == command.name && (found == nullptr || count > words_of(found->name))) found = &command;
  }
  return found;
}

tl::unexpected<Error> unknown_command(const std::string& said) {
  std::vector<std::string_view> names;
  for (const auto& command : commands()) names.push_back(command.name);
  for (const auto& command : commands()) names.push_back(command.name.substr(0, command.name.find(' ')));
  if (auto meant = nearest(said, names))
    return fail(Code::kInvalid, fmt::format("there is no command \"{}\"; did you mean \"{}\"?", said, *meant));
  return fail(Code::kInvalid, fmt::format("there is no command \"{}\"; `shoal --help` lists them", said));
}

tl::unexpected<Error> unknown_option(const std::string& said, const Command& command) {
  std::deque<std::string> texts;
  for (const auto& option : options_of(command)) texts.push_back("--" + std::string(option.name));
  if (command.passes_settings) {
    for (const auto& key : settings::keys()) {
      texts.push_back("--" + std::string(key.name));
      std::replace(texts.back().begin(), texts.back().end(), '_', '-');
    }
  }
  const std::vector<std::string_view> names(texts.begin(), texts.end());
  if (auto meant = nearest(said, names))
    return fail(Code::kInvalid, fmt::format("there is no option {}; did you mean {}?", said, *meant));
  return fail(Code::kInvalid, fmt::format("there is no option {}", said));
}

// Reads the words of one command into a Context.
class Reader {
 public:
  Reader(const Command& command, Words words, Invocation& into)
      : command_(command), words_(std::move(words)), into_(into), options_(options_of(command)) {}

  Result<> read() {
    for (at_ = 0; at_ < words_.size(); ++at_) {
      const std::string& word = words_[at_];
      if (word == "--") {
        take_rest(at_ + 1);
        return {};
      }
      if (!is_option(word)) {
        into_.context.arguments.push_back(word);
        if (!command_.takes_rest) continue;
        into_.context.rest.assign(words_.begin() + static_cast<std::ptrdiff_t>(at_) + 1, words_.end());
        return {};
      }
      auto taken = word.starts_with("--") ? take_long(word) : take_letters(word);
      if (!taken) return taken;
    }
    return {};
  }

 private:
  // What follows "--": no options any more.
  void take_rest(std::size_t from) {
    auto& context = into_.context;
    const auto begin = words_.begin() + static_cast<std::ptrdiff_t>(std::min(from, words_.size()));
    if (!command_.takes_rest) {
      context.arguments.insert(context.arguments.end(), begin, words_.end());
    } else if (begin != words_.end()) {
      context.arguments.push_back(*begin);
      context.rest.assign(begin + 1, words_.end());
    }
  }

  Result<std::string> next_word(std::string_view option, std::string_view argument) {
    if (at_ + 1 >= words_.size()) return fail(Code::kInvalid, fmt::format("{} needs {}", option, argument));
    return words_[++at_];
  }

  Result<> take_long(const std::string& word) {
    Long said = long_of(word);
    const Option* option = find_option(options_, said.name);
    if (option == nullptr && command_.passes_settings && is_setting(said.name)) {
      if (!said.value) {
        auto value = next_word("--" + said.name, "a value");
        if (!value) return tl::unexpected<Error>(value.error());
        said.value = *value;
      }
      into_.context.rest.push_back(fmt::format("--{}={}", said.name, *said.value));
      return {};
    }
    if (option == nullptr) return unknown_option("--" + said.name, command_);
    if (option->argument.empty() && said.value)
      return fail(Code::kInvalid, fmt::format("--{} takes no value", said.name));
    if (!option->argument.empty() && !said.value) {
      auto value = next_word("--" + said.name, option->argument);
      if (!value) return tl::unexpected<Error>(value.error());
      said.value = *value;
    }
    keep(*option, said.value.value_or(""));
    return {};
  }

  Result<> take_letters(const std::string& word) {
    for (std::size_t i = 1; i < word.size(); ++i) {
      const Option* option = find_letter(options_, word[i]);
      if (option == nullptr) return unknown_option(fmt::format("-{}", word[i]), command_);
      if (option->argument.empty()) {
        keep(*option, "");
        continue;
      }
      std::string value = word.substr(i + 1);
      if (value.starts_with('=')) value.erase(0, 1);
      if (value.empty()) {
        auto next = next_word(fmt::format("-{}", word[i]), option->argument);
        if (!next) return tl::unexpected<Error>(next.error());
        value = *next;
      }
      keep(*option, value);
      return {};
    }
    return {};
  }

  void keep(const Option& option, const std::string& value) {
    into_.context.options[std::string(option.name)].push_back(value);
  }

  const Command& command_;
  const Words words_;
  Invocation& into_;
  const std::vector<Option> options_;
  std::size_t at_ = 0;
};

Result<> read_common(Context& context, const std::map<std::string, std::string>& environment, bool terminal) {
  const auto variable = [&](const char* name) {
    const auto it = environment.find(name);
    return it == environment.end() ? std::string() : it->second;
  };
  context.home = context.option("home", variable("SHOAL_HOME"));
  context.home_named = !context.home.empty();
  if (!context.home_named) context.home = settings::default_places(environment).home;
  context.agent = context.option("agent");
  const std::string color = context.option("color", "auto");
  if (color != "auto" && color != "always" && color != "never")
    return fail(Code::kInvalid, fmt::format("--color takes auto, always or never, not \"{}\"", color));
  context.look.color = decide_color(color, environment, terminal);
  context.quiet = context.has("quiet");
  std::string output = context.option("output", variable("SHOAL_OUTPUT"));
  if (output.empty()) output = context.quiet ? "quiet" : "table";
  const auto format = parse_format(output);
  if (!format) {
    return fail(Code::kInvalid, fmt::format("{} takes {}, not \"{}\"", context.has("output") ? "-o" : "SHOAL_OUTPUT",
                                            kFormats, output));
  }
  context.look.format = *format;
  if (context.has("timeout")) {
    auto timeout = parse_duration(context.option("timeout"));
    if (!timeout) return tl::unexpected<Error>(timeout.error());
    context.timeout = *timeout;
  }
  return {};
}

Result<> check_count(const Command& command, const Context& context) {
  if (context.arguments.size() < command.least)
    return fail(Code::kInvalid, fmt::format("it needs {}", command.arguments));
  if (context.arguments.size() <= command.most) return {};
  const std::string& extra = context.arguments[command.most];
  const bool has_children = std::any_of(commands().begin(), commands().end(), [&](const Command& other) {
    return other.name.starts_with(std::string(command.name) + " ");
  });
  if (has_children && command.most == 0) return unknown_command(fmt::format("{} {}", command.name, extra));
  return fail(Code::kInvalid, fmt::format("\"{}\" is one too many", extra));
}

}  // namespace

Result<Invocation> parse_command_line(const Words& words, const std::map<std::string, std::string>& environment,
                                      bool stdout_is_terminal, const Command** failed) {
  *failed = nullptr;
  const auto every = every_option();
  std::size_t start = 0;
  while (start < words.size() && is_option(words[start])) start += takes_next(every, words[start]) ? 2 : 1;
  Words options(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(std::min(start, words.size())));
  Invocation out;
  if (start >= words.size()) {
    const auto said = [&](const char* word) {
      return std::find(options.begin(), options.end(), word) != options.end();
    };
    out.version = said("--version");
    out.help = said("--help") || said("-h");
    if (out.version || out.help || options.empty()) return out;
    return fail(Code::kInvalid, "no command was given; `shoal --help` lists them");
  }
  const Command* command = find_command(words, start);
  if (command == nullptr) return unknown_command(words[start]);
  *failed = command;
  out.command = command;
  out.context.command = command;
  options.insert(options.end(), words.begin() + static_cast<std::ptrdiff_t>(start + words_of(command->name)),
                 words.end());
  if (auto read = Reader(*command, std::move(options), out).read(); !read) return tl::unexpected<Error>(read.error());
  out.help = out.context.has("help");
  if (out.help) return out;
  if (auto read = read_common(out.context, environment, stdout_is_terminal); !read)
    return tl::unexpected<Error>(read.error());
  if (auto checked = check_count(*command, out.context); !checked) return tl::unexpected<Error>(checked.error());
  return out;
}

}  // namespace shoal::cli
