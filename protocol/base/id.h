// protocol/base/id.h
//
// Identifiers as distinct types, so that an agent id can never be passed where a task number is meant.
// Values only: how an id is made (from a key, a hash, a counter) is the business of whoever makes it.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace shoal {

// Lower-case hexadecimal of `bytes`, two digits a byte.
std::string to_hex(std::string_view bytes);

// The bytes that `hex` spells; nullopt if it has an odd length or another character.
std::optional<std::string> from_hex(std::string_view hex);

// A 128-bit identifier. Ordered by its bytes, so ordered containers iterate alike on every machine.
template <class Tag>
class Id128 {
 public:
  static constexpr std::size_t kSize = 16;

  constexpr Id128() = default;
  constexpr Id128(std::uint64_t high, std::uint64_t low) : high_(high), low_(low) {}

  // Reads 16 big-endian bytes; nullopt for any other length.
  static std::optional<Id128> from_bytes(std::string_view bytes) {
    if (bytes.size() != kSize) return std::nullopt;
    Id128 id;
    for (std::size_t i = 0; i < 8; ++i) {
      id.high_ = id.high_ << 8 | static_cast<unsigned char>(bytes[i]);
      id.low_ = id.low_ << 8 | static_cast<unsigned char>(bytes[i + 8]);
    }
    return id;
  }

  static std::optional<Id128> from_hex_text(std::string_view hex) {
    auto bytes = from_hex(hex);
    return bytes ? from_bytes(*bytes) : std::nullopt;
  }

  std::string bytes() const {
    std::string out(kSize, '\0');
    for (std::size_t i = 0; i < 8; ++i) {
      out[i] = static_cast<char>(high_ >> (56 - 8 * i));
      out[i + 8] = static_cast<char>(low_ >> (56 - 8 * i));
    }
    return out;
  }

  std::string hex() const { return to_hex(bytes()); }

  // The first 8 hexadecimal digits: for logs and tables, never for look-ups.
  std::string brief() const { return hex().substr(0, 8); }

  constexpr std::uint64_t high() const { return high_; }
  constexpr std::uint64_t low() const { return low_; }
  constexpr bool is_zero() const { return high_ == 0 && low_ == 0; }

  friend constexpr auto operator<=>(const Id128&, const Id128&) = default;

 private:
  std::uint64_t high_ = 0;
  std::uint64_t low_ = 0;
};

// A counter or number of one kind.
template <class Tag, class Rep = std::uint64_t>
class Number {
 public:
  using rep = Rep;
  constexpr Number() = default;
  constexpr explicit Number(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  constexpr Number next() const { return Number(static_cast<Rep>(value_ + 1)); }
  friend constexpr auto operator<=>(const Number&, const Number&) = default;

 private:
  Rep value_ = 0;
};

using AgentId = Id128<struct AgentTag>;    // first 16 bytes of SHA-256(public key)
using RealmId = Id128<struct RealmTag>;    // first 16 bytes of SHA-256(realm root public key)
using RegionId = Id128<struct RegionTag>;  // drawn by the agent that founds the region
using AppId = Id128<struct AppTag>;        // drawn by the agent that accepts the application
using ObjectId = Id128<struct ObjectTag>;  // first 16 bytes of SHA-256 of the content, or drawn for a mutable object
using FunctionId = Id128<struct FunctionTag>;  // first 16 bytes of SHA-256 of the pickled function

using EnvironmentId = Id128<struct EnvironmentTag>;  // first 16 bytes of SHA-256 of the bundle

using Incarnation = Number<struct IncarnationTag>;           // grows with every restart or refutation of an agent
using Epoch = Number<struct EpochTag>;                       // grows with every grant of a role
using Instance = Number<struct InstanceTag, std::uint32_t>;  // grows with every attempt of a task
using TaskId = Number<struct TaskTag>;                       // position of the call in its application, from 1
using DatumId = Number<struct DatumTag>;                     // one value of an application, drawn by its driver
using Version = Number<struct VersionTag, std::uint32_t>;    // grows with every write of a datum
using Ticket = Number<struct TicketTag>;                     // names a persist; 0 means "nothing to wait for"
using ClientId = Number<struct ClientTag>;                   // one connection of a local client

}  // namespace shoal

template <class Tag>
struct std::hash<shoal::Id128<Tag>> {
  std::size_t operator()(const shoal::Id128<Tag>& id) const noexcept {
    return static_cast<std::size_t>(id.high() ^ (id.low() * 0x9e3779b97f4a7c15ULL));
  }
};

template <class Tag, class Rep>
struct std::hash<shoal::Number<Tag, Rep>> {
  std::size_t operator()(const shoal::Number<Tag, Rep>& n) const noexcept { return std::hash<Rep>{}(n.value()); }
};
