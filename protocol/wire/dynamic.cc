#include "protocol/wire/dynamic.h"

namespace shoal::wire {

const Dynamic& Dynamic::operator[](std::string_view key) const {
  static const Dynamic kNil;
  const Map* map = as_map();
  if (map == nullptr) return kNil;
  auto it = map->find(key);
  return it == map->end() ? kNil : it->second;
}

std::string Dynamic::text_or(std::string_view key, std::string otherwise) const {
  const std::string* text = (*this)[key].as_text();
  if (text != nullptr) return *text;
  return otherwise;
}

std::int64_t Dynamic::int_or(std::string_view key, std::int64_t otherwise) const {
  const std::int64_t* number = (*this)[key].as_int();
  return number != nullptr ? *number : otherwise;
}

bool Dynamic::bool_or(std::string_view key, bool otherwise) const {
  const bool* flag = (*this)[key].as_bool();
  return flag != nullptr ? *flag : otherwise;
}

void put(Encoder& e, const Dynamic& v) {
  if (const auto* flag = v.as_bool()) {
    e.boolean(*flag);
  } else if (const auto* number = v.as_int()) {
    e.i64(*number);
  } else if (const auto* real = v.as_real()) {
    e.real(*real);
  } else if (const auto* text = v.as_text()) {
    e.text(*text);
  } else if (const auto* bytes = v.as_bytes()) {
    e.binary(*bytes);
  } else if (const auto* array = v.as_array()) {
    e.array(array->size());
    for (const auto& item : *array) put(e, item);
  } else if (const auto* map = v.as_map()) {
    e.map(map->size());
    for (const auto& [key, value] : *map) {
      e.text(key);
      put(e, value);
    }
  } else {
    e.nil();
  }
}

bool get(Node n, Dynamic& v) {
  switch (n.kind()) {
    case Node::Kind::kNil:
      v = Dynamic();
      return true;
    case Node::Kind::kBool: {
      bool flag = false;
      n.as_bool(flag);
      v = Dynamic(flag);
      return true;
    }
    case Node::Kind::kUnsigned:
    case Node::Kind::kSigned: {
      std::int64_t number = 0;
      if (!n.as_i64(number)) return false;
      v = Dynamic(number);
      return true;
    }
    case Node::Kind::kReal: {
      double real = 0;
      n.as_real(real);
      v = Dynamic(real);
      return true;
    }
    case Node::Kind::kText: {
      std::string_view text;
      n.as_text(text);
      v = Dynamic(std::string(text));
      return true;
    }
    case Node::Kind::kBinary: {
      std::string_view bytes;
      n.as_binary(bytes);
      v = Dynamic(Bytes(bytes));
      return true;
    }
    case Node::Kind::kArray: {
      Dynamic::Array array;
      array.reserve(n.size());
      for (std::size_t i = 0; i < n.size(); ++i) {
        if (!get(n.at(i), array.emplace_back())) return false;
      }
      v = Dynamic(std::move(array));
      return true;
    }
    case Node::Kind::kMap: {
      Dynamic::Map map;
      for (std::size_t i = 0; i < n.size(); ++i) {
        std::string_view key;
        if (!n.key(i).as_text(key) || !get(n.value(i), map[std::string(key)])) return false;
      }
      v = Dynamic(std::move(map));
      return true;
    }
  }
  return false;
}

}  // namespace shoal::wire
