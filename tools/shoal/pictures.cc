#include "tools/shoal/pictures.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "tools/shoal/trace_tasks.h"

namespace shoal::cli {
namespace {

constexpr std::size_t kDrawnMax = 2000;  // beyond this a picture says nothing

// A hue for each function, as far apart as they come one after the other (the golden angle).
class Palette {
 public:
  explicit Palette(const std::vector<TraceTask>& tasks) {
    for (const auto& task : tasks) hues_.emplace(task.function, 0);
    double hue = 210;
    for (auto& [function, own] : hues_) {
      own = static_cast<int>(hue) % 360;
      hue += 137.508;
    }
  }
  int hue(const std::string& function) const { return hues_.at(function); }
  std::string colour(const std::string& function) const { return fmt::format("hsl({},62%,58%)", hue(function)); }

 private:
  std::map<std::string, int> hues_;
};

std::string escape(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string short_name(const std::string& function) {
  return function.substr(function.rfind('.') + 1);
}

std::string svg_head(std::int64_t width, std::int64_t height) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      width, height);
}

std::string legend(const std::vector<TraceTask>& tasks, const Palette& palette, std::int64_t x, std::int64_t y) {
  std::map<std::string, std::size_t> counts;
  for (const auto& task : tasks) ++counts[task.function];
  std::string out;
  for (const auto& [function, count] : counts) {
    out += fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"11\" height=\"11\" fill=\"{}\"/><text x=\"{}\" y=\"{}\">{} × "
        "{}</text>\n",
        x, y, palette.colour(function), x + 16, y + 10, escape(short_name(function)), count);
    y += 16;
  }
  return out;
}

}  // namespace

std::string graph_svg(const wire::Dynamic& trace) {
  const auto tasks = tasks_of(trace, kDrawnMax);
  const Palette palette(tasks);
  constexpr std::int64_t kStepX = 34;
  constexpr std::int64_t kStepY = 56;
  constexpr std::int64_t kMargin = 30;
  // A task lies one layer below the deepest task it depends on.
  std::map<std::int64_t, std::int64_t> layer;
  std::map<std::int64_t, std::int64_t> filled;
  std::map<std::int64_t, std::pair<std::int64_t, std::int64_t>> place;
  std::int64_t widest = 0;
  std::int64_t deepest = 0;
  for (const auto& task : tasks) {
    std::int64_t depth = 0;
    for (const std::int64_t before : task.depends) {
      if (auto it = layer.find(before); it != layer.end()) depth = std::max(depth, it->second + 1);
    }
    layer[task.id] = depth;
    const std::int64_t column = filled[depth]++;
    place[task.id] = {kMargin + column * kStepX, kMargin + depth * kStepY};
    widest = std::max(widest, column);
    deepest = std::max(deepest, depth);
  }
  const std::int64_t legend_x = kMargin * 2 + widest * kStepX + 20;
  std::string out = svg_head(legend_x + 220, std::max<std::int64_t>(200, kMargin * 2 + deepest * kStepY));
  for (const auto& task : tasks) {
    const auto [x, y] = place[task.id];
    for (const std::int64_t before : task.depends) {
      auto from = place.find(before);
      if (from == place.end()) continue;
      out += fmt::format("<path d=\"M{} {} C{} {} {} {} {} {}\" fill=\"none\" stroke=\"#bbb\"/>\n", from->second.first,
                         from->second.second + 9, from->second.first, from->second.second + 30, x, y - 30, x, y - 9);
    }
  }
  for (const auto& task : tasks) {
    const auto [x, y] = place[task.id];
    out += fmt::format(
        "<g><title>{} (task {}) on {}</title><circle cx=\"{}\" cy=\"{}\" r=\"10\" fill=\"{}\"/>"
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"8\">{}</text></g>\n",
        escape(task.function), task.id, escape(task.agent), x, y, palette.colour(task.function), x, y + 3, task.id);
  }
  return out + legend(tasks, palette, legend_x, kMargin) + "</svg>\n";
}

std::string graph_dot(const wire::Dynamic& trace) {
  std::string out = "digraph shoal {\n  node [shape=circle, style=filled];\n";
  const auto tasks = tasks_of(trace, kDrawnMax);
  const Palette palette(tasks);
  for (const auto& task : tasks) {
    const double hue = palette.hue(task.function) / 360.0;
    out += fmt::format("  t{} [label=\"{}\", tooltip=\"{}\", fillcolor=\"{:.3f} 0.5 0.9\"];\n", task.id, task.id,
                       escape(task.function), hue);
    for (const std::int64_t before : task.depends) out += fmt::format("  t{} -> t{};\n", before, task.id);
  }
  return out + "}\n";
}

std::string timeline_svg(const wire::Dynamic& trace) {
  const TraceLanes lanes = lanes_of(tasks_of(trace, kDrawnMax));
  const auto& tasks = lanes.tasks;
  const Palette palette(tasks);
  if (tasks.empty()) return svg_head(400, 40) + "<text x=\"10\" y=\"24\">no finished tasks</text></svg>\n";
  const std::int64_t first = lanes.first_us;
  const std::int64_t last = lanes.last_us;
  constexpr std::int64_t kLeft = 150;
  constexpr std::int64_t kWidth = 900;
  constexpr std::int64_t kRow = 18;
  std::map<std::string, std::int64_t> top;
  std::int64_t y = 30;
  for (const auto& [agent, count] : lanes.agents) {
    top[agent] = y;
    y += static_cast<std::int64_t>(count) * kRow + 8;
  }
  std::string out = svg_head(kLeft + kWidth + 230, std::max<std::int64_t>(y + 20, 160));
  for (const auto& [agent, at] : top) out += fmt::format("<text x=\"8\" y=\"{}\">{}</text>\n", at + 13, escape(agent));
  for (int tick = 0; tick <= 10; ++tick) {
    const std::int64_t x = kLeft + kWidth * tick / 10;
    out += fmt::format(
        "<line x1=\"{0}\" y1=\"22\" x2=\"{0}\" y2=\"{1}\" stroke=\"#eee\"/><text x=\"{0}\" y=\"16\" "
        "text-anchor=\"middle\">{2:.2f} s</text>\n",
        x, y, static_cast<double>(last - first) * tick / 1e7);
  }
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const TraceTask& task = tasks[i];
    const std::int64_t x = kLeft + (task.start_us - first) * kWidth / (last - first);
    const std::int64_t width = std::max<std::int64_t>(1, (task.end_us - task.start_us) * kWidth / (last - first));
    out += fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"><title>{} (task {}) {:.1f} "
        "ms</title></rect>\n",
        x, top[task.agent] + static_cast<std::int64_t>(lanes.lane[i]) * kRow, width, kRow - 3,
        palette.colour(task.function), escape(task.function), task.id,
        static_cast<double>(task.end_us - task.start_us) / 1000.0);
  }
  return out + legend(tasks, palette, kLeft + kWidth + 20, 30) + "</svg>\n";
}

}  // namespace shoal::cli
