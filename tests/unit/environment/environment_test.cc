// Goal: names, tags and manifests of bundles are read as the packaging standards say, and nothing that comes from
// outside leads out of its directory.
// Method: the pure parts on values; packing, building and the cache on directories of their own.
#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "agent/environment/cache.h"
#include "agent/environment/description.h"
#include "agent/environment/pack.h"
#include "agent/environment/wheel.h"
#include "protocol/wire/codec.h"
#include "scheduler/resources.h"

namespace shoal::environment {
namespace {

namespace fs = std::filesystem;

class Place {
 public:
  Place() {
    std::string name = (fs::temp_directory_path() / "environment-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Place() { fs::remove_all(path_); }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  std::string at(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, const std::string& text) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
    return at(name);
  }

 private:
  fs::path path_;
};

std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct Item {
  std::string name;
  std::string text;
  std::string link = {};
};

// An archive with whatever is in it.
std::string write_archive(const std::string& path, bool zip, const std::vector<Item>& items) {
  archive* out = archive_write_new();
  if (zip) {
    archive_write_set_format_zip(out);
  } else {
    archive_write_set_format_pax_restricted(out);
  }
  archive_write_open_filename(out, path.c_str());
  for (const auto& item : items) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, item.name.c_str());
    archive_entry_set_mode(entry, item.link.empty() ? S_IFREG | 0644 : S_IFLNK | 0777);
    if (!item.link.empty()) archive_entry_set_symlink(entry, item.link.c_str());
    archive_entry_set_size(entry, static_cast<la_int64_t>(item.text.size()));
    archive_write_header(out, entry);
    archive_write_data(out, item.text.data(), item.text.size());
    archive_entry_free(entry);
  }
  archive_write_close(out);
  archive_write_free(out);
  return path;
}

const std::string kWheelFile = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n";

std::string write_wheel(const Place& place, const std::string& file, std::vector<Item> items) {
  const std::string stem = file.substr(0, file.find('-', file.find('-') + 1));
  items.push_back({stem + ".dist-info/WHEEL", kWheelFile});
  return write_archive(place.at(file), true, items);
}

const scheduler::Platform kHere{11, "cp311", "x86_64", "glibc", 2, 36};

Machine machine() {
  return {"/usr/bin/python3", kHere, "x86_64"};
}

TEST(WheelTag, SuitsTheMachinesItWasMadeFor) {
  for (const char* tag : {"py3-none-any", "py2.py3-none-any", "py38-none-any", "cp311-cp311-linux_x86_64",
                          "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", "cp311-none-any", "py311-none-any",
                          "cp37-abi3-manylinux1_x86_64", "cp32-abi3-linux_x86_64", "cp311-cp311-manylinux_2_36_x86_64",
                          "cp310.cp311-cp311-manylinux2010_x86_64", "py3-none-linux_x86_64"})
    EXPECT_NE(scheduler::suits(kHere, tag), 0u) << tag;
  for (const char* tag : {"py2-none-any", "cp310-cp310-linux_x86_64", "cp312-abi3-linux_x86_64", "py312-none-any",
                          "cp311-cp311-linux_aarch64", "cp311-cp311-manylinux_2_37_x86_64", "cp311-cp311d-linux_x86_64",
                          "cp311-cp311-musllinux_1_2_x86_64", "pp39-pypy39_pp73-linux_x86_64", "cp311-cp311-win_amd64",
                          "cp311-cp311-macosx_11_0_arm64", "py3-none", "", "--", "cp311-cp311-manylinux_x_y_x86_64",
                          "cp31199999-abi3-linux_x86_64", "py3-cp311-any"})
    EXPECT_EQ(scheduler::suits(kHere, tag), 0u) << tag;
  EXPECT_GT(scheduler::suits(kHere, "cp311-cp311-linux_x86_64"), scheduler::suits(kHere, "cp32-abi3-linux_x86_64"));
  EXPECT_GT(scheduler::suits(kHere, "cp32-abi3-linux_x86_64"), scheduler::suits(kHere, "py3-none-any"));
}

TEST(WheelTag, PlatformsAreTextAndBack) {
  EXPECT_EQ(scheduler::platform_text(kHere), "cp311-cp311-x86_64-glibc_2.36");
  const auto parsed = scheduler::parse_platform("cp313-cp313t-aarch64-musl_1.2");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(scheduler::platform_text(*parsed), "cp313-cp313t-aarch64-musl_1.2");
  EXPECT_EQ(scheduler::suits(*parsed, "cp37-abi3-linux_aarch64"), 0u);  // no stable ABI without the global lock
  EXPECT_NE(scheduler::suits(*parsed, "cp313-cp313t-musllinux_1_1_aarch64"), 0u);
  EXPECT_TRUE(scheduler::parse_platform("cp311-cp311-x86_64-unknown"));
  for (const char* text : {"", "cp311", "cp27-cp27m-x86_64-glibc_2.36", "cp3x-a-b-c", "cp311--x86_64-glibc_2.36"})
    EXPECT_FALSE(scheduler::parse_platform(text)) << text;
}

TEST(Wheel, NamesAreRead) {
  const auto name = parse_wheel_name("My.Package__x-1.0+local-7-cp311-cp311-manylinux_2_17_x86_64.whl");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->distribution, "my-package-x");
  EXPECT_EQ(name->version, "1.0+local");
  EXPECT_EQ(name->tag, "cp311-cp311-manylinux_2_17_x86_64");
  for (const char* file : {"foo.whl", "foo-1.0-py3-none.whl", "foo-1.0-py3-none-any.zip", "../foo-1.0-py3-none-any.whl",
                           "foo--py3-none-any.whl", "foo-1.0-py3-none-a ny.whl", "a-b-c-d-e-f-g.whl"})
    EXPECT_FALSE(parse_wheel_name(file)) << file;
}

