// protocol/wire/codec.h
//
// Messages to bytes and back, in msgpack, with limits on everything a peer can send. A message is a struct with
//
//   template <class Self, class F> static void fields(Self& self, F&& f) { f(self.a, self.b); }
//
// and travels as an array of its fields in that order. A reader takes a longer array (fields added by version N+1
// are skipped) and a shorter one (fields missing from version N-1 keep their defaults). Decoding is total: a value
// or an error, never an exception or an abort. msgpack itself stays behind this door.
//
// Thread-safety: none; one Encoder or Document is used by one thread.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/base/boxed.h"
#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/base/time.h"
#include "protocol/wire/bytes.h"

namespace shoal::wire {

// What a decoder accepts. Beyond a limit the whole frame is refused with kInvalid.
struct Limits {
  std::size_t frame_bytes_max = 16U << 20;
  std::uint32_t depth_max = 32;
  std::uint32_t items_max = 1U << 17;          // of one array or map
  std::uint32_t string_bytes_max = 16U << 20;  // of one string or binary
};

class Encoder {
 public:
  Encoder();
  ~Encoder();
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  void nil();
  void boolean(bool value);
  void u64(std::uint64_t value);
  void i64(std::int64_t value);
  void real(double value);
  void text(std::string_view value);
  void binary(std::string_view value);
  void array(std::size_t items);
  void map(std::size_t pairs);

  std::size_t size() const;
  // Forgets the bytes, keeps the memory: for encoding one message after another.
  void clear();
  // The bytes so far; the encoder is empty afterwards.
  Bytes take();
  std::string_view view() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// One value inside a Document. Valid while the Document lives.
class Node {
 public:
  enum class Kind : std::uint8_t { kNil, kBool, kUnsigned, kSigned, kReal, kText, kBinary, kArray, kMap };
  explicit Node(const void* object) : object_(object) {}
  Kind kind() const;
  bool as_bool(bool& out) const;
  bool as_u64(std::uint64_t& out) const;
  bool as_i64(std::int64_t& out) const;         // also from an unsigned that fits
  bool as_real(double& out) const;              // also from an integer
  bool as_text(std::string_view& out) const;    // text only
  bool as_binary(std::string_view& out) const;  // binary, or text
  std::size_t size() const;                     // items of an array, pairs of a map, else 0
  Node at(std::size_t index) const;             // array item; index < size()
  Node key(std::size_t index) const;            // map key
  Node value(std::size_t index) const;          // map value

 private:
  const void* object_;
};

// A decoded frame: owns the tree that Nodes point into (strings point into the frame, which must outlive it).
class Document {
 public:
  static Result<Document> parse(std::string_view frame, const Limits& limits = {});
  Document(Document&&) noexcept;
  Document& operator=(Document&&) noexcept;
  ~Document();
  Document(const Document&) = delete;
  Document& operator=(const Document&) = delete;
  Node root() const;

