#include "tools/shoal/view.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <set>

#include "protocol/base/nearest.h"

namespace shoal::cli {
namespace {

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> out;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const auto end = std::min(text.find(at, begin), text.size());
    if (end > begin) out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

const wire::Dynamic& reach(const wire::Dynamic& row, std::string_view key) {
  const wire::Dynamic& direct = row[key];
  const auto dot = key.find('.');
  if (!direct.is_nil() || dot == std::string_view::npos) return direct;
  return reach(row[key.substr(0, dot)], key.substr(dot + 1));
}

bool passes(const wire::Dynamic& row, const std::string& key, const std::string& wanted) {
  const wire::Dynamic& value = reach(row, key);
  if (value.is_nil()) return wanted.empty() || wanted == "-";
  if (const auto* flag = value.as_bool()) return wanted == (*flag ? "true" : "false") || wanted == plain(value);
  if (const auto* array = value.as_array()) {
    return std::any_of(array->begin(), array->end(), [&](const wire::Dynamic& item) { return plain(item) == wanted; });
  }
  return plain(value) == wanted;
}

// Nothing first, then numbers, then text.
bool less(const wire::Dynamic& a, const wire::Dynamic& b) {
  const auto number = [](const wire::Dynamic& value) -> std::optional<double> {
    if (const auto* whole = value.as_int()) return static_cast<double>(*whole);
    if (const auto* real = value.as_real()) return *real;
    if (const auto* flag = value.as_bool()) return *flag ? 1 : 0;
    return std::nullopt;
  };
  const auto rank = [&](const wire::Dynamic& value) { return value.is_nil() ? 0 : number(value) ? 1 : 2; };
  if (rank(a) != rank(b)) return rank(a) < rank(b);
  if (number(a)) return *number(a) < *number(b);
  return plain(a) < plain(b);
}

Result<> check_key(const std::string& key, const std::set<std::string, std::less<>>& known) {
  const std::string first = key.substr(0, key.find('.'));
  if (known.count(key) != 0 || known.count(first) != 0) return {};
  const std::vector<std::string_view> names(known.begin(), known.end());
  if (auto meant = nearest(key, names)) {
    return fail(Code::kInvalid, fmt::format("there is no column \"{}\"; did you mean \"{}\"?", key, *meant));
  }
  return fail(Code::kInvalid, fmt::format("there is no column \"{}\"; there are {}", key, fmt::join(names, ", ")));
}

Duration interval_of(const Context& context) {
  return parse_duration(context.option("interval", "2s")).value_or(seconds(2));
}

// The answer as text, after --filter and the others.
Result<std::string> drawn(const Context& context, const Selection& selection, Shape shape, wire::Dynamic answer,
                          const Draw& draw) {
  if (auto applied = apply(selection, answer, shape); !applied) return tl::unexpected<Error>(applied.error());
  const bool people = context.look.format == Format::kTable || context.look.format == Format::kWide;
  return draw && people ? draw(answer, context.look) : render(answer, shape, context.look);
}

int watch(Context& context, const Selection& selection, const Shape& shape, const Fetch& fetch, const Draw& draw) {
  auto client = context.connect();
  if (!client) return report(client.error());
  const auto begin = std::chrono::steady_clock::now();
  const auto interval = std::chrono::microseconds(interval_of(context).us);
  const bool redraw =
      isatty(STDOUT_FILENO) != 0 && std::string(std::getenv("TERM") != nullptr ? std::getenv("TERM") : "") != "dumb";
  while (true) {
    auto answer = fetch(*client);
    if (!answer) return report(answer.error());
    auto text = drawn(context, selection, shape, std::move(*answer), draw);
    if (!text) return report(text.error());
    put((redraw ? "\x1b[H\x1b[2J" : "") + *text);
    const auto next = std::chrono::steady_clock::now() + interval;
    if (context.timeout && next - begin > std::chrono::microseconds(context.timeout->us)) return kOk;
    ::poll(nullptr, 0, static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(interval).count()));
  }
}

}  // namespace

