// tools/shoal/pictures.h
//
// Pictures of an application, drawn from its trace (trace_tasks.h).
#pragma once

#include <string>

#include "protocol/wire/dynamic.h"

namespace shoal::cli {

std::string graph_svg(const wire::Dynamic& trace);     // tasks in layers, coloured by function
std::string graph_dot(const wire::Dynamic& trace);     // Graphviz
std::string timeline_svg(const wire::Dynamic& trace);  // one row an agent and lane, coloured by function

}  // namespace shoal::cli
