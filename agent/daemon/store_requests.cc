// Objects and aliases, as clients ask for them.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "agent/daemon/impl.h"
#include "protocol/identity/crypto.h"

namespace shoal::daemon {
namespace {

constexpr std::string_view kAliasPrefix = "alias/";
constexpr std::uint64_t kInlineReplyMax = client::kInlineMax;
constexpr std::uint64_t kInlineForcedMax = 48ULL << 20;  // for clients without the arena: one frame
constexpr std::int64_t kReplicasMax = 16;

Result<storage::Level> parse_level(const std::string& text) {
  static const std::map<std::string, storage::Level, std::less<>> kLevels = {
      {"memory", storage::Level::kMemory}, {"process", storage::Level::kProcess}, {"local", storage::Level::kLocal},
      {"region", storage::Level::kRegion}, {"parent", storage::Level::kParent},   {"cloud", storage::Level::kCloud}};
  auto it = kLevels.find(text);
  if (it == kLevels.end()) {
    return fail(Code::kInvalid, fmt::format("a receipt is one of local, region, parent or cloud, not \"{}\"", text));
  }
  return it->second;
}

std::string level_name(storage::Level level) {
  static constexpr const char* kNames[] = {"memory", "process", "local", "region", "parent", "cloud"};
  return kNames[static_cast<std::size_t>(level)];
}

wire::Dynamic describe(const storage::Manifest& manifest) {
  wire::Dynamic::Array holders;
  for (const auto& holder : manifest.holders) holders.emplace_back(holder.agent.hex());
  return wire::Dynamic(wire::Dynamic::Map{{"object", manifest.object.hex()},
                                          {"bytes", manifest.bytes},
                                          {"type", manifest.type},
                                          {"copies", manifest.holders.size()},
                                          {"holders", std::move(holders)}});
}

}  // namespace

template <class In, class Out>
void Daemon::Impl::call_store(In input, std::function<void(Out&)> done) {
  input.request = ++last_call;
  store_calls[input.request] = [done = std::move(done)](node::out::Storage& output) {
    if (auto* mine = std::get_if<Out>(&output)) done(*mine);
  };
  feed(node::in::Storage(std::move(input)));
}
template void Daemon::Impl::call_store<storage::in::Locate, storage::out::Located>(
    storage::in::Locate, std::function<void(storage::out::Located&)>);
template void Daemon::Impl::call_store<storage::in::GetRecord, storage::out::RecordGot>(
    storage::in::GetRecord, std::function<void(storage::out::RecordGot&)>);
template void Daemon::Impl::call_store<storage::in::SetRecord, storage::out::RecordSet>(
    storage::in::SetRecord, std::function<void(storage::out::RecordSet&)>);
template void Daemon::Impl::call_store<storage::in::ListRecords, storage::out::RecordsListed>(
    storage::in::ListRecords, std::function<void(storage::out::RecordsListed&)>);

void Daemon::Impl::on_storage_output(node::out::Storage& output) {
  if (auto* pull = std::get_if<storage::out::Pull>(&output)) {
    pull_object(*pull);
    return;
  }
  if (auto* erase = std::get_if<storage::out::Erase>(&output)) {
    engine->erase(erase->object, 0);
    return;
  }
  const std::uint64_t request = std::visit(
      [](const auto& answer) -> std::uint64_t {
        if constexpr (requires { answer.request; }) return answer.request;
        return 0;
      },
      output);
  auto call = store_calls.extract(request);
  if (!call.empty()) call.mapped()(output);
}

void Daemon::Impl::request_store_put(const Requester& from, const Params& params) {
  auto level = parse_level(params.text_or("wait_for", "local"));
  if (!level) {
    reply(from, tl::unexpected<Error>(level.error()));
    return;
  }
  const std::int64_t replicas = params.int_or("replicas", 2);
  if (replicas < 1 || replicas > kReplicasMax) {
    reply(from,
          fail(Code::kInvalid, fmt::format("replicas takes a number from 1 to {}, not {}", kReplicasMax, replicas)));
    return;
  }
  struct Put {
    storage::Manifest manifest;
    storage::Payload payload;
    std::optional<client::Value> shared;
    Result<> read;
  };
  auto put = std::make_shared<Put>();
  put->manifest.type = params.text_or("type", "bytes");
  put->manifest.policy.replicas = static_cast<std::uint32_t>(replicas);
  put->manifest.policy.wait_for = *level;
  put->manifest.holders = {node->address()};
  if (const Bytes* bytes = params["bytes"].as_bytes()) {
    put->payload = *bytes;
  } else {
    client::Value value =
        client::Shared{params.text_or("shared", ""), static_cast<std::uint64_t>(params.int_or("size", 0))};
    auto path = values->path_of(value);
    if (!path || from.remote) {
      reply(from, fail(Code::kInvalid,
                       "store.put needs \"bytes\", or \"shared\" with the name of a file of this agent's arena"));
      return;
    }
    put->shared = value;
    put->payload = storage::FileSource{*path};
  }
  const auto store = [this, from, put] {
    if (!put->read) {
      reply(from, tl::unexpected<Error>(put->read.error()));
      return;
    }
    put_object(put->manifest, std::move(put->payload), [this, from, put](Result<> stored) {
      if (put->shared) values->discard(*put->shared);
      if (!stored) {
        reply(from, tl::unexpected<Error>(stored.error()));
        return;
      }
      storage::in::Put input;
      input.request = ++last_call;
      input.manifest = put->manifest;
      store_calls[input.request] = [this, from](node::out::Storage& output) {
        auto* done = std::get_if<storage::out::PutDone>(&output);
        if (done == nullptr || !done->receipt) {
          reply(from, done == nullptr ? fail(Code::kFailed, "the put ended without a receipt")
                                      : tl::unexpected<Error>(done->receipt.error()));
          return;
        }
        reply(from, wire::Dynamic(wire::Dynamic::Map{{"object", done->receipt->object.hex()},
                                                     {"level", level_name(done->receipt->level)},
                                                     {"copies", done->receipt->copies}}));
      };
      feed(node::in::Storage(std::move(input)));
    });
  };
  // Hashing megabytes would hold up heartbeats: that happens beside the loop.
  const auto hash = [put] {
    if (const auto* bytes = std::get_if<Bytes>(&put->payload)) {
      put->manifest.object = identity::object_id_of(*bytes);
      put->manifest.bytes = bytes->size();
      return;
    }
    auto content = read_file(std::get<storage::FileSource>(put->payload).path);
    if (!content) {
      put->read = tl::unexpected<Error>(content.error());
      return;
    }
    put->manifest.object = identity::object_id_of(*content);
    put->manifest.bytes = content->size();
  };
  const auto* bytes = std::get_if<Bytes>(&put->payload);
  if (bytes != nullptr && bytes->size() <= (64U << 10)) {
    hash();
    store();
  } else {
    worker->run(hash, store);
  }
}

// Calls `then` with the object that "object" or "alias" names, or answers that there is none.
void Daemon::Impl::with_object(const Requester& from, const Params& params, std::function<void(ObjectId)> then) {
  if (const auto* text = params["object"].as_text()) {
    auto object = ObjectId::from_hex_text(*text);
    if (!object) {
      reply(from, fail(Code::kInvalid, fmt::format("\"{}\" is not an object id (32 hexadecimal digits)", *text)));
      return;
    }
    then(*object);
    return;
  }
  const std::string alias = params.text_or("alias", "");
  if (alias.empty()) {
    reply(from, fail(Code::kInvalid, "name an object or an alias"));
    return;
  }
  storage::in::GetRecord get;
  get.name = std::string(kAliasPrefix) + alias;
  call_store<storage::in::GetRecord, storage::out::RecordGot>(
      get, [this, from, alias, then = std::move(then)](storage::out::RecordGot& got) {
        auto object = got.record && !got.record->deleted ? ObjectId::from_bytes(got.record->value) : std::nullopt;
        if (!object) {
          const bool absent = got.record.has_value() || got.record.error().code == Code::kNotFound;
          reply(from, absent ? fail(Code::kNotFound,
                                    fmt::format("there is no alias \"{}\"; `shoal objects` lists what there is", alias))
                             : tl::unexpected<Error>(got.record.error()));
          return;
        }
        then(*object);
      });
}

void Daemon::Impl::request_store_get(const Requester& from, const Params& params) {
  const bool inline_bytes = params.bool_or("inline", false) || from.remote.has_value();
  with_object(from, params, [this, from, inline_bytes](ObjectId object) {
    storage::in::Locate locate;
    locate.object = object;
    call_store<storage::in::Locate, storage::out::Located>(
        locate, [this, from, inline_bytes](storage::out::Located& located) {
          if (!located.manifest) {
            reply(from, tl::unexpected<Error>(located.manifest.error()));
            return;
          }
          deliver_object(from, *located.manifest, inline_bytes);
        });
  });
}

void Daemon::Impl::deliver_object(const Requester& to, const storage::Manifest& manifest, bool inline_bytes) {
  const auto answer = [this, to, manifest, inline_bytes](const client::Value& value) {
    wire::Dynamic::Map out{{"object", manifest.object.hex()}, {"type", manifest.type}, {"size", manifest.bytes}};
    if (manifest.bytes > kInlineReplyMax && !inline_bytes) {
      out["shared"] =
          std::get<client::Shared>(value).name;  // the client's from now on: it removes the file once mapped
      reply(to, wire::Dynamic(std::move(out)));
      return;
    }
    auto content = read_file(*values->path_of(value));
    values->discard(value);
    if (!content) {
      reply(to, tl::unexpected<Error>(content.error()));
      return;
    }
    out["bytes"] = wire::Dynamic(Bytes(std::move(*content)));
    reply(to, wire::Dynamic(std::move(out)));
  };
  if (inline_bytes && manifest.bytes > kInlineForcedMax) {
    reply(to, fail(Code::kExhausted,
                   fmt::format("the object has {} bytes, more than one answer carries; read it with the SDK",
                               manifest.bytes)));
    return;
  }
  if (engine->contains(manifest.object)) {
    auto bytes = engine->get(manifest.object);
    if (bytes && (bytes->size() <= kInlineReplyMax || inline_bytes)) {
      reply(to, wire::Dynamic(wire::Dynamic::Map{{"object", manifest.object.hex()},
                                                 {"type", manifest.type},
                                                 {"size", manifest.bytes},
                                                 {"bytes", std::move(*bytes)}}));
      return;
    }
    if (bytes) {
      auto incoming = values->create("object", bytes->size());
      if (!incoming) {
        reply(to, tl::unexpected<Error>(incoming.error()));
        return;
      }
      const bool whole = ::pwrite(incoming->fd, bytes->data(), bytes->size(), 0) == static_cast<ssize_t>(bytes->size());
      ::close(incoming->fd);
      if (whole) {
        answer(incoming->value);
      } else {
        values->discard(incoming->value);
        reply(to, fail(Code::kExhausted, "no room for the object in shared memory; free some of /dev/shm"));
      }
      return;
    }
    if (bytes.error().code == Code::kCorrupt) {
      spdlog::warn("the local copy of {} is damaged; reading another", manifest.object.brief());
      inputs.emplace_back(node::in::Storage(storage::in::Corrupt{manifest.object}));
    }
  }
  auto holders = manifest.holders;
  std::erase_if(holders, [this](const wire::Address& holder) { return holder.agent == identity.id(); });
  transfer->fetch(agent::Reactor::now(), fmt::format("object/{}#{}", manifest.object.hex(), ++last_call),
                  std::move(holders), [this, to, manifest, answer](Result<client::Value> value) {
                    if (!value) {
                      reply(to, tl::unexpected<Error>(value.error()));
                      return;
                    }
                    auto content = read_file(*values->path_of(*value));
                    if (!content || identity::object_id_of(*content) != manifest.object) {
                      values->discard(*value);
                      reply(to, fail(Code::kCorrupt, fmt::format("the copy of {} that arrived is damaged; try again",
                                                                 manifest.object.hex())));
                      return;
                    }
                    answer(*value);
                  });
}

void Daemon::Impl::request_store_locate(const Requester& from, const Params& params) {
  with_object(from, params, [this, from](ObjectId object) {
    storage::in::Locate locate;
    locate.object = object;
    call_store<storage::in::Locate, storage::out::Located>(locate, [this, from](storage::out::Located& located) {
      reply(from,
            located.manifest ? Answer(describe(*located.manifest)) : tl::unexpected<Error>(located.manifest.error()));
    });
  });
}

void Daemon::Impl::request_store_delete(const Requester& from, const Params& params) {
  with_object(from, params, [this, from](ObjectId object) {
    storage::in::Delete input;
    input.request = ++last_call;
    input.object = object;
    store_calls[input.request] = [this, from](node::out::Storage& output) {
      auto* done = std::get_if<storage::out::DeleteDone>(&output);
      if (done == nullptr) return;
      reply(from, done->result ? Answer(wire::Dynamic(wire::Dynamic::Map{{"deleted", true}}))
                               : tl::unexpected<Error>(done->result.error()));
    };
    feed(node::in::Storage(std::move(input)));
  });
}

void Daemon::Impl::request_store_set_alias(const Requester& from, const Params& params) {
  const std::string alias = params.text_or("alias", "");
  auto object = ObjectId::from_hex_text(params.text_or("object", ""));
  auto level = parse_level(params.text_or("wait_for", "local"));
  if (alias.empty() || !object || !level) {
    reply(from, !level ? tl::unexpected<Error>(level.error())
                       : fail(Code::kInvalid, "an alias needs a name and the id of an object (32 hexadecimal digits)"));
    return;
  }
  storage::in::SetRecord set;
  set.name = std::string(kAliasPrefix) + alias;
  set.value = Bytes(object->bytes());
  set.must_be_new = params.bool_or("must_be_new", false);
  set.wait_for = *level;
  call_store<storage::in::SetRecord, storage::out::RecordSet>(set, [this, from, alias](storage::out::RecordSet& done) {
    reply(from, done.record
                    ? Answer(wire::Dynamic(wire::Dynamic::Map{{"alias", alias}, {"epoch", done.record->epoch.value()}}))
                    : tl::unexpected<Error>(done.record.error()));
  });
}

void Daemon::Impl::request_store_get_alias(const Requester& from, const Params& params) {
  with_object(from, params, [this, from](ObjectId object) {
    reply(from, wire::Dynamic(wire::Dynamic::Map{{"object", object.hex()}}));
  });
}

void Daemon::Impl::request_store_delete_alias(const Requester& from, const Params& params) {
  storage::in::SetRecord set;
  set.name = std::string(kAliasPrefix) + params.text_or("alias", "");
  set.remove = true;
  call_store<storage::in::SetRecord, storage::out::RecordSet>(set, [this, from](storage::out::RecordSet& done) {
    reply(from, done.record ? Answer(wire::Dynamic(wire::Dynamic::Map{{"deleted", true}}))
                            : tl::unexpected<Error>(done.record.error()));
  });
}

void Daemon::Impl::request_store_list(const Requester& from, const Params& /*params*/) {
  storage::in::ListRecords list;
  list.prefix = std::string(kAliasPrefix);
  call_store<storage::in::ListRecords, storage::out::RecordsListed>(
      list, [this, from](storage::out::RecordsListed& listed) {
        std::map<ObjectId, std::string> names;
        for (const auto& record : listed.records) {
          auto object = record.deleted ? std::nullopt : ObjectId::from_bytes(record.value);
          if (!object) continue;
          auto& aliases = names[*object];
          aliases += (aliases.empty() ? "" : ",") + record.name.substr(kAliasPrefix.size());
        }
        const std::uint64_t id = ++last_call;
        query_calls[id] = [this, from, names = std::move(names)](Answer answer) mutable {
          if (!answer) {
            reply(from, std::move(answer));
            return;
          }
          wire::Dynamic::Array rows;
          if (const auto* objects = answer->as_array()) {
            for (const auto& row : *objects) {
              wire::Dynamic::Map merged = row.as_map() != nullptr ? *row.as_map() : wire::Dynamic::Map{};
              merged["object"] = row.text_or("id", "");
              auto object = ObjectId::from_hex_text(row.text_or("id", ""));
              auto known = object ? names.extract(*object) : std::map<ObjectId, std::string>::node_type{};
              if (!known.empty()) merged["alias"] = known.mapped();
              rows.emplace_back(std::move(merged));
            }
          }
          for (const auto& [object, alias] : names)
            rows.emplace_back(wire::Dynamic::Map{{"object", object.hex()}, {"alias", alias}});
          reply(from, wire::Dynamic(wire::Dynamic::Map{{"objects", std::move(rows)}}));
        };
        feed(node::in::Storage(storage::in::Query{id, "objects", wire::Dynamic()}));
      });
}

}  // namespace shoal::daemon
