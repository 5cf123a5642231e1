// Goal: a setting is taken from the strongest place that names it, and anything not understood is refused
// with its place. Method: load with made-up flags, environment and files.
#include "agent/settings/settings.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace shoal::settings {
namespace {

class SettingsTest : public testing::Test {
 protected:
  SettingsTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "shoal-settings-XXXXXX").string();
    home_ = mkdtemp(pattern.data());
  }
  ~SettingsTest() override { std::filesystem::remove_all(home_); }

  void write(const std::string& text) const { std::ofstream(home_ + "/config.toml") << text; }
  Result<Settings> load(std::vector<std::string> flags, std::map<std::string, std::string> environment = {}) const {
    environment["SHOAL_HOME"] = home_;
    return Settings::load(flags, environment);
  }
  std::string home_;
};

TEST_F(SettingsTest, FlagBeatsEnvironmentBeatsFileBeatsBuiltIn) {
  write("name = \"from-file\"\nlog_level = \"debug\"\npreset = \"wan\"\n");
  auto settings = load({"--name", "from-flag"}, {{"SHOAL_NAME", "from-environment"}, {"SHOAL_LOG_LEVEL", "warn"}});
  ASSERT_TRUE(settings) << settings.error().message;
  EXPECT_EQ(settings->text("name"), "from-flag");
  EXPECT_EQ(settings->all().at("name").origin, "flag --name");
  EXPECT_EQ(settings->text("log_level"), "warn");
  EXPECT_EQ(settings->text("preset"), "wan");
  EXPECT_EQ(settings->all().at("preset").origin, "file " + home_ + "/config.toml:3");
  EXPECT_EQ(settings->text("region"), "root");
}

TEST_F(SettingsTest, LabelsAddUp) {
  auto settings = load({"--labels", "tier=edge", "--labels", "site=a,gpu=no"});
  ASSERT_TRUE(settings) << settings.error().message;
  EXPECT_EQ(settings->labels(), (std::map<std::string, std::string>{{"gpu", "no"}, {"site", "a"}, {"tier", "edge"}}));
}

TEST_F(SettingsTest, SourcesAreRead) {
  write("[[source]]\ntype = \"mqtt\"\nqos = 1\n\n[[source]]\ntype = \"exec\"\n");
  auto settings = load({});
  ASSERT_TRUE(settings) << settings.error().message;
  ASSERT_EQ(settings->sources().size(), 2U);
  EXPECT_EQ(settings->sources()[0].at("qos"), "1");
}

TEST_F(SettingsTest, WhatIsNotUnderstoodIsRefusedWithItsPlace) {
  write("\nnmae = \"x\"\n");
  EXPECT_EQ(load({}).error().message,
            "file " + home_ + "/config.toml:2: there is no setting \"nmae\"; did you mean \"name\"?");
  write("preset = \"wifi\"\n");
  EXPECT_EQ(load({}).error().message,
            "file " + home_ + "/config.toml:1: preset takes one of lan|wan|radio, not \"wifi\"");
  write("name = \n");
  EXPECT_NE(load({}).error().message.find("config.toml:1:"), std::string::npos);
  write("");
  EXPECT_NE(load({"--computing-units", "many"}).error().message.find("a whole number from -1 to 4096"),
            std::string::npos);
  EXPECT_FALSE(load({"--no-such-flag"}));
  EXPECT_FALSE(load({"stray"}));
  EXPECT_FALSE(load({"--labels", "novalue"}));
}

}  // namespace
}  // namespace shoal::settings
