// Goal: a manifest that passes names nothing outside of its bundle, and no text passes for a wheel's name, a tag or a
// platform by crashing its reader. Method: arbitrary bytes as each of them.
#include "agent/environment/manifest.h"
#include "agent/environment/wheel.h"
#include "scheduler/wheel_tag.h"
#include "tests/fuzz/fuzz.h"

using namespace shoal;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = fuzz::view(data, size);
  if (auto manifest = environment::parse_manifest(input)) {
    for (const auto& module : manifest->modules) fuzz::require(environment::is_plain(module));
    for (const auto& wheel : manifest->wheels) fuzz::require(environment::is_plain(wheel));
    static_cast<void>(environment::requirements_of(*manifest));
  }
  if (auto wheel = environment::parse_wheel_name(input)) fuzz::require(environment::is_plain(wheel->file));
  static_cast<void>(environment::build_of("lib.cpython-311-x.so", input));
  const scheduler::Platform here{11, "cp311", "x86_64", "glibc", 2, 36};
  static_cast<void>(scheduler::suits(here, input));
  if (auto platform = scheduler::parse_platform(input)) fuzz::require(scheduler::suits(*platform, "py3-none-any") != 0);
  return 0;
}