TEST(Wheel, TheMostSpecialOneIsChosenAndAMissingOneNamed) {
  const auto chosen = choose_wheels({"foo-1-py3-none-any.whl", "foo-1-cp311-cp311-linux_x86_64.whl",
                                     "foo-1-cp311-cp311-linux_aarch64.whl", "bar-2-py3-none-any.whl"},
                                    kHere);
  ASSERT_TRUE(chosen);
  ASSERT_EQ(chosen->size(), 2u);
  EXPECT_EQ((*chosen)[1].file, "foo-1-cp311-cp311-linux_x86_64.whl");
  const auto missing = choose_wheels({"foo-1-cp312-cp312-linux_x86_64.whl"}, kHere);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message,
            "foo 1 is built for cp312-cp312-linux_x86_64, and this is cp311-cp311-x86_64-glibc_2.36");
  EXPECT_FALSE(by_distribution({"foo-1-py3-none-any.whl", "Foo-2-py3-none-any.whl"}));
}

TEST(Manifest, AsksForWhatItsPartsWereBuiltFor) {
  Manifest manifest;
  manifest.python = "3.11";
  manifest.wheels = {"any-1-py3-none-any.whl", "foo-1-cp311-cp311-linux_x86_64.whl",
                     "foo-1-cp312-cp312-linux_x86_64.whl"};
  manifest.builds["pkg._fast"] = {"cp311-cp311-linux_x86_64"};
  manifest.libraries["aarch64"] = {"libfoo.so"};
  manifest.libraries["x86_64"] = {"libfoo.so"};
  ASSERT_TRUE(check_manifest(manifest));
  scheduler::Demand demand;
  demand.requirements = requirements_of(manifest);
  EXPECT_EQ(describe(demand),
            "computing_units=1, python_version=3.11, foo built for cp311-cp311-linux_x86_64 or "
            "cp312-cp312-linux_x86_64, pkg._fast built for cp311-cp311-linux_x86_64, "
            "processor_architecture=aarch64,x86_64");
  scheduler::Resources agent;
  agent.computing_units = 1;
  agent.facts = {{"python_version", "3.11"},
                 {"python_platform", scheduler::platform_text(kHere)},
                 {"processor_architecture", "x86_64"}};
  EXPECT_TRUE(can_meet(agent, demand));
  agent.labels["python_platform"] = "cp312-cp312-x86_64-glibc_2.36";  // what an agent is told counts
  EXPECT_FALSE(can_meet(agent, demand));
  agent.labels.clear();
  agent.facts.erase("python_platform");  // an older agent, or one without Python
  EXPECT_FALSE(can_meet(agent, demand));
}

TEST(Manifest, WhatLeadsOutOfABundleIsRefused) {
  const auto refused = [](auto change) {
    Manifest manifest;
    change(manifest);
    return !parse_manifest(wire::encode(manifest));
  };
  EXPECT_FALSE(refused([](Manifest&) {}));
  EXPECT_TRUE(refused([](Manifest& m) { m.version = 2; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.python = "3.11; rm"; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.wheels = {"../foo-1-py3-none-any.whl"}; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.modules = {"../x"}; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.modules = {".."}; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.libraries["../x86_64"] = {"a"}; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.libraries["x86_64"] = {"../a"}; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.builds["x"] = {"a,b"}; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.variables["A=B"] = "c"; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.variables["A"] = std::string("c\0d", 3); }));
  EXPECT_TRUE(refused([](Manifest& m) { m.modules.assign(kItemsMax + 1, "x"); }));
  EXPECT_FALSE(parse_manifest("no manifest"));
}

