// Goal: an answer reads the same in every format, colour is there only when it is wanted, and filters, orders and
// columns do what they say. Method: one small answer, rendered.
#include "tools/shoal/output.h"

#include <gtest/gtest.h>

#include "tools/shoal/reference.h"
#include "tools/shoal/view.h"

namespace shoal::cli {
namespace {

using wire::Dynamic;

Dynamic answer() {
  Dynamic::Array rows;
  rows.emplace_back(Dynamic::Map{{"id", "0123456789abcdef0123"},
                                 {"name", "größe, \"x\""},
                                 {"bytes", 1536},
                                 {"state", "failed"},
                                 {"labels", Dynamic::Map{{"tier", "edge"}}},
                                 {"extra", "wide only"}});
  rows.emplace_back(Dynamic::Map{{"id", "fedcba98765432100000"}, {"name", "b"}, {"bytes", 7}, {"state", "done"}});
  return Dynamic(Dynamic::Map{{"rows", std::move(rows)}});
}

Shape shape() {
  return {"rows",
          {{"id", "id", Show::kId},
           {"name", "name"},
           {"bytes", "size", Show::kBytes},
           {"state", "state", Show::kState},
           {"extra", "extra", Show::kPlain, true}},
          "id"};
}

std::string rendered(Format format, bool color = false) {
  return render(answer(), shape(), {format, color});
}

TEST(Output, ATableIsShortAndAWideOneIsWhole) {
  EXPECT_EQ(rendered(Format::kTable),
            "ID            NAME        SIZE     STATE\n"
            "0123456789ab  größe, \"x\"  1.5 KiB  failed\n"
            "fedcba987654  b           7 B      done\n");
  EXPECT_EQ(rendered(Format::kWide),
            "ID                    NAME        SIZE     STATE   EXTRA\n"
            "0123456789abcdef0123  größe, \"x\"  1.5 KiB  failed  wide only\n"
            "fedcba98765432100000  b           7 B      done    -\n");
}

TEST(Output, ProgramsGetItRaw) {
  EXPECT_EQ(rendered(Format::kCsv),
            "id,name,bytes,state,extra\n"
            "0123456789abcdef0123,\"größe, \"\"x\"\"\",1536,failed,wide only\n"
            "fedcba98765432100000,b,7,done,\n");
  EXPECT_EQ(rendered(Format::kQuiet), "0123456789abcdef0123\nfedcba98765432100000\n");
  const std::string lines = rendered(Format::kJsonl);
  EXPECT_EQ(lines.substr(lines.find('\n') + 1),
            "{\"bytes\":7,\"id\":\"fedcba98765432100000\",\"name\":\"b\",\"state\":\"done\"}\n");
  EXPECT_NE(rendered(Format::kJson).find("\"schema\": 1"), std::string::npos);
  EXPECT_EQ(rendered(Format::kYaml),
            "rows:\n"
            "  - bytes: 1536\n"
            "    extra: wide only\n"
            "    id: \"0123456789abcdef0123\"\n"
            "    labels:\n"
            "      tier: edge\n"
            "    name: \"größe, \\\"x\\\"\"\n"
            "    state: failed\n"
            "  - bytes: 7\n"
            "    id: fedcba98765432100000\n"
            "    name: b\n"
            "    state: done\n"
            "schema: 1\n");
}

TEST(Output, YamlQuotesWhatItWouldMisread) {
  Dynamic::Map map;
  for (const char* text : {"no", "1.5", "- x", "a: b", "", "plain text", "2026-01-01", "#c", "tcp://x"})
    map[text] = text;
  map["list"] = Dynamic::Array{Dynamic::Array{1, 2}, Dynamic::Map{}, Dynamic()};
  EXPECT_EQ(to_yaml(Dynamic(map)),
            "\"\": \"\"\n"
            "\"#c\": \"#c\"\n"
            "\"- x\": \"- x\"\n"
            "\"1.5\": \"1.5\"\n"
            "\"2026-01-01\": \"2026-01-01\"\n"
            "\"a: b\": \"a: b\"\n"
            "list:\n"
            "  -\n"
            "    - 1\n"
            "    - 2\n"
            "  - {}\n"
            "  - null\n"
            "\"no\": \"no\"\n"
            "plain text: plain text\n"
            "\"tcp://x\": \"tcp://x\"\n");
}

TEST(Output, ObjectsAreLinesAndEmptyOnesNothing) {
  const Dynamic object(Dynamic::Map{{"id", "x1"}, {"size", 3}});
  EXPECT_EQ(render(object, {"", {}, "id"}, {Format::kTable, false}), "id    x1\nsize  3\n");
  EXPECT_EQ(render(object, {"", {}, "id"}, {Format::kQuiet, false}), "x1\n");
  EXPECT_EQ(render(object, {"", {}, "id"}, {Format::kCsv, false}), "id,size\nx1,3\n");
  EXPECT_EQ(render(Dynamic(), {}, {Format::kTable, false}), "");
}

TEST(Output, ColourOnlyWhereItIsWanted) {
  EXPECT_EQ(rendered(Format::kTable).find('\x1b'), std::string::npos);
  EXPECT_NE(rendered(Format::kTable, true).find("\x1b[31mfailed\x1b[0m"), std::string::npos);
  EXPECT_EQ(rendered(Format::kCsv, true).find('\x1b'), std::string::npos);
  EXPECT_TRUE(decide_color("auto", {{"TERM", "xterm"}}, true));
  EXPECT_FALSE(decide_color("auto", {{"TERM", "xterm"}}, false));
  EXPECT_FALSE(decide_color("auto", {{"TERM", "dumb"}}, true));
  EXPECT_FALSE(decide_color("auto", {{"TERM", "xterm"}, {"NO_COLOR", "1"}}, true));
  EXPECT_FALSE(decide_color("auto", {{"NO_COLOR", "1"}, {"CLICOLOR_FORCE", "1"}}, true));
  EXPECT_TRUE(decide_color("auto", {{"TERM", "dumb"}, {"CLICOLOR_FORCE", "1"}}, false));
  EXPECT_TRUE(decide_color("always", {{"NO_COLOR", "1"}}, false));
  EXPECT_FALSE(decide_color("never", {{"CLICOLOR_FORCE", "1"}}, true));
}

std::string selected(Selection selection, Format format = Format::kQuiet) {
  Dynamic value = answer();
  Shape with = shape();
  auto applied = apply(selection, value, with);
  return applied ? render(value, with, {format, false}) : applied.error().message;
}

TEST(Selection, FiltersSortsAndChooses) {
  EXPECT_EQ(selected({{{"state", "done"}}, {}, {}}), "fedcba98765432100000\n");
  EXPECT_EQ(selected({{{"labels.tier", "edge"}, {"bytes", "1536"}}, {}, {}}), "0123456789abcdef0123\n");
  EXPECT_EQ(selected({{{"state", "gone"}}, {}, {}}), "");
  EXPECT_EQ(selected({{}, {{"bytes", false}}, {}}), "fedcba98765432100000\n0123456789abcdef0123\n");
  EXPECT_EQ(selected({{}, {{"name", true}}, {}}), "0123456789abcdef0123\nfedcba98765432100000\n");
  EXPECT_EQ(selected({{}, {}, {"state", "bytes"}}, Format::kTable), "STATE   SIZE\nfailed  1.5 KiB\ndone    7 B\n");
  EXPECT_EQ(selected({{{"stat", "x"}}, {}, {}}), "there is no column \"stat\"; did you mean \"state\"?");
  EXPECT_EQ(selected({{}, {}, {"zzzzzz"}}),
            "there is no column \"zzzzzz\"; there are bytes, extra, id, labels, name, state");
}

TEST(Reference, IsWrittenFromTheTable) {
  const std::string manual_text = manual();
  for (const auto& command : commands()) {
    EXPECT_NE(help_of_all().find(command.summary), std::string::npos) << command.name;
    EXPECT_NE(help_of(command).find("Example:\n  " + std::string(command.example)), std::string::npos);
    for (const auto& option : options_of(command))
      EXPECT_NE(help_of(command).find("--" + std::string(option.name)), std::string::npos);
  }
  EXPECT_NE(manual_text.find(".SH EXIT STATUS"), std::string::npos);
  EXPECT_EQ(completion("tcsh"), "");
  for (const char* shell : {"bash", "zsh", "fish"}) EXPECT_NE(completion(shell).find("timeline"), std::string::npos);
}

}  // namespace
}  // namespace shoal::cli