 private:
  struct Impl;
  explicit Document(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

template <class T>
concept Message = std::is_class_v<T> && requires(T& t) { T::fields(t, [](auto&&...) {}); };

// ---- encoding ----
inline void put(Encoder& e, bool v) {
  e.boolean(v);
}
inline void put(Encoder& e, double v) {
  e.real(v);
}
template <std::unsigned_integral T>
  requires(!std::same_as<T, bool>)
void put(Encoder& e, T v) {
  e.u64(v);
}
template <std::signed_integral T>
void put(Encoder& e, T v) {
  e.i64(v);
}
template <class T>
  requires std::is_enum_v<T>
void put(Encoder& e, T v) {
  e.u64(static_cast<std::uint64_t>(v));
}
inline void put(Encoder& e, const Bytes& v) {
  e.binary(v);
}
inline void put(Encoder& e, const std::string& v) {
  e.text(v);
}
template <class Tag>
void put(Encoder& e, const Id128<Tag>& v) {
  e.binary(v.bytes());
}
template <class Tag, class Rep>
void put(Encoder& e, const Number<Tag, Rep>& v) {
  e.u64(v.value());
}
inline void put(Encoder& e, Instant v) {
  e.i64(v.us);
}
inline void put(Encoder& e, Duration v) {
  e.i64(v.us);
}
inline void put(Encoder& e, WallTime v) {
  e.i64(v.unix_ms);
}
template <class T>
void put(Encoder& e, const std::optional<T>& v);
template <class T>
void put(Encoder& e, const Boxed<T>& v);
template <class T>
void put(Encoder& e, const std::vector<T>& v);
template <class T>
void put(Encoder& e, const std::set<T>& v);
template <class K, class V>
void put(Encoder& e, const std::map<K, V>& v);
template <class A, class B>
void put(Encoder& e, const std::pair<A, B>& v);
template <class... T>
void put(Encoder& e, const std::variant<T...>& v);

template <Message T>
void put(Encoder& e, const T& v) {
  T::fields(v, [&e](const auto&... field) {
    e.array(sizeof...(field));
    (put(e, field), ...);
  });
}
template <class T>
void put(Encoder& e, const Boxed<T>& v) {
  if (v) {
    put(e, *v);
  } else {
    e.nil();
  }
}
template <class T>
void put(Encoder& e, const std::optional<T>& v) {
  if (v) {
    put(e, *v);
  } else {
    e.nil();
  }
}
template <class T>
void put(Encoder& e, const std::vector<T>& v) {
  e.array(v.size());
  for (const auto& item : v) put(e, item);
}
template <class T>
void put(Encoder& e, const std::set<T>& v) {
  e.array(v.size());
  for (const auto& item : v) put(e, item);
}
template <class K, class V>
void put(Encoder& e, const std::map<K, V>& v) {
  e.map(v.size());
  for (const auto& [key, value] : v) {
    put(e, key);
    put(e, value);
  }
}
template <class A, class B>
void put(Encoder& e, const std::pair<A, B>& v) {
  e.array(2);
  put(e, v.first);
  put(e, v.second);
}
// A variant travels as [index, value]: alternatives are only ever added at the end.
template <class... T>
void put(Encoder& e, const std::variant<T...>& v) {
  e.array(2);
  e.u64(v.index());
  std::visit([&e](const auto& alternative) { put(e, alternative); }, v);
}

// ---- decoding: false when the node does not fit the type ----
inline bool get(Node n, bool& v) {
  return n.as_bool(v);
}
inline bool get(Node n, double& v) {
  return n.as_real(v);
}
template <std::unsigned_integral T>
  requires(!std::same_as<T, bool>)
bool get(Node n, T& v) {
  std::uint64_t wide = 0;
  if (!n.as_u64(wide) || wide > std::numeric_limits<T>::max()) return false;
  v = static_cast<T>(wide);
  return true;
}
template <std::signed_integral T>
bool get(Node n, T& v) {
  std::int64_t wide = 0;
  if (!n.as_i64(wide) || wide > std::numeric_limits<T>::max() || wide < std::numeric_limits<T>::min()) return false;
  v = static_cast<T>(wide);
  return true;
}
// Enumerations are not range-checked here: whoever switches on one must treat an unknown value as an error.
template <class T>
  requires std::is_enum_v<T>
bool get(Node n, T& v) {
  std::underlying_type_t<T> raw{};
  if (!get(n, raw)) return false;
  v = static_cast<T>(raw);
  return true;
}
inline bool get(Node n, Bytes& v) {
  std::string_view s;
  if (!n.as_binary(s)) return false;
  v.assign(s);
  return true;
}
inline bool get(Node n, std::string& v) {
  std::string_view s;
  if (!n.as_text(s)) return false;
  v.assign(s);
  return true;
}
template <class Tag>
bool get(Node n, Id128<Tag>& v) {
  std::string_view s;
  if (!n.as_binary(s)) return false;
  auto id = Id128<Tag>::from_bytes(s);
  if (!id) return false;
  v = *id;
  return true;
}
template <class Tag, class Rep>
bool get(Node n, Number<Tag, Rep>& v) {
  Rep raw{};
  if (!get(n, raw)) return false;
  v = Number<Tag, Rep>(raw);
  return true;
}
inline bool get(Node n, Instant& v) {
  return get(n, v.us);
}
inline bool get(Node n, Duration& v) {
  return get(n, v.us);
}
inline bool get(Node n, WallTime& v) {
  return get(n, v.unix_ms);
}
template <class T>
bool get(Node n, std::optional<T>& v);
template <class T>
bool get(Node n, Boxed<T>& v);
template <class T>
bool get(Node n, std::vector<T>& v);
template <class T>
bool get(Node n, std::set<T>& v);
template <class K, class V>
bool get(Node n, std::map<K, V>& v);
template <class A, class B>
bool get(Node n, std::pair<A, B>& v);
template <class... T>
bool get(Node n, std::variant<T...>& v);

template <Message T>
bool get(Node n, T& v) {
  if (n.kind() != Node::Kind::kArray) return false;
  bool ok = true;
  T::fields(v, [&n, &ok](auto&... field) {
    std::size_t index = 0;
    const std::size_t present = n.size();
    ((ok = ok && (index >= present || get(n.at(index), field)), ++index), ...);
  });
  return ok;
}
template <class T>
bool get(Node n, Boxed<T>& v) {
  if (n.kind() == Node::Kind::kNil) {
    v.reset();
    return true;
  }
  return get(n, v.emplace());
}
template <class T>
bool get(Node n, std::optional<T>& v) {
  if (n.kind() == Node::Kind::kNil) {
    v.reset();
    return true;
  }
  return get(n, v.emplace());
}
template <class T>
bool get(Node n, std::vector<T>& v) {
  if (n.kind() != Node::Kind::kArray) return false;
  v.clear();
  v.reserve(n.size());
  for (std::size_t i = 0; i < n.size(); ++i) {
    if (!get(n.at(i), v.emplace_back())) return false;
  }
  return true;
}
template <class T>
bool get(Node n, std::set<T>& v) {
  if (n.kind() != Node::Kind::kArray) return false;
  v.clear();
  for (std::size_t i = 0; i < n.size(); ++i) {
    T item{};
    if (!get(n.at(i), item)) return false;
    v.insert(std::move(item));
  }
  return true;
}
template <class K, class V>
bool get(Node n, std::map<K, V>& v) {
  if (n.kind() != Node::Kind::kMap) return false;
  v.clear();
  for (std::size_t i = 0; i < n.size(); ++i) {
    K key{};
    if (!get(n.key(i), key) || !get(n.value(i), v[key])) return false;
  }
  return true;
}
template <class A, class B>
bool get(Node n, std::pair<A, B>& v) {
  return n.kind() == Node::Kind::kArray && n.size() == 2 && get(n.at(0), v.first) && get(n.at(1), v.second);
}
template <class... T>
bool get(Node n, std::variant<T...>& v) {
  std::uint64_t index = 0;
  if (n.kind() != Node::Kind::kArray || n.size() != 2 || !n.at(0).as_u64(index)) return false;
  bool ok = false;
  std::size_t i = 0;
  (
      [&] {
        if (i++ == index) ok = get(n.at(1), v.template emplace<T>());
      }(),
      ...);
  return ok;
}

template <class T>
Bytes encode(const T& message) {
  Encoder e;
  put(e, message);
  return e.take();
}

// Decodes one T from `frame`. kInvalid when it is not msgpack, breaks a limit, or does not fit T.
template <class T>
Result<T> decode(std::string_view frame, const Limits& limits = {}) {
  auto document = Document::parse(frame, limits);
  if (!document) return tl::unexpected<Error>(document.error());
  T out{};
  if (!get(document->root(), out)) return fail(Code::kInvalid, "the message does not have the expected fields");
  return out;
}

}  // namespace shoal::wire
