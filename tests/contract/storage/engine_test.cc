// Goal: the engine's key-value lane and its objects behave like the obvious map, through restarts.
// Method: the same random operations on the engine and on a model in memory whose tail counts only when
// acknowledged; every so often both are closed and compared. The seed is printed on failure.
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>

#include <filesystem>
#include <map>
#include <optional>

#include "protocol/base/rng.h"
#include "storage/engine/engine.h"

namespace shoal::storage {
namespace {

// What an engine promises, without a disk: writes count from their acknowledgement on.
class Model {
 public:
  void persist(const std::vector<KeyValue>& batch) {
    for (const KeyValue& one : batch) {
      if (one.value.empty()) {
        keys_.erase(one.key);
      } else {
        keys_[one.key] = one.value;
      }
    }
  }
  void put(ObjectId object, Bytes content) { objects_[object] = std::move(content); }
  void erase(ObjectId object) { objects_.erase(object); }
  std::map<std::string, Bytes> load(const std::string& prefix) const {
    std::map<std::string, Bytes> out;
    for (auto it = keys_.lower_bound(prefix); it != keys_.end() && it->first.starts_with(prefix); ++it) out.insert(*it);
    return out;
  }
  const std::map<ObjectId, Bytes>& objects() const { return objects_; }

 private:
  std::map<std::string, Bytes> keys_;
  std::map<ObjectId, Bytes> objects_;
};

class Pair {
 public:
  explicit Pair(std::uint64_t seed) : rng_(seed) {
    std::string pattern = (std::filesystem::temp_directory_path() / "shoal_contract_XXXXXX").string();
    config_.dir = ::mkdtemp(pattern.data());
    config_.segment_bytes = 256U << 10;
    reopen();
  }
  ~Pair() {
    engine_.reset();
    std::filesystem::remove_all(config_.dir);
  }

  void reopen() {
    engine_.reset();
    auto opened = Engine::open(config_);
    ASSERT_TRUE(opened) << opened.error().message;
    engine_ = std::move(*opened);
  }

  void random_operation() {
    const std::uint64_t number = ++last_;
    switch (rng_.below(8)) {
      case 0:
      case 1:
      case 2: {
        std::vector<KeyValue> batch;
        for (std::uint64_t i = rng_.below(4) + 1; i > 0; --i) {
          const std::string key =
              std::string(1, static_cast<char>('a' + rng_.below(3))) + "/" + std::to_string(rng_.below(40));
          batch.push_back({key, rng_.chance(250'000) ? Bytes() : Bytes(std::string(rng_.below(300) + 1, 'v'))});
        }
        model_.persist(batch);
        engine_->persist(batch, number, rng_.chance(300'000) ? Durability::kProcess : Durability::kDisk);
        break;
      }
      case 3:
      case 4:
      case 5: {
        const ObjectId object = random_object();
        Bytes content = content_of(object);
        Manifest manifest;
        manifest.object = object;
        manifest.bytes = content.size();
        engine_->put_async(manifest, content, number);
        model_.put(object, std::move(content));
        break;
      }
      case 6: {
        const ObjectId object = random_object();
        engine_->erase(object, number);
        model_.erase(object);
        break;
      }
      default:
        engine_->compact(number);
        break;
    }
    pending_.insert({number, true});
  }

  void drain() {
    while (!pending_.empty()) {
      pollfd event{engine_->event_fd(), POLLIN, 0};
      ASSERT_EQ(::poll(&event, 1, 30'000), 1) << "operations do not complete";
      std::vector<Completion> finished;
      engine_->poll_completions(finished);
      for (const Completion& one : finished) {
        ASSERT_TRUE(one.result) << one.result.error().message;
        ASSERT_EQ(pending_.erase(one.id), 1U) << "completed twice";
      }
    }
  }

  void compare() {
    for (const char* prefix : {"", "a/", "b/1", "z"}) {
      auto loaded = engine_->load(prefix);
      ASSERT_TRUE(loaded);
      EXPECT_EQ(*loaded, model_.load(prefix));
    }
    std::uint64_t bytes = 0;
    for (const auto& [object, content] : model_.objects()) {
      auto got = engine_->get(object);
      ASSERT_TRUE(got) << got.error().message;
      EXPECT_EQ(*got, content);
      auto mapping = engine_->map(object);
      ASSERT_TRUE(mapping);
      EXPECT_EQ(mapping->content(), content);
      bytes += content.size();
    }
    EXPECT_EQ(engine_->manifests().size(), model_.objects().size());
    EXPECT_EQ(engine_->usage().objects, model_.objects().size());
    EXPECT_EQ(engine_->usage().object_bytes, bytes);
  }

 private:
  ObjectId random_object() { return ObjectId(rng_.below(30) + 1, 7); }
  // Content-addressed: one id, one content.
  static Bytes content_of(ObjectId object) {
    Rng rng(object.high());
    Bytes content;
    content.resize(static_cast<std::size_t>(object.high() % 3 == 0 ? rng.below(1'000) : rng.below(200'000)));
    for (char& c : content) c = static_cast<char>(rng.next());
    return content;
  }

  Rng rng_;
  EngineConfig config_;
  std::unique_ptr<Engine> engine_;
  Model model_;
  std::map<std::uint64_t, bool> pending_;
  std::uint64_t last_ = 0;
};

TEST(EngineContract, BehavesLikeAMap) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Pair pair(seed);
    for (int round = 0; round < 5; ++round) {
      for (int i = 0; i < 80; ++i) pair.random_operation();
      if (round % 2 == 0) {
        pair.drain();
        pair.compare();
      }
      pair.drain();
      pair.reopen();
      pair.compare();
    }
  }
}

}  // namespace
}  // namespace shoal::storage
