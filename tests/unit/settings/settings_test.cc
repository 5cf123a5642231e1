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

TEST_F(SettingsTest, ValuesOfTheWrongKindAreRefusedWithWhatIsAccepted) {
  write("name = [\"a\"]\n");
  EXPECT_EQ(load({}).error().message, "file " + home_ + "/config.toml:1: name takes a text");
  write("\npreset = { a = 1 }\n");
  EXPECT_EQ(load({}).error().message, "file " + home_ + "/config.toml:2: preset takes one of lan|wan|radio");
  write("home = \"/elsewhere\"\n");
  EXPECT_NE(load({}).error().message.find("config.toml:1: home says where this file lies"), std::string::npos);
}

TEST_F(SettingsTest, TheHomesFileBeatsTheUsersBeatsTheSystems) {
  const Places places{home_, home_ + "/user.toml", home_ + "/system.toml", "/run/x"};
  std::ofstream(places.system_file) << "name = \"system\"\npreset = \"wan\"\nlog_level = \"warn\"\n";
  std::ofstream(places.user_file) << "name = \"user\"\nlog_level = \"error\"\n";
  write("name = \"home\"\n");
  auto settings = Settings::load({}, {}, places);
  ASSERT_TRUE(settings) << settings.error().message;
  EXPECT_EQ(settings->text("name"), "home");
  EXPECT_EQ(settings->all().at("log_level").origin, "file " + places.user_file + ":2");
  EXPECT_EQ(settings->all().at("preset").origin, "file " + places.system_file + ":2");
  EXPECT_EQ(settings->runtime_dir(), "/run/x");
  // A home that is named holds everything.
  settings = Settings::load({"--home", home_}, {}, places);
  ASSERT_TRUE(settings) << settings.error().message;
  EXPECT_EQ(settings->text("name"), "home");
  EXPECT_EQ(settings->text("log_level"), "info");
  EXPECT_EQ(settings->runtime_dir(), "");
  settings = Settings::load({"--config", places.user_file}, {}, places);
  ASSERT_TRUE(settings) << settings.error().message;
  EXPECT_EQ(settings->text("name"), "user");
  EXPECT_FALSE(Settings::load({"--config", home_ + "/none.toml"}, {}, places));
}

TEST_F(SettingsTest, PlacesFollowSystemdThenXdgThenTradition) {
  const Places user = default_places({{"HOME", "/home/u"}}, false);
  EXPECT_EQ(user.home, "/home/u/.local/state/shoal");
  EXPECT_EQ(user.user_file, "/home/u/.config/shoal/config.toml");
  EXPECT_EQ(user.system_file, "/etc/shoal/config.toml");
  EXPECT_EQ(user.runtime, "");
  const Places xdg = default_places(
      {{"HOME", "/home/u"}, {"XDG_STATE_HOME", "/s"}, {"XDG_CONFIG_HOME", "/c"}, {"XDG_RUNTIME_DIR", "/r"}}, false);
  EXPECT_EQ(xdg.home, "/s/shoal");
  EXPECT_EQ(xdg.user_file, "/c/shoal/config.toml");
  EXPECT_EQ(xdg.runtime, "/r/shoal");
  const Places root = default_places({{"HOME", "/root"}}, true);
  EXPECT_EQ(root.home, "/var/lib/shoal");
  EXPECT_EQ(root.user_file, "");
  EXPECT_EQ(root.runtime, "/run/shoal");
  const Places service = default_places({{"STATE_DIRECTORY", "/var/lib/shoal:/var/lib/more"},
                                         {"RUNTIME_DIRECTORY", "/run/shoal"},
                                         {"CONFIGURATION_DIRECTORY", "/etc/shoal"}},
                                        false);
  EXPECT_EQ(service.home, "/var/lib/shoal");
  EXPECT_EQ(service.system_file, "/etc/shoal/config.toml");
  EXPECT_EQ(service.user_file, "");
  EXPECT_EQ(service.runtime, "/run/shoal");
}

TEST_F(SettingsTest, ReloadingSeesWhatChanged) {
  write("name = \"a\"\nlog_level = \"info\"\n");
  auto settings = load({"--preset", "wan"});
  ASSERT_TRUE(settings);
  write("name = \"b\"\nlog_level = \"debug\"\npreset = \"radio\"\n");
  auto fresh = settings->reload();
  ASSERT_TRUE(fresh) << fresh.error().message;
  EXPECT_EQ(settings->changed(*fresh), (std::vector<std::string>{"log_level", "name"})) << "the flag still wins";
  settings->adopt_live(*fresh);
  EXPECT_EQ(settings->text("log_level"), "debug");
  EXPECT_EQ(settings->text("name"), "a");
}

}  // namespace
}  // namespace shoal::settings
