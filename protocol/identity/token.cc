#include "protocol/identity/token.h"

#include "protocol/identity/crypto.h"
#include "protocol/wire/codec.h"

namespace shoal::identity {
namespace {

constexpr std::string_view kPrefix = "shoal1-";
constexpr std::string_view kAskPurpose = "shoal join 1\n";
constexpr std::size_t kSecretBytes = 16;
constexpr std::size_t kChecksumBytes = 4;
constexpr wire::Limits kTokenLimits{JoinToken::kTextMax, 8, 16, 1024};

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const auto first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

Bytes checksum_of(std::string_view body) {
  return Bytes(std::string_view(sha256(body)).substr(0, kChecksumBytes));
}

std::string signed_part(JoinAsk ask) {
  ask.signature.clear();
  return std::string(kAskPurpose).append(wire::encode(ask));
}

}  // namespace

std::string JoinToken::text() const {
  Bytes body = wire::encode(*this);
  body += checksum_of(body);
  return std::string(kPrefix) + base64url(body);
}

Result<JoinToken> JoinToken::parse(std::string_view text) {
  text = trimmed(text);
  if (!text.starts_with(kPrefix)) {
    return fail(Code::kInvalid,
                "this is not a join token: one starts with 'shoal1-'; make one with `shoal token create`");
  }
  if (text.size() > kTextMax) return fail(Code::kInvalid, "this is not a join token: it is too long");
  auto bytes = from_base64url(text.substr(kPrefix.size()));
  if (!bytes || bytes->size() < kChecksumBytes) {
    return fail(Code::kInvalid, "the join token is damaged; copy the whole line again");
  }
  const std::string_view body = std::string_view(*bytes).substr(0, bytes->size() - kChecksumBytes);
  if (checksum_of(body) != std::string_view(*bytes).substr(body.size())) {
    return fail(Code::kInvalid,
                "the join token is damaged: a character is missing or changed; copy the whole line again");
  }
  auto token = wire::decode<JoinToken>(body, kTokenLimits);
  if (!token || token->version == 0 || token->issuer.curve_key.size() != kKeyBytes || token->issuer.endpoints.empty()) {
    return fail(Code::kInvalid, "the join token cannot be read; make a new one with `shoal token create`");
  }
  if (token->version != 1) {
    return fail(Code::kUnsupported, "the join token was made by a newer version; install that version here first");
  }
  return token;
}

JoinAsk make_join_ask(const JoinToken& token, const KeyPair& key, const CurveKeys& curve, std::string name,
                      std::map<std::string, std::string> labels) {
  JoinAsk ask{token.realm,      token.id,        token.secret,      key.public_key(),
              curve.public_key, std::move(name), std::move(labels), Bytes()};
  ask.signature = key.sign(signed_part(ask));
  return ask;
}

Result<> verify_join_ask(const JoinAsk& ask) {
  if (ask.curve_key.size() != kKeyBytes || !verify_signature(ask.public_key, signed_part(ask), ask.signature)) {
    return fail(Code::kDenied, "the request to join was not signed by the agent that it names");
  }
  return {};
}

void TokenBook::forget_expired(WallTime now) {
  // Kept for a day after expiry, so that a late joiner reads "expired" rather than "unknown".
  constexpr std::int64_t kRememberMs = 24LL * 3600 * 1000;
  std::erase_if(entries_, [&](const auto& e) { return e.second.expires.unix_ms + kRememberMs <= now.unix_ms; });
  if (entries_.size() < kTokensMax) return;
  std::erase_if(entries_, [&](const auto& e) { return e.second.expires <= now; });
}

Result<JoinToken> TokenBook::create(Contact issuer, std::string child_region, WallTime now, std::int64_t life_ms) {
  if (life_ms <= 0) return fail(Code::kInvalid, "a token must be valid for some time");
  if (issuer.endpoints.empty()) {
    return fail(Code::kInvalid,
                "this agent cannot be dialled, so nobody could redeem the token; make it on an agent that "
                "listens on a port");
  }
  forget_expired(now);
  if (entries_.size() >= kTokensMax) {
    return fail(Code::kExhausted, "4096 join tokens are waiting to be used; let some expire first");
  }
  JoinToken token;
  token.realm = realm_;
  token.id = random_id<TokenId>();
  token.secret = random_bytes(kSecretBytes);
  token.issuer = std::move(issuer);
  token.child_region = std::move(child_region);
  token.expires = {now.unix_ms + life_ms};
  if (token.text().size() > JoinToken::kTextMax) {
    return fail(Code::kInvalid, "the token would be too long; use shorter names and fewer endpoints");
  }
  entries_[token.id] = Entry{sha256(token.secret), token.child_region, token.expires, AgentId()};
  return token;
}

Result<std::string> TokenBook::redeem(const JoinAsk& ask, WallTime now) {
  constexpr const char* kNewToken = "; make a new one with `shoal token create`";
  if (ask.realm != realm_) {
    return fail(Code::kDenied, "the join token is for realm " + ask.realm.brief() + ", this agent is of realm " +
                                   realm_.brief() + kNewToken + " in the realm you want to join");
  }
  const auto found = entries_.find(ask.token);
  // The same words for an unknown id and a wrong secret: a guesser learns nothing.
  if (found == entries_.end() || !equal_in_constant_time(found->second.secret_hash, sha256(ask.secret))) {
    return fail(Code::kDenied,
                std::string("the join token is unknown here: it was not made by this agent, was changed, "
                            "or expired long ago") +
                    kNewToken);
  }
  Entry& entry = found->second;
  if (entry.expires <= now) return fail(Code::kDenied, std::string("the join token has expired") + kNewToken);
  if (!entry.used_by.is_zero() && entry.used_by != ask.agent()) {
    return fail(Code::kDenied, "the join token was used by agent " + entry.used_by.brief() + " already" + kNewToken);
  }
  entry.used_by = ask.agent();
  return entry.child_region;
}

Bytes TokenBook::serialize() const {
  wire::Encoder e;
  e.array(3);
  e.u64(1);  // version
  wire::put(e, realm_);
  wire::put(e, entries_);
  return e.take();
}

Result<TokenBook> TokenBook::parse(RealmId realm, std::string_view bytes) {
  auto corrupt = [] { return fail(Code::kCorrupt, "the list of join tokens cannot be read; unused tokens are lost"); };
  auto document = wire::Document::parse(bytes);
  if (!document) return corrupt();
  const wire::Node root = document->root();
  std::uint64_t version = 0;
  RealmId stored;
  TokenBook book(realm);
  if (root.kind() != wire::Node::Kind::kArray || root.size() < 3 || !root.at(0).as_u64(version) || version != 1 ||
      !wire::get(root.at(1), stored) || stored != realm || !wire::get(root.at(2), book.entries_) ||
      book.entries_.size() > kTokensMax) {
    return corrupt();
  }
  return book;
}

Result<JoinGrant> grant_join(const Issuer& issuer, TokenBook& book, const JoinAsk& ask, std::vector<Contact> contacts,
                             WallTime now, const CertificateTerms& terms) {
  if (auto genuine = verify_join_ask(ask); !genuine) return tl::unexpected(genuine.error());
  Certificate certificate;
  certificate.public_key = ask.public_key;
  certificate.curve_key = ask.curve_key;
  certificate.name = ask.name;
  certificate.labels = ask.labels;
  certificate.roles = {kRoleAgent};
  // Issued before the token is spent: a refusal must not cost the newcomer its token. It leaves only if it
  // was valid.
  auto chain = issue_certificate(issuer, std::move(certificate), now, terms);
  if (!chain) return tl::unexpected(chain.error());
  auto region = book.redeem(ask, now);
  if (!region) return tl::unexpected(region.error());
  if (contacts.size() > JoinGrant::kContactsMax) contacts.resize(JoinGrant::kContactsMax);
  return JoinGrant{ask.realm, std::move(*chain), std::move(contacts), std::move(*region)};
}

}  // namespace shoal::identity
