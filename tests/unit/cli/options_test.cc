// Goal: a command line means the same wherever its options stand, and what is not understood is refused with the
// nearest thing there is. Method: command lines and what comes out.
#include "tools/shoal/options.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace shoal::cli {
namespace {

using Environment = std::map<std::string, std::string>;

Result<Invocation> parse(const std::vector<std::string>& words, const Environment& environment = {}) {
  const Command* failed = nullptr;
  return parse_command_line(words, environment, false, &failed);
}

std::string error_of(const std::vector<std::string>& words) {
  auto parsed = parse(words);
  return parsed ? "understood" : parsed.error().message;
}

TEST(Options, StandBeforeOrAfterTheCommand) {
  for (const auto& words : std::vector<std::vector<std::string>>{{"-f", "-o", "json", "logs", "last", "3"},
                                                                 {"logs", "last", "3", "--follow", "--output=json"},
                                                                 {"--output", "json", "logs", "-f", "last", "3"},
                                                                 {"logs", "-fojson", "last", "3"},
                                                                 {"logs", "last", "-ft", "3", "-o=json"}}) {
    auto parsed = parse(words);
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->command->name, "logs");
    EXPECT_TRUE(parsed->context.has("follow"));
    EXPECT_EQ(parsed->context.look.format, Format::kJson);
    EXPECT_EQ(parsed->context.arguments, (std::vector<std::string>{"last", "3"}));
  }
}

TEST(Options, OfAProgramAreItsOwn) {
  auto parsed = parse({"-q", "run", "--env", "A=1", "app.py", "--follow", "-x", "--", "y"});
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_TRUE(parsed->context.quiet);
  EXPECT_EQ(parsed->context.arguments, (std::vector<std::string>{"app.py"}));
  EXPECT_EQ(parsed->context.rest, (std::vector<std::string>{"--follow", "-x", "--", "y"}));
  parsed = parse({"run", "--", "--odd-name", "-h"});
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->context.arguments, (std::vector<std::string>{"--odd-name"}));
  EXPECT_EQ(parsed->context.rest, (std::vector<std::string>{"-h"}));
}

TEST(Options, SettingsArePassedOn) {
  auto parsed = parse({"--labels", "tier=edge", "up", "--name=x", "--computing-units", "-1"});
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->context.rest, (std::vector<std::string>{"--labels=tier=edge", "--name=x", "--computing-units=-1"}));
}

TEST(Options, NegativeNumbersAreArguments) {
  auto parsed = parse({"streams", "publish", "readings", "-5.5", "--create"});
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->context.arguments, (std::vector<std::string>{"readings", "-5.5"}));
}

TEST(Options, WhatIsWrongIsNamedWithTheNearest) {
  EXPECT_EQ(error_of({"staus"}), "there is no command \"staus\"; did you mean \"status\"?");
  EXPECT_EQ(error_of({"objects", "putt"}), "there is no command \"objects putt\"; did you mean \"objects put\"?");
  EXPECT_EQ(error_of({"apps", "--fliter", "a=b"}), "there is no option --fliter; did you mean --filter?");
  EXPECT_EQ(error_of({"--fliter=a=b", "apps"}), "there is no option --fliter; did you mean --filter?");
  EXPECT_EQ(error_of({"up", "--nmae", "x"}), "there is no option --nmae; did you mean --name?");
  EXPECT_EQ(error_of({"apps", "-Z"}), "there is no option -Z");
  EXPECT_EQ(error_of({"logs", "--follow=yes"}), "--follow takes no value");
  EXPECT_EQ(error_of({"apps", "--sort"}), "--sort needs KEY");
  EXPECT_EQ(error_of({"apps", "-o", "xml"}), "-o takes table, wide, json, jsonl, yaml, csv, quiet, not \"xml\"");
  EXPECT_EQ(error_of({"apps", "--color", "red"}), "--color takes auto, always or never, not \"red\"");
  EXPECT_EQ(error_of({"attach"}), "it needs APP");
  EXPECT_EQ(error_of({"status", "x"}), "\"x\" is one too many");
  EXPECT_EQ(error_of({"--follow"}), "no command was given; `shoal --help` lists them");
}

TEST(Options, EnvironmentIsWeakerThanTheCommandLine) {
  const Environment environment = {{"SHOAL_OUTPUT", "yaml"}, {"SHOAL_HOME", "/a"}, {"XDG_STATE_HOME", "/state"}};
  EXPECT_EQ(parse({"apps"}, environment)->context.look.format, Format::kYaml);
  EXPECT_EQ(parse({"apps", "-o", "csv"}, environment)->context.look.format, Format::kCsv);
  EXPECT_EQ(parse({"apps", "-q"}, environment)->context.look.format, Format::kYaml);
  EXPECT_EQ(parse({"apps", "-q"})->context.look.format, Format::kQuiet);
  EXPECT_EQ(parse({"apps"}, environment)->context.home, "/a");
  EXPECT_EQ(parse({"apps", "--home", "/b"}, environment)->context.home, "/b");
  const auto unnamed = parse({"apps"}, {{"XDG_STATE_HOME", "/state"}});
  EXPECT_EQ(unnamed->context.home, "/state/shoal");
  EXPECT_FALSE(unnamed->context.home_named);
  EXPECT_FALSE(parse({"apps"}, {{"SHOAL_OUTPUT", "xml"}}));
}

TEST(Options, HelpAndVersionNeedNothingElse) {
  EXPECT_TRUE(parse({"--help"})->help);
  EXPECT_TRUE(parse({"-h"})->help);
  EXPECT_TRUE(parse({"--version"})->version);
  EXPECT_TRUE(parse({"attach", "--help"})->help);
  EXPECT_EQ(parse({"objects", "rm", "-h"})->command->name, "objects rm");
  EXPECT_EQ(parse({})->command, nullptr);
}

// The parser reads options before it knows the command, so a name must take a value everywhere or nowhere, a letter
// must stand for one name, and every command must be complete.
TEST(CommandTable, IsConsistent) {
  std::map<std::string_view, bool> takes_value;
  std::map<char, std::string_view> letters;
  std::set<std::string_view> names;
  for (const auto& command : commands()) {
    EXPECT_TRUE(names.insert(command.name).second) << command.name;
    EXPECT_NE(command.run, nullptr) << command.name;
    EXPECT_FALSE(command.summary.empty()) << command.name;
    EXPECT_TRUE(command.example.starts_with("shoal " + std::string(command.name))) << command.name;
    EXPECT_LE(command.least, command.most) << command.name;
    std::set<std::string_view> own;
    for (const auto& option : options_of(command)) {
      EXPECT_TRUE(own.insert(option.name).second) << command.name << " " << option.name;
      EXPECT_FALSE(option.help.empty()) << command.name << " " << option.name;
      const auto [value, fresh] = takes_value.emplace(option.name, !option.argument.empty());
      EXPECT_EQ(value->second, !option.argument.empty()) << option.name;
      // -n is a number of something everywhere: of what, each command's long name says.
      if (option.letter == 0 || option.letter == 'n') continue;
      const auto [letter, unused] = letters.emplace(option.letter, option.name);
      EXPECT_EQ(letter->second, option.name) << option.letter;
    }
  }
}

}  // namespace
}  // namespace shoal::cli
