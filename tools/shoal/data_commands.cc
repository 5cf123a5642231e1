// Commands that work on objects and streams.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "agent/daemon/home.h"
#include "tools/shoal/pick.h"
#include "tools/shoal/view.h"

namespace shoal::cli {
namespace {

constexpr std::int64_t kPollUs = 500'000;
constexpr std::size_t kPutBytesMax = 48U << 20;  // one frame of the local protocol

int show_one(Context& context, const std::string& id, const Result<wire::Dynamic>& answer) {
  if (!answer) return report(answer.error());
  put(render(*answer, Shape{"", {}, id}, context.look));
  return kOk;
}

}  // namespace

int run_objects(Context& context) {
  return show_request(context,
                      {"objects",
                       {{"object", "object", Show::kId},
                        {"alias", "alias"},
                        {"bytes", "size", Show::kBytes},
                        {"type", "type"},
                        {"copies", "copies"},
                        {"here", "here"},
                        {"holders", "holders", Show::kPlain, true},
                        {"policy", "policy", Show::kPlain, true}},
                       "object"},
                      "store.list");
}

int run_objects_put(Context& context) {
  auto content = daemon::read_file(context.arguments[0]);
  if (!content) return report(content.error());
  if (content->size() > kPutBytesMax) {
    return report(Error{Code::kExhausted,
                        fmt::format("{} is larger than the {} that one put from the command line takes; use the "
                                    "Python or C++ SDK",
                                    context.arguments[0], human_bytes(kPutBytesMax))});
  }
  auto replicas = context.number("replicas", 2, 1);
  if (!replicas) return report(replicas.error());
  auto client = context.connect();
  if (!client) return report(client.error());
  auto receipt = client->request("store.put", {{"bytes", Bytes(std::move(*content))},
                                               {"type", "bytes"},
                                               {"replicas", *replicas},
                                               {"wait_for", context.option("receipt", "local")}});
  if (!receipt) return report(receipt.error());
  if (context.has("alias")) {
    auto named = client->request("store.set_alias", {{"alias", context.option("alias")},
                                                     {"object", receipt->text_or("object", "")},
                                                     {"wait_for", context.option("receipt", "local")}});
    if (!named) return report(named.error());
  }
  return show_one(context, "object", receipt);
}

int run_objects_get(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto picked = pick_object(*client, context.arguments[0]);
  if (!picked) return report(picked.error());
  auto params = picked->params();
  params["inline"] = true;
  if (!context.timeout) client->set_timeout(seconds(60));
  auto result = client->request("store.get", std::move(params));
  if (!result) return report(result.error());
  const Bytes* bytes = (*result)["bytes"].as_bytes();
  if (bytes == nullptr) return report(Error{Code::kFailed, "the agent answered without the object's bytes"});
  if (context.arguments.size() == 2) {
    auto written = daemon::replace_file(context.arguments[1], *bytes, 0644);
    return written ? kOk : report(written.error());
  }
  return std::fwrite(bytes->data(), 1, bytes->size(), stdout) == bytes->size() ? kOk : kFailed;
}

int run_objects_rm(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  std::vector<PickedObject> picked;
  std::vector<Step> plan;
  for (const auto& text : context.arguments) {
    auto one = pick_object(*client, text);
    if (!one) return report(one.error());
    picked.push_back(*one);
    plan.push_back(one->alias.empty() ? Step{"delete object", one->object, "all its copies"}
                                      : Step{"delete alias", one->alias, "of object " + one->object});
  }
  return carefully(context, plan, [&] {
    wire::Dynamic::Array rows;
    for (const auto& one : picked) {
      auto done = client->request(one.alias.empty() ? "store.delete" : "store.delete_alias", one.params());
      if (!done) return report(done.error());
      rows.emplace_back(wire::Dynamic::Map{{"deleted", one.alias.empty() ? one.object : one.alias}});
    }
    return show_known(context, {"objects", {{"deleted", "deleted"}}, "deleted"},
                      wire::Dynamic(wire::Dynamic::Map{{"objects", std::move(rows)}}));
  });
}

int run_objects_locate(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto picked = pick_object(*client, context.arguments[0]);
  if (!picked) return report(picked.error());
  return show_one(context, "object", client->request("store.locate", picked->params()));
}

int run_streams(Context& context) {
  return show_request(context,
                      {"streams",
                       {{"name", "stream"},
                        {"url", "url"},
                        {"records", "records"},
                        {"bytes", "size", Show::kBytes},
                        {"closed", "closed"},
                        {"owner", "owner", Show::kId},
                        {"reachable", "reachable"},
                        {"partition_count", "partitions", Show::kPlain, true},
                        {"kind", "kind", Show::kPlain, true},
                        {"durability", "durability", Show::kPlain, true},
                        {"writers", "writers", Show::kPlain, true},
                        {"groups", "groups", Show::kPlain, true},
                        {"rates", "rates", Show::kPlain, true},
                        {"outbox", "outbox", Show::kPlain, true}},
                       "name"},
                      "streams.list");
}

int run_streams_status(Context& context) {
  return show(context, {"", {}, "name"}, [&](Client& client) -> Result<wire::Dynamic> {
    auto name = pick_stream(client, context.arguments[0]);
    if (!name) return tl::unexpected<Error>(name.error());
    return client.request("streams.status", {{"name", *name}});
  });
}

int run_streams_close(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto name = pick_stream(*client, context.arguments[0]);
  if (!name) return report(name.error());
  auto status = client->request("streams.status", {{"name", *name}});
  if (!status) return report(status.error());
  const auto* writers = (*status)["writers"].as_array();
  const Step step{"close stream", *name,
                  fmt::format("{} records stay readable, {} writers are refused from then on",
                              status->int_or("records", 0), writers == nullptr ? 0 : writers->size())};
  return carefully(context, {step}, [&] {
    auto closed = client->request("streams.close", {{"name", *name}, {"writer", "shoal"}, {"force", true}});
    if (closed && closed->as_map() != nullptr) (*closed->as_map())["name"] = *name;
    return show_one(context, "name", closed);
  });
}

int run_streams_publish(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  const std::string& name = context.arguments[0];
  if (context.has("create")) {
    if (auto opened = client->request("streams.open", {{"name", name}, {"kind", "object"}}); !opened)
      return report(opened.error());
  }
  std::vector<std::string> texts(context.arguments.begin() + 1, context.arguments.end());
  if (texts.empty()) {
    for (std::string line; std::getline(std::cin, line);) texts.push_back(line);
  }
  wire::Dynamic::Array records;
  for (auto& text : texts) {
    records.emplace_back(
        wire::Dynamic::Array{wire::Dynamic(Bytes(std::move(text))), wire::Dynamic(), wire::Dynamic(), wire::Dynamic()});
  }
  auto result = client->request("streams.publish", {{"name", name}, {"records", std::move(records)}});
  if (!result) return report(result.error());
  return show_one(context, "offsets", result);
}

int run_streams_tail(Context& context) {
  auto count = context.number("count", 0, 1);
  if (!count) return report(count.error());
  auto client = context.connect();
  if (!client) return report(client.error());
  client->set_timeout(seconds(30));  // of one poll; --timeout is about records
  auto name = pick_stream(*client, context.arguments[0]);
  if (!name) return report(name.error());
  const Format format = context.look.format;
  const bool rows = format == Format::kJson || format == Format::kJsonl || format == Format::kYaml;
  const bool bounded = *count > 0;
  std::int64_t left = *count;
  const std::string consumer = fmt::format("shoal-{}", getpid());
  std::int64_t quiet_us = 0;
  while (true) {
    const std::int64_t patience_us = context.timeout ? context.timeout->us - quiet_us : kPollUs;
    const std::int64_t wait_us = std::clamp<std::int64_t>(patience_us, 1000, kPollUs);
    auto result = client->request("streams.poll", {{"name", *name},
                                                   {"group", consumer},
                                                   {"mode", "broadcast"},
                                                   {"consumer", consumer},
                                                   {"max", bounded ? std::min<std::int64_t>(left, 500) : 500},
                                                   {"timeout_ms", wait_us / 1000},
                                                   {"offset", context.option("from", "earliest")}});
    if (!result) return report(result.error());
    const auto* records = (*result)["records"].as_array();
    const bool any = records != nullptr && !records->empty();
    for (std::size_t i = 0; any && i < records->size(); ++i) {
      const auto* fields = (*records)[i].as_array();
      if (fields == nullptr || fields->size() < 6) continue;
      const Bytes* value = (*fields)[0].as_bytes();
      if (rows) {
        put(to_json(wire::Dynamic(wire::Dynamic::Map{{"value", value != nullptr ? std::string(*value) : ""},
                                                     {"timestamp_ms", (*fields)[2]},
                                                     {"partition", (*fields)[4]},
                                                     {"offset", (*fields)[5]}}),
                    true) +
            "\n");
      } else if (value != nullptr) {
        put(std::string(*value) + "\n");
      }
      if (bounded && --left == 0) return kOk;
    }
    if (result->bool_or("closed", false)) return kOk;
    quiet_us = any ? 0 : quiet_us + wait_us;
    if (context.timeout && quiet_us >= context.timeout->us) return kTimedOut;
  }
}

}  // namespace shoal::cli