TEST(Manifest, SharedObjectsSayWhatTheyAreFor) {
  std::string elf(
      "\x7f"
      "ELF\x02\x01\x01",
      7);
  elf.resize(kElfHeaderBytes);
  elf[18] = 0x3e;
  EXPECT_EQ(*build_of("_f.cpython-311-x86_64-linux-gnu.so", elf), "cp311-cp311-linux_x86_64");
  EXPECT_EQ(*build_of("_f.cpython-313t-x86_64-linux-gnu.so", elf), "cp313-cp313t-linux_x86_64");
  EXPECT_EQ(*build_of("_f.abi3.so", elf), "cp32-abi3-linux_x86_64");
  elf[18] = static_cast<char>(0xb7);
  EXPECT_EQ(*build_of("libf.so", elf), "py3-none-linux_aarch64");
  EXPECT_FALSE(build_of("libf.so", "MZ"));
}

TEST(Pack, EqualContentsMakeEqualBundles) {
  const Place place;
  place.write("a/pkg/__init__.py", "X = 1\n");
  place.write("a/pkg/sub/deep.py", "Y = 2\n");
  place.write("a/pkg/__pycache__/x.pyc", "left out");
  fs::copy(place.at("a"), place.at("b"), fs::copy_options::recursive);
  fs::permissions(place.at("b/pkg/__init__.py"), fs::perms::owner_read | fs::perms::owner_write);
  fs::permissions(place.at("b/pkg/sub"), fs::perms::owner_all);
  std::vector<EnvironmentId> ids;
  for (const char* side : {"a", "b"}) {
    auto description = read_description(place.at(std::string(side) + "/pkg"));
    ASSERT_TRUE(description);
    PackOptions options;
    options.scratch = place.at(std::string(side) + ".scratch");
    fs::create_directories(options.scratch);
    auto bundle = pack(*description, options);
    ASSERT_TRUE(bundle) << bundle.error().message;
    EXPECT_EQ(bundle->manifest.modules, std::vector<std::string>{"pkg"});
    ids.push_back(bundle->id);
  }
  EXPECT_EQ(ids[0], ids[1]);
}

// Takes wheels and modules through pack, cache and build.
TEST(Cache, BuildsOnceAndKeepsWhatIsUsed) {
  const Place place;
  const std::string wheel = write_wheel(place, "foo-1-py3-none-any.whl",
                                        {{"foo/__init__.py", "V = 1\n"},
                                         {"foo-1.data/purelib/bar.py", "B = 2\n"},
                                         {"foo-1.data/scripts/tool", "#!python\nprint(1)\n"},
                                         {"foo-1.data/data/share/x", "x"}});
  Description description;
  description.name = "mine";
  description.wheels = {wheel};
  description.modules = {place.write("extra.py", "E = 3\n")};
  description.variables["FLAVOUR"] = "sour";
  PackOptions options;
  options.scratch = place.at("scratch");
  fs::create_directories(options.scratch);
  auto bundle = pack(description, options);
  ASSERT_TRUE(bundle) << bundle.error().message;
  const Cache cache(place.at("cache"));
  ASSERT_TRUE(cache.open());
  EXPECT_EQ(cache.manifest(bundle->id).error().code, Code::kNotFound);
  auto taken = cache.take_bundle(bundle->id, bundle->path);
  ASSERT_TRUE(taken) << taken.error().message;
  bool built = false;
  ASSERT_TRUE(cache.make_ready(bundle->id, machine(), built));
  EXPECT_TRUE(built);
  ASSERT_TRUE(cache.make_ready(bundle->id, machine(), built));
  EXPECT_FALSE(built);
  const auto surroundings = surroundings_of(bundle->id, *taken, cache.built_path(bundle->id), "x86_64");
  EXPECT_EQ(read(surroundings.modules[1] + "/foo/__init__.py"), "V = 1\n");
  EXPECT_EQ(read(surroundings.modules[1] + "/bar.py"), "B = 2\n");
  EXPECT_EQ(read(surroundings.modules[0] + "/extra.py"), "E = 3\n");
  EXPECT_EQ(read(surroundings.programs[0] + "/tool"), "#!/usr/bin/python3\nprint(1)\n");
  EXPECT_EQ(read(cache.built_path(bundle->id) + "/share/x"), "x");
  std::map<std::string, std::string> variables{{"PATH", "/bin"}};
  surroundings.add_to(variables);
  EXPECT_EQ(variables["PATH"], surroundings.programs[0] + ":/bin");
  EXPECT_EQ(variables["FLAVOUR"], "sour");
  // Another interpreter has it built again.
  Machine other = machine();
  other.platform->minor = 12;
  other.platform->abi = "cp312";
  ASSERT_TRUE(cache.make_ready(bundle->id, other, built));
  EXPECT_TRUE(built);
  const auto listed = cache.list();
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0].name, "mine");
  EXPECT_TRUE(listed[0].built);
  ASSERT_TRUE(cache.remove(bundle->id));
  EXPECT_TRUE(cache.list().empty());
}