Result<Selection> Selection::of(const Context& context) {
  Selection out;
  if (auto it = context.options.find("filter"); it != context.options.end()) {
    for (const auto& said : it->second) {
      const auto equals = said.find('=');
      if (equals == std::string::npos || equals == 0)
        return fail(Code::kInvalid, fmt::format("--filter takes KEY=VALUE, not \"{}\"", said));
      out.filters.emplace_back(said.substr(0, equals), said.substr(equals + 1));
    }
  }
  for (auto& key : split(context.option("sort"), ',')) {
    const bool descending = key.starts_with('-');
    out.sort.emplace_back(descending ? key.substr(1) : key, descending);
  }
  out.columns = split(context.option("columns"), ',');
  return out;
}

Result<> apply(const Selection& selection, wire::Dynamic& answer, Shape& shape) {
  if (selection.filters.empty() && selection.sort.empty() && selection.columns.empty()) return {};
  auto* rows = answer.as_map() == nullptr ? nullptr : (*answer.as_map())[std::string(shape.list)].as_array();
  if (rows == nullptr) return {};
  std::set<std::string, std::less<>> known;
  for (const auto& column : shape.columns) known.emplace(column.key);
  for (const auto& row : *rows) {
    if (row.as_map() == nullptr) continue;
    for (const auto& [key, value] : *row.as_map()) known.insert(key);
  }
  for (const auto& [key, value] : selection.filters) {
    if (auto checked = check_key(key, known); !checked) return checked;
    std::erase_if(*rows, [&](const wire::Dynamic& row) { return !passes(row, key, value); });
  }
  for (auto sort = selection.sort.rbegin(); sort != selection.sort.rend(); ++sort) {
    const auto& [key, descending] = *sort;
    if (auto checked = check_key(key, known); !checked) return checked;
    std::stable_sort(rows->begin(), rows->end(), [&](const wire::Dynamic& a, const wire::Dynamic& b) {
      return descending ? less(reach(b, key), reach(a, key)) : less(reach(a, key), reach(b, key));
    });
  }
  for (const auto& key : selection.columns) {
    if (auto checked = check_key(key, known); !checked) return checked;
  }
  shape.chosen = selection.columns;
  return {};
}

int show(Context& context, const Shape& shape, const Fetch& fetch, const Draw& draw) {
  auto selection = Selection::of(context);
  if (!selection) return report(selection.error());
  if (auto interval = parse_duration(context.option("interval", "2s")); !interval) return report(interval.error());
  if (context.has("watch")) return watch(context, *selection, shape, fetch, draw);
  auto client = context.connect();
  if (!client) return report(client.error());
  auto answer = fetch(*client);
  if (!answer) return report(answer.error());
  auto text = drawn(context, *selection, shape, std::move(*answer), draw);
  if (!text) return report(text.error());
  put(*text);
  return kOk;
}

int show_request(Context& context, const Shape& shape, const std::string& method, wire::Dynamic::Map params,
                 const Draw& draw) {
  return show(context, shape, [&](Client& client) { return client.request(method, params); }, draw);
}

int show_known(Context& context, const Shape& shape, wire::Dynamic answer) {
  auto selection = Selection::of(context);
  if (!selection) return report(selection.error());
  auto text = drawn(context, *selection, shape, std::move(answer), nullptr);
  if (!text) return report(text.error());
  put(*text);
  return kOk;
}

int carefully(Context& context, const std::vector<Step>& plan, const std::function<int()>& act) {
  if (context.has("dry-run")) {
    wire::Dynamic::Array rows;
    for (const auto& step : plan)
      rows.emplace_back(wire::Dynamic::Map{{"action", step.action}, {"what", step.what}, {"detail", step.detail}});
    const Shape shape{"plan", {{"action", "ACTION"}, {"what", "WHAT"}, {"detail", "DETAIL"}}, "what"};
    put(render(wire::Dynamic(wire::Dynamic::Map{{"plan", std::move(rows)}, {"dry_run", true}}), shape, context.look));
    return kOk;
  }
  if (!context.has("yes") && isatty(STDIN_FILENO) != 0 && isatty(STDERR_FILENO) != 0) {
    for (const auto& step : plan)
      fmt::print(stderr, "{} {}{}\n", step.action, step.what, step.detail.empty() ? "" : " (" + step.detail + ")");
    fmt::print(stderr, "go on? [y/N] ");
    std::string answer;
    std::getline(std::cin, answer);
    if (answer != "y" && answer != "Y" && answer != "yes") {
      complain("nothing was done");
      return kFailed;
    }
  }
  return act();
}

}  // namespace shoal::cli
