// tools/shoal/pictures.h
//
// Pictures of an application, drawn from its trace (request app.trace): {"tasks": [{task, function, agent,
// state, start_us, end_us, depends: [task, …]}, …]}.
#pragma once

#include <string>

#include "protocol/wire/dynamic.h"

namespace shoal::cli {

std::string graph_svg(const wire::Dynamic& trace);          // tasks in layers, coloured by function
std::string graph_dot(const wire::Dynamic& trace);          // Graphviz
std::string timeline_svg(const wire::Dynamic& trace);       // one row an agent and lane, coloured by function
std::string timeline_perfetto(const wire::Dynamic& trace);  // Chrome trace events, for the Perfetto viewer

}  // namespace shoal::cli
