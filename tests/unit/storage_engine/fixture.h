// A directory of its own for each test, and an engine in it that can be closed and opened again.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "protocol/base/hash.h"
#include "storage/engine/engine.h"

namespace shoal::storage::testing {

inline ObjectId object_id(std::uint64_t n) {
  return ObjectId(mix64(n ^ 4711), mix64(n));
}

// Not SHA-256: any function of the content will do to show that it is called.
inline ObjectId fake_hash(std::string_view content) {
  const std::uint64_t h = hash64(content);
  return ObjectId(h, mix64(h));
}

inline Bytes content_of(std::uint64_t seed, std::size_t bytes) {
  Bytes out;
  out.resize(bytes);
  for (std::size_t i = 0; i < bytes; i += 8) {
    const std::uint64_t word = mix64(seed * 1'000'003 + i);
    for (std::size_t j = i; j < std::min(bytes, i + 8); ++j) out[j] = static_cast<char>(word >> (8 * (j - i)));
  }
  return out;
}

inline Manifest manifest_of(ObjectId object, std::uint64_t bytes) {
  Manifest manifest;
  manifest.object = object;
  manifest.bytes = bytes;
  manifest.type = "bytes";
  return manifest;
}

struct EngineTest : ::testing::Test {
  EngineTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "shoal_engine_XXXXXX").string();
    root = ::mkdtemp(pattern.data());
    config.dir = root + "/store";
    config.hasher = fake_hash;
  }
  ~EngineTest() override {
    engine.reset();
    std::filesystem::remove_all(root);
  }

  void open() {
    auto opened = Engine::open(config);
    ASSERT_TRUE(opened) << opened.error().message;
    engine = std::move(*opened);
  }
  void reopen() {
    engine.reset();
    open();
  }
  // Waits for completion `id`.
  Result<> wait(std::uint64_t id) {
    for (;;) {
      std::vector<Completion> finished;
      engine->poll_completions(finished);
      for (Completion& one : finished) done.emplace(one.id, one.result);
      if (auto it = done.find(id); it != done.end()) return it->second;
      pollfd event{engine->event_fd(), POLLIN, 0};
      if (::poll(&event, 1, 30'000) == 0) return fail(Code::kTimeout, "no completion within 30 s");
    }
  }
  Result<> put(ObjectId object, const Bytes& content, Verify verify = Verify::kNo) {
    engine->put_async(manifest_of(object, content.size()), content, ++last, verify);
    return wait(last);
  }
  Result<> persist(const std::string& key, const std::string& value) {
    engine->persist({{key, Bytes(value)}}, ++last);
    return wait(last);
  }
  Result<> erase(ObjectId object) {
    engine->erase(object, ++last);
    return wait(last);
  }
  std::vector<std::string> segment_files() const {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(config.dir + "/segments")) out.push_back(entry.path());
    std::sort(out.begin(), out.end());
    return out;
  }

  std::string root;
  EngineConfig config;
  std::unique_ptr<Engine> engine;
  std::map<std::uint64_t, Result<>> done;
  std::uint64_t last = 0;
};

inline void flip_byte(const std::string& path, std::uint64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  char byte = 0;
  file.get(byte);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(static_cast<char>(byte ^ 0x20));
}

// A file system of its own for the life of this; `mounted` is false where mounting is not allowed.
struct SmallDisk {
  SmallDisk(const std::string& at, const std::string& options) : path(at) {
    std::filesystem::create_directories(path);
    mounted = ::mount("tmpfs", path.c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted) ::umount2(path.c_str(), MNT_DETACH);
  }
  std::string path;
  bool mounted = false;
};

}  // namespace shoal::storage::testing
