#include "protocol/wire/codec.h"

#include <cmath>
#include <msgpack.hpp>

namespace shoal::wire {

struct Encoder::Impl {
  msgpack::sbuffer buffer;
  msgpack::packer<msgpack::sbuffer> packer{buffer};
};

Encoder::Encoder() : impl_(std::make_unique<Impl>()) {}
Encoder::~Encoder() = default;
void Encoder::nil() {
  impl_->packer.pack_nil();
}
void Encoder::boolean(bool value) {
  value ? impl_->packer.pack_true() : impl_->packer.pack_false();
}
void Encoder::u64(std::uint64_t value) {
  impl_->packer.pack_uint64(value);
}
void Encoder::i64(std::int64_t value) {
  impl_->packer.pack_int64(value);
}
void Encoder::real(double value) {
  impl_->packer.pack_double(value);
}
void Encoder::text(std::string_view value) {
  impl_->packer.pack_str(static_cast<std::uint32_t>(value.size()));
  impl_->packer.pack_str_body(value.data(), static_cast<std::uint32_t>(value.size()));
}
void Encoder::binary(std::string_view value) {
  impl_->packer.pack_bin(static_cast<std::uint32_t>(value.size()));
  impl_->packer.pack_bin_body(value.data(), static_cast<std::uint32_t>(value.size()));
}
void Encoder::array(std::size_t items) {
  impl_->packer.pack_array(static_cast<std::uint32_t>(items));
}
void Encoder::map(std::size_t pairs) {
  impl_->packer.pack_map(static_cast<std::uint32_t>(pairs));
}
std::size_t Encoder::size() const {
  return impl_->buffer.size();
}
std::string_view Encoder::view() const {
  return {impl_->buffer.data(), impl_->buffer.size()};
}
void Encoder::clear() {
  impl_->buffer.clear();
}
Bytes Encoder::take() {
  Bytes out(view());
  impl_->buffer.clear();
  return out;
}

namespace {

const msgpack::object& object_of(const void* p) {
  return *static_cast<const msgpack::object*>(p);
}

// Strings stay in the frame: nothing is copied while parsing.
bool keep_reference(msgpack::type::object_type /*type*/, std::size_t /*size*/, void* /*user*/) {
  return true;
}

}  // namespace

Node::Kind Node::kind() const {
  switch (object_of(object_).type) {
    case msgpack::type::BOOLEAN:
      return Kind::kBool;
    case msgpack::type::POSITIVE_INTEGER:
      return Kind::kUnsigned;
    case msgpack::type::NEGATIVE_INTEGER:
      return Kind::kSigned;
    case msgpack::type::FLOAT32:
    case msgpack::type::FLOAT64:
      return Kind::kReal;
    case msgpack::type::STR:
      return Kind::kText;
    case msgpack::type::BIN:
      return Kind::kBinary;
    case msgpack::type::ARRAY:
      return Kind::kArray;
    case msgpack::type::MAP:
      return Kind::kMap;
    case msgpack::type::NIL:
    case msgpack::type::EXT:
      break;
  }
  return Kind::kNil;
}

bool Node::as_bool(bool& out) const {
  const auto& o = object_of(object_);
  if (o.type != msgpack::type::BOOLEAN) return false;
  out = o.via.boolean;
  return true;
}

bool Node::as_u64(std::uint64_t& out) const {
  const auto& o = object_of(object_);
  if (o.type != msgpack::type::POSITIVE_INTEGER) return false;
  out = o.via.u64;
  return true;
}

bool Node::as_i64(std::int64_t& out) const {
  const auto& o = object_of(object_);
  if (o.type == msgpack::type::NEGATIVE_INTEGER) {
    out = o.via.i64;
    return true;
  }
  if (o.type != msgpack::type::POSITIVE_INTEGER || o.via.u64 > static_cast<std::uint64_t>(INT64_MAX)) return false;
  out = static_cast<std::int64_t>(o.via.u64);
  return true;
}

bool Node::as_real(double& out) const {
  const auto& o = object_of(object_);
  if (o.type == msgpack::type::FLOAT64 || o.type == msgpack::type::FLOAT32) {
    out = o.via.f64;
    return true;
  }
  std::int64_t whole = 0;
  if (!as_i64(whole)) return false;
  out = static_cast<double>(whole);
  return true;
}

bool Node::as_text(std::string_view& out) const {
  const auto& o = object_of(object_);
  if (o.type != msgpack::type::STR) return false;
  out = {o.via.str.ptr, o.via.str.size};
  return true;
}

bool Node::as_binary(std::string_view& out) const {
  const auto& o = object_of(object_);
  if (o.type != msgpack::type::BIN) return as_text(out);
  out = {o.via.bin.ptr, o.via.bin.size};
  return true;
}

std::size_t Node::size() const {
  const auto& o = object_of(object_);
  if (o.type == msgpack::type::ARRAY) return o.via.array.size;
  if (o.type == msgpack::type::MAP) return o.via.map.size;
  return 0;
}

Node Node::at(std::size_t index) const {
  return Node(&object_of(object_).via.array.ptr[index]);
}
Node Node::key(std::size_t index) const {
  return Node(&object_of(object_).via.map.ptr[index].key);
}
Node Node::value(std::size_t index) const {
  return Node(&object_of(object_).via.map.ptr[index].val);
}

struct Document::Impl {
  msgpack::object_handle handle;
};

Document::Document(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Document::Document(Document&&) noexcept = default;
Document& Document::operator=(Document&&) noexcept = default;
Document::~Document() = default;
Node Document::root() const {
  return Node(&impl_->handle.get());
}

Result<Document> Document::parse(std::string_view frame, const Limits& limits) {
  if (frame.size() > limits.frame_bytes_max) return fail(Code::kInvalid, "the frame is larger than its limit");
  auto impl = std::make_unique<Impl>();
  try {
    std::size_t offset = 0;
    const msgpack::unpack_limit bounds(limits.items_max, limits.items_max, limits.string_bytes_max,
                                       limits.string_bytes_max, 0, limits.depth_max);
    // A header may claim more items than the frame has bytes; msgpack allocates for the claim first, so the claim is
    // bounded by the frame as well.
    msgpack::unpack(impl->handle, frame.data(), frame.size(), offset, keep_reference, nullptr, bounds);
    if (offset != frame.size()) return fail(Code::kInvalid, "the frame has bytes after its message");
  } catch (const std::exception& e) {
    return fail(Code::kInvalid, std::string("the frame is not valid msgpack: ") + e.what());
  }
  return Document(std::move(impl));
}

}  // namespace shoal::wire
