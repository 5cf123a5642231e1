// scheduler/wheel_tag.h
//
// Which machines can use a wheel, an extension module or a shared object: the compatibility tags of Python packages
// (PEP 425, 600 and 656) against what an agent says of itself. Pure: strings in, answers out.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace shoal::scheduler {

// What an agent offers, as the text of its fact "python_platform": "cp311-cp311-x86_64-glibc_2.36".
struct Platform {
  int minor = 0;             // of Python 3
  std::string abi;           // "cp311"; "cp313t" without the global lock
  std::string architecture;  // as uname -m says
  std::string libc;          // "glibc" or "musl"; empty: unknown
  int libc_major = 0;
  int libc_minor = 0;
};
constexpr std::string_view kPlatformFact = "python_platform";

// nullopt for anything else than such a text.
std::optional<Platform> parse_platform(std::string_view text);
std::string platform_text(const Platform& platform);

// How well something with this tag suits the platform; 0: not at all. Of several that do, the largest was made for
// the most special machine. A tag is "<python>-<abi>-<machine>", each a list of alternatives separated by dots:
// "py2.py3-none-any", "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64".
unsigned suits(const Platform& platform, std::string_view tag);

}  // namespace shoal::scheduler
