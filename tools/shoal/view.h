// tools/shoal/view.h
//
// Showing an answer the way --filter, --sort, --columns and --watch ask for it, and what several commands share on top:
// asking one thing and showing it, and the question before something is destroyed.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tools/shoal/command.h"

namespace shoal::cli {

// What --filter, --sort and --columns say, checked against the answer.
struct Selection {
  std::vector<std::pair<std::string, std::string>> filters;  // all must hold
  std::vector<std::pair<std::string, bool>> sort;            // key, descending; the first counts most
  std::vector<std::string> columns;

  static Result<Selection> of(const Context& context);
};

// Keeps the rows under `shape.list` that pass, in the order wanted, and sets the columns of `shape`. A key may reach
// into maps: "labels.tier". kInvalid for a key that no row and no column has, naming the nearest.
Result<> apply(const Selection& selection, wire::Dynamic& answer, Shape& shape);

// Fetches and shows, once or with --watch again and again until --timeout. `draw` replaces the table.
using Fetch = std::function<Result<wire::Dynamic>(Client&)>;
using Draw = std::function<std::string(const wire::Dynamic&, const Look&)>;
int show(Context& context, const Shape& shape, const Fetch& fetch, const Draw& draw = nullptr);
// Asks the agent `method` and shows the answer.
int show_request(Context& context, const Shape& shape, const std::string& method, wire::Dynamic::Map params = {},
                 const Draw& draw = nullptr);
// Shows what is known already.
int show_known(Context& context, const Shape& shape, wire::Dynamic answer);

// One thing that is about to be done, for --dry-run and for the question.
struct Step {
  std::string action;
  std::string what;
  std::string detail;
};
// Prints the plan with --dry-run; asks on a terminal unless --yes; then `act`. Without a terminal nobody is asked.
int carefully(Context& context, const std::vector<Step>& plan, const std::function<int()>& act);

}  // namespace shoal::cli
