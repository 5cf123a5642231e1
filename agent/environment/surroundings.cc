#include "agent/environment/surroundings.h"

#include <cstdlib>

namespace shoal::environment {

namespace {

void put_before(std::map<std::string, std::string>& environment, const char* name,
                const std::vector<std::string>& directories) {
  if (directories.empty()) return;
  std::string rest;
  if (auto it = environment.find(name); it != environment.end()) {
    rest = it->second;
  } else if (const char* own = std::getenv(name)) {
    rest = own;
  }
  std::string text;
  for (const auto& directory : directories) text += (text.empty() ? "" : ":") + directory;
  environment[name] = rest.empty() ? text : text + ":" + rest;
}

}  // namespace

void Surroundings::add_to(std::map<std::string, std::string>& environment) const {
  for (const auto& [name, value] : variables) environment.emplace(name, value);
  put_before(environment, "PATH", programs);
  put_before(environment, "LD_LIBRARY_PATH", libraries);
}

void Surroundings::add_all_to(std::map<std::string, std::string>& environment) const {
  add_to(environment);
  put_before(environment, "PYTHONPATH", modules);
}

}  // namespace shoal::environment
