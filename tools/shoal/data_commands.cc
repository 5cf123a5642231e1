// Commands that work on objects and streams.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "agent/daemon/home.h"
#include "tools/shoal/command.h"

namespace shoal::cli {
namespace {

constexpr std::size_t kPutBytesMax = 48U << 20;  // one frame of the local protocol

int ask(Context& context, const std::string& method, wire::Dynamic::Map params, const std::string& list = {},
        const std::vector<Column>& columns = {}) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto result = client->request(method, std::move(params));
  if (!result) return report(result.error());
  print(list.empty() || context.format == Format::kJson ? *result : (*result)[list], context.format, columns);
  return kOk;
}

bool is_object_id(const std::string& text) {
  return ObjectId::from_hex_text(text).has_value();
}

wire::Dynamic::Map object_params(const std::string& text) {
  return is_object_id(text) ? wire::Dynamic::Map{{"object", text}} : wire::Dynamic::Map{{"alias", text}};
}

}  // namespace

int run_objects(Context& context) {
  return ask(context, "store.list", {}, "objects",
             {{"object", "OBJECT"},
              {"alias", "ALIAS"},
              {"bytes", "BYTES"},
              {"type", "TYPE"},
              {"copies", "COPIES"},
              {"holders", "HOLDERS"}});
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
  auto client = context.connect();
  if (!client) return report(client.error());
  auto receipt =
      client->request("store.put", {{"bytes", Bytes(std::move(*content))},
                                    {"type", "bytes"},
                                    {"replicas", std::strtoll(context.option("replicas", "2").c_str(), nullptr, 10)},
                                    {"wait_for", context.option("receipt", "local")}});
  if (!receipt) return report(receipt.error());
  if (context.has("alias")) {
    auto named = client->request("store.set_alias", {{"alias", context.option("alias")},
                                                     {"object", receipt->text_or("object", "")},
                                                     {"wait_for", context.option("receipt", "local")}});
    if (!named) return report(named.error());
  }
  if (context.format == Format::kQuiet) {
    fmt::print("{}\n", receipt->text_or("object", ""));
  } else {
    print(*receipt, context.format);
  }
  return kOk;
}

int run_objects_get(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  auto params = object_params(context.arguments[0]);
  params["inline"] = true;
  auto result = client->request("store.get", std::move(params), seconds(60));
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
  const std::string& name = context.arguments[0];
  return ask(context, is_object_id(name) ? "store.delete" : "store.delete_alias", object_params(name));
}

int run_objects_locate(Context& context) {
  return ask(context, "store.locate", object_params(context.arguments[0]));
}

int run_streams(Context& context) {
  return ask(context, "streams.list", {}, "streams",
             {{"name", "STREAM"},
              {"url", "URL"},
              {"partitions", "PARTITIONS"},
              {"owner", "OWNER"},
              {"records", "RECORDS"},
              {"closed", "CLOSED"}});
}

int run_streams_status(Context& context) {
  return ask(context, "streams.status", {{"name", context.arguments[0]}});
}

int run_streams_close(Context& context) {
  return ask(context, "streams.close", {{"name", context.arguments[0]}, {"writer", "shoal"}, {"force", true}});
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
  print(*result, context.format);
  return kOk;
}

int run_streams_tail(Context& context) {
  auto client = context.connect();
  if (!client) return report(client.error());
  const std::string count_text = context.option("count", "0");
  std::int64_t left = std::strtoll(count_text.c_str(), nullptr, 10);
  const bool bounded = left > 0;
  auto quiet_time = parse_duration(context.option("timeout", "365d"));
  if (!quiet_time) return report(quiet_time.error());
  const std::string consumer = fmt::format("shoal-{}", getpid());
  std::int64_t quiet_us = 0;
  while (true) {
    auto result = client->request("streams.poll", {{"name", context.arguments[0]},
                                                   {"group", consumer},
                                                   {"mode", "broadcast"},
                                                   {"consumer", consumer},
                                                   {"max", bounded ? std::min<std::int64_t>(left, 500) : 500},
                                                   {"timeout_ms", 500},
                                                   {"offset", context.option("from", "earliest")}});
    if (!result) return report(result.error());
    const auto* records = (*result)["records"].as_array();
    const bool any = records != nullptr && !records->empty();
    if (any) {
      for (const auto& record : *records) {
        const auto* fields = record.as_array();
        if (fields == nullptr || fields->size() < 6) continue;
        const Bytes* value = (*fields)[0].as_bytes();
        if (context.format == Format::kJson) {
          print(wire::Dynamic(wire::Dynamic::Map{{"value", value != nullptr ? std::string(*value) : ""},
                                                 {"timestamp_ms", (*fields)[2]},
                                                 {"partition", (*fields)[4]},
                                                 {"offset", (*fields)[5]}}),
                context.format);
        } else if (value != nullptr) {
          fmt::print("{}\n", std::string_view(*value));
        }
        if (bounded && --left == 0) return kOk;
      }
      std::fflush(stdout);
    }
    if (result->bool_or("closed", false)) return kOk;
    quiet_us = any ? 0 : quiet_us + 500'000;
    if (quiet_us >= quiet_time->us) return kTimedOut;
  }
}

}  // namespace shoal::cli
