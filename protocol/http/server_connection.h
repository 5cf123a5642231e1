// protocol/http/server_connection.h
//
// One HTTP/1.1 connection seen from the server: bytes in, requests out, responses in, bytes out. No socket, no thread,
// no clock. Whatever arrives, it answers or closes; it never throws and holds no more than its limits.
//
//   receive(bytes) ──► next() ──► request ──► answer(response) ──► take_output()
//
// Requests are handed out one at a time, in the order they came; what was sent ahead (pipelining) waits. Follows RFC
// 9112. Thread-safety: none.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shoal::http {

struct Limits {
  std::size_t header_bytes_max = 8U << 10;  // request line and headers: 431 beyond
  std::size_t body_bytes_max = 64U << 10;   // 413 beyond
};

struct Request {
  std::string method;                          // as sent: "GET"
  std::string path;                            // of the target, without the query; not decoded
  std::string query;                           // behind '?', not decoded
  std::map<std::string, std::string> headers;  // names in lower case; of repeated ones the last
  std::string body;
};

struct Response {
  unsigned status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // more of them
};

class ServerConnection {
 public:
  explicit ServerConnection(Limits limits = {});
  ~ServerConnection();
  ServerConnection(const ServerConnection&) = delete;
  ServerConnection& operator=(const ServerConnection&) = delete;

  // Bytes from the peer. Ignored once closing().
  void receive(std::string_view bytes);
  // False while enough has arrived: the owner stops reading, so that TCP slows the peer down.
  bool wants_input() const;
  // The next whole request; nothing while one is being answered, or before more bytes arrive.
  std::optional<Request> next();
  // Answers the request that next() gave. Exactly once for each.
  void answer(const Response& response);
  // Bytes for the peer since the last call.
  std::string take_output();
  // No request is under way and none has begun to arrive: the peer may stay silent as long as keep-alive lasts.
  bool idle() const;
  // To be closed as soon as the output is sent.
  bool closing() const { return closing_; }
  // The peer sent something that is no request, or too large a one; it was told.
  bool refused() const { return refused_; }

 private:
  struct Parser;
  void refuse(unsigned status, std::string_view why);
  void write(const Response& response, bool keep_alive, bool head, unsigned version);

  const Limits limits_;
  std::unique_ptr<Parser> parser_;  // of a request that is arriving or being answered
  std::string input_;
  std::string output_;
  bool answering_ = false;
  bool closing_ = false;
  bool refused_ = false;
  bool continued_ = false;  // the body of the request that is arriving was asked for
};

// The usual words for a status: "Not Found".
std::string_view reason_of(unsigned status);

}  // namespace shoal::http
