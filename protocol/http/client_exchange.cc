#include "protocol/http/client_exchange.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <charconv>

namespace shoal::http {
namespace {

namespace beast = boost::beast::http;
constexpr std::size_t kHeaderBytesMax = 16U << 10;

}  // namespace

Result<Target> parse_url(std::string_view url) {
  constexpr std::string_view kScheme = "http://";
  const auto bad = [&] { return fail(Code::kInvalid, "\"" + std::string(url) + "\" is not an http:// URL"); };
  const bool plain = std::all_of(url.begin(), url.end(), [](unsigned char c) { return c > 0x20 && c < 0x7F; });
  if (!plain || !url.starts_with(kScheme)) return bad();
  std::string_view rest = url.substr(kScheme.size());
  const auto end = std::min(rest.find_first_of("/?#"), rest.size());
  Target out;
  out.authority = rest.substr(0, end);
  std::string_view path = rest.substr(end);
  path = path.substr(0, path.find('#'));
  out.path = path.starts_with('/') ? std::string(path) : "/" + std::string(path);
  std::string_view host(out.authority);
  const bool bracketed = host.starts_with('[');
  const auto closing = bracketed ? host.find(']') : 0;
  if (closing == std::string_view::npos) return bad();
  const auto colon = host.find(':', closing);
  std::string_view port = colon == std::string_view::npos ? "80" : host.substr(colon + 1);
  host = bracketed ? host.substr(1, closing - 1) : host.substr(0, colon);
  unsigned number = 0;
  const auto [last, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  const bool is_port = !port.empty() && error == std::errc() && last == port.data() + port.size() && number <= 65535;
  if (host.empty() || !is_port || host.find('@') != std::string_view::npos) return bad();
  out.host = host;
  out.port = port;
  return out;
}

std::string request_bytes(std::string_view method, const Target& target, std::string_view content_type,
                          std::string_view body) {
  std::string out;
  out.append(method).append(" ").append(target.path).append(" HTTP/1.1\r\nHost: ").append(target.authority);
  out.append("\r\nUser-Agent: shoal\r\nAccept: */*\r\nConnection: close\r\n");
  if (!content_type.empty()) out.append("Content-Type: ").append(content_type).append("\r\n");
  out.append("Content-Length: ").append(std::to_string(body.size())).append("\r\n\r\n").append(body);
  return out;
}

struct ClientExchange::Parser {
  beast::response_parser<beast::empty_body> parser;
};

ClientExchange::ClientExchange() : parser_(std::make_unique<Parser>()) {
  parser_->parser.header_limit(kHeaderBytesMax);
}
ClientExchange::~ClientExchange() = default;

Result<std::optional<unsigned>> ClientExchange::receive(std::string_view bytes) {
  input_.append(bytes);
  auto& parser = parser_->parser;
  while (!parser.is_header_done()) {
    boost::beast::error_code error;
    const std::size_t used = parser.put(boost::asio::buffer(input_), error);
    input_.erase(0, used);
    if (error == beast::error::need_more) {
      if (input_.size() > kHeaderBytesMax) return fail(Code::kCorrupt, "the answer's headers are too large");
      return std::optional<unsigned>();
    }
    if (error && !parser.is_header_done()) return fail(Code::kCorrupt, "the answer is no HTTP: " + error.message());
  }
  return std::optional<unsigned>(parser.get().result_int());
}

}  // namespace shoal::http
