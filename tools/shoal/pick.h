// tools/shoal/pick.h
//
// What people name, found: objects by alias, id or unique prefix of it, streams by name or unique prefix.
#pragma once

#include <string>

#include "tools/shoal/client.h"

namespace shoal::cli {

struct PickedObject {
  std::string object;  // its id
  std::string alias;   // empty when it was named by id
  wire::Dynamic::Map params() const {
    return alias.empty() ? wire::Dynamic::Map{{"object", object}} : wire::Dynamic::Map{{"alias", alias}};
  }
};

// kNotFound when nothing is called so, kInvalid when several are. Only a full id is believed without asking.
Result<PickedObject> pick_object(Client& client, const std::string& text);
Result<std::string> pick_stream(Client& client, const std::string& text);

}  // namespace shoal::cli
