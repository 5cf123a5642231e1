// agent/compss/values.h
//
// Parameters of an application as COMPSs writes them, turned into what the program is called with: JSON values, and for
// native programs words of a command line. Which type has which range is COMPSs' (those of Java).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/compss/document.h"
#include "protocol/base/result.h"

namespace shoal::compss {

struct Arguments {
  std::string json;                // an array
  std::vector<std::string> words;  // the same as text; of a list its items, one after the other
};

// Of a <parameters> element: its <params>, ordered by their paramId where all have one. kInvalid names the parameter
// and what it may be. `python` says that texts are written as COMPSs' scripts do for Python: base64 of '#' and the
// text.
Result<Arguments> read_parameters(const Element& parameters, bool python);

// Of the member "parameters" of a JSON body: values as they are; {"type": "INT_T", "value": "3"} means the same as in
// XML. The body was parsed before, so it is JSON.
Result<Arguments> read_json_parameters(std::string_view body);

}  // namespace shoal::compss
