#include "protocol/http/server_connection.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/core/buffers_range.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cctype>

namespace shoal::http {
namespace {

namespace beast = boost::beast::http;
using ErrorCode = boost::beast::error_code;

std::string text_of(boost::beast::string_view view) {
  return {view.data(), view.size()};
}

std::string lower(boost::beast::string_view view) {
  std::string out = text_of(view);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

unsigned status_of(const ErrorCode& error) {
  if (error == beast::error::header_limit) return 431;
  if (error == beast::error::body_limit) return 413;
  return error == beast::error::bad_version ? 505 : 400;
}

}  // namespace

struct ServerConnection::Parser {
  beast::request_parser<beast::string_body> parser;
};

ServerConnection::ServerConnection(Limits limits) : limits_(limits) {}
ServerConnection::~ServerConnection() = default;

bool ServerConnection::wants_input() const {
  return !closing_ && !answering_ && input_.size() <= limits_.header_bytes_max + limits_.body_bytes_max;
}

void ServerConnection::receive(std::string_view bytes) {
  if (!closing_) input_.append(bytes);
}

bool ServerConnection::idle() const {
  return !answering_ && !parser_ && input_.empty();
}

std::optional<Request> ServerConnection::next() {
  if (closing_ || answering_) return std::nullopt;
  if (!parser_) {
    // Empty lines before a request are allowed (RFC 9112, 2.2), and are not the beginning of one.
    const std::size_t start = std::min(input_.find_first_not_of("\r\n"), input_.size());
    input_.erase(0, start);
    if (input_.empty()) return std::nullopt;
    parser_ = std::make_unique<Parser>();
    parser_->parser.header_limit(static_cast<std::uint32_t>(limits_.header_bytes_max));
    parser_->parser.body_limit(limits_.body_bytes_max);
    parser_->parser.eager(true);
  }
  auto& parser = parser_->parser;
  while (!parser.is_done() && !input_.empty()) {
    ErrorCode error;
    const std::size_t used = parser.put(boost::asio::buffer(input_), error);
    input_.erase(0, used);
    if (error == beast::error::need_more) {
      // What waits for more is a header or the line before a chunk; both are bounded.
      if (used == 0 && input_.size() > limits_.header_bytes_max) {
        refuse(parser.is_header_done() ? 400 : 431, "the request's headers are larger than this agent takes");
        return std::nullopt;
      }
      if (used == 0 || input_.empty()) break;
      continue;
    }
    if (error) {
      refuse(status_of(error), error.message());
      return std::nullopt;
    }
  }
  if (!parser.is_done()) {
    // Some clients (curl) wait for this before they send a body of any size.
    if (parser.is_header_done() && !continued_ && parser.get().version() >= 11 &&
        lower(parser.get()[beast::field::expect]) == "100-continue") {
      output_ += "HTTP/1.1 100 Continue\r\n\r\n";
      continued_ = true;
    }
    return std::nullopt;
  }
  continued_ = false;
  const auto& message = parser.get();
  Request request;
  request.method = text_of(message.method_string());
  const std::string target = text_of(message.target());
  const std::size_t mark = std::min(target.find('?'), target.size());
  request.path = target.substr(0, mark);
  if (mark < target.size()) request.query = target.substr(mark + 1);
  for (const auto& field : message) request.headers[lower(field.name_string())] = text_of(field.value());
  request.body = std::move(parser.get().body());
  if (message.version() >= 11 && message.count(beast::field::host) != 1) {
    refuse(400, "a request of HTTP/1.1 names its host, once");
    return std::nullopt;
  }
  answering_ = true;
  return request;
}

void ServerConnection::answer(const Response& response) {
  if (!answering_) return;
  const auto& message = parser_->parser.get();
  const bool keep_alive = message.keep_alive();
  write(response, keep_alive, message.method() == beast::verb::head, message.version());
  answering_ = false;
  parser_.reset();
  if (!keep_alive) closing_ = true;
}

void ServerConnection::refuse(unsigned status, std::string_view why) {
  Response response;
  response.status = status;
  response.body = std::string(why) + "\n";
  write(response, false, false, 11);
  closing_ = true;
  refused_ = true;
  input_.clear();
  parser_.reset();
}

void ServerConnection::write(const Response& response, bool keep_alive, bool head, unsigned version) {
  beast::response<beast::string_body> message(beast::int_to_status(response.status), version);
  message.reason({reason_of(response.status).data(), reason_of(response.status).size()});
  message.set(beast::field::content_type, response.content_type);
  for (const auto& [name, value] : response.headers) message.set(name, value);
  message.content_length(response.body.size());
  message.keep_alive(keep_alive);
  if (!head) message.body() = response.body;
  beast::response_serializer<beast::string_body> serializer(message);
  serializer.split(head);
  ErrorCode error;
  while (!error && !(head ? serializer.is_header_done() : serializer.is_done())) {
    serializer.next(error, [&](ErrorCode&, const auto& buffers) {
      std::size_t size = 0;
      for (const boost::asio::const_buffer buffer : boost::beast::buffers_range_ref(buffers)) {
        output_.append(static_cast<const char*>(buffer.data()), buffer.size());
        size += buffer.size();
      }
      serializer.consume(size);
    });
  }
  if (error) closing_ = true;
}

std::string ServerConnection::take_output() {
  return std::exchange(output_, {});
}

std::string_view reason_of(unsigned status) {
  const auto words = beast::obsolete_reason(beast::int_to_status(status));
  return {words.data(), words.size()};
}

}  // namespace shoal::http