TEST(Cache, ABundleThatIsNotWhatItsNameSaysIsRefused) {
  const Place place;
  const Cache cache(place.at("cache"));
  ASSERT_TRUE(cache.open());
  auto taken = cache.take_bundle(EnvironmentId(1, 2), place.write("cache/scratch/x", "anything"));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, Code::kCorrupt);
  EXPECT_FALSE(fs::exists(place.at("cache/scratch/x")));
  // The right name, but no bundle inside.
  const std::string path = place.write("cache/scratch/y", "anything");
  EXPECT_EQ(cache.take_bundle(*id_of_bundle(path), path).error().code, Code::kCorrupt);
}

// A bundle made by an enemy, with a manifest that says what it likes and entries that lead elsewhere.
TEST(Build, NothingIsWrittenOutside) {
  const Place place;
  Manifest manifest;
  manifest.name = "evil";
  const Bytes encoded = wire::encode(manifest);
  const std::vector<std::vector<Item>> evils = {
      {{"manifest", encoded}, {"../outside", "x"}},
      {{"manifest", encoded}, {"/tmp/environment-test-outside", "x"}},
      {{"manifest", encoded}, {"modules/../../outside", "x"}},
      {{"manifest", encoded}, {"modules/link", "", "../../.."}},
      {{"manifest", encoded}, {"modules/link", "", "/etc"}, {"modules/link/x", "x"}},
  };
  for (std::size_t i = 0; i < evils.size(); ++i) {
    const std::string path = write_archive(place.at("evil.tar"), false, evils[i]);
    auto done = build(path, manifest, machine(), place.at("target"), place.at("inner/scratch"));
    ASSERT_FALSE(done) << i;
    EXPECT_EQ(done.error().code, Code::kCorrupt) << i;
    EXPECT_FALSE(fs::exists(place.at("target"))) << i;
    EXPECT_FALSE(fs::exists(place.at("outside"))) << i;
    EXPECT_FALSE(fs::exists(place.at("inner/outside"))) << i;
  }
  EXPECT_FALSE(fs::exists("/tmp/environment-test-outside"));
}

TEST(Build, AWheelThatIsNoneNamesItsPackage) {
  const Place place;
  std::uint64_t left = 1 << 20;
  const InstallPlaces places{place.at("site"), place.at("bin"), "/usr/bin/python3"};
  const auto problem = [&](const std::string& path) {
    auto done = install_wheel(path, places, left);
    return done ? std::string() : done.error().message;
  };
  EXPECT_NE(problem(place.write("a-1-py3-none-any.whl", "no zip")).find("no wheel, or damaged"), std::string::npos);
  EXPECT_NE(problem(write_archive(place.at("b-1-py3-none-any.whl"), true, {{"b.py", ""}})).find("WHEEL"),
            std::string::npos);
  EXPECT_NE(problem(write_wheel(place, "c-1-py3-none-any.whl", {{"../c.py", "x"}})).find("leads out"),
            std::string::npos);
  // More than may be written.
  left = 1000;
  EXPECT_NE(problem(write_wheel(place, "d-1-py3-none-any.whl", {{"d.py", std::string(2000, 'x')}})).find("more than"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(place.at("site.wheel")));
}

TEST(Cache, TheLongestUnusedGoFirst) {
  const auto entry = [](std::uint64_t id, std::uint64_t bytes, std::int64_t used) {
    return Cache::Entry{EnvironmentId(0, id), "", bytes, true, used};
  };
  const std::vector<Cache::Entry> entries = {entry(1, 10, 300), entry(2, 10, 100), entry(3, 10, 200)};
  EXPECT_TRUE(choose_victims(entries, {}, 30).empty());
  EXPECT_EQ(choose_victims(entries, {}, 29), (std::vector<EnvironmentId>{EnvironmentId(0, 2)}));
  EXPECT_EQ(choose_victims(entries, {EnvironmentId(0, 2)}, 0),
            (std::vector<EnvironmentId>{EnvironmentId(0, 3), EnvironmentId(0, 1)}));
}

}  // namespace
}  // namespace shoal::environment
