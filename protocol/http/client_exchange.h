// protocol/http/client_exchange.h
//
// One HTTP/1.1 exchange seen from the client: the bytes to send, and the status in the bytes that come back. No socket,
// no thread, no clock, as the server's side. Thread-safety: none.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/base/result.h"

namespace shoal::http {

// Where an http:// URL points: "http://[::1]:8080/a?b" is ::1, 8080, /a?b.
struct Target {
  std::string host;
  std::string port;       // "80" when the URL names none
  std::string authority;  // for the Host header
  std::string path;       // with the query; at least "/"
};
// kInvalid for other schemes and for what is no URL.
Result<Target> parse_url(std::string_view url);

// A request that asks the server to close the connection after its answer.
std::string request_bytes(std::string_view method, const Target& target, std::string_view content_type,
                          std::string_view body);

class ClientExchange {
 public:
  ClientExchange();
  ~ClientExchange();
  ClientExchange(const ClientExchange&) = delete;
  ClientExchange& operator=(const ClientExchange&) = delete;

  // Bytes from the server. The status once the head of its answer is here; kCorrupt when it is no HTTP or too large.
  Result<std::optional<unsigned>> receive(std::string_view bytes);

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
  std::string input_;
};

}  // namespace shoal::http
