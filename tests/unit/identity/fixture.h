// tests/unit/identity/fixture.h
//
// What the tests of this folder share: a time to count from, and a directory that goes when the test does.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "protocol/base/time.h"

namespace shoal::identity {

constexpr WallTime kNow{1'800'000'000'000};
inline WallTime later(std::int64_t ms) {
  return {kNow.unix_ms + ms};
}

class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "shoal-identity-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "cannot make " << name;
    path_ = name;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace shoal::identity
