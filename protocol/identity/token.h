// protocol/identity/token.h
//
// Join tokens: a line of text that lets one agent join a realm, once. An issuing agent keeps the other half
// in its TokenBook. Pure data: the caller stores the book, synced, before it answers, so that a token spent
// before a crash is still spent after it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/base/time.h"
#include "protocol/identity/certificate.h"
#include "protocol/identity/keys.h"
#include "protocol/wire/bytes.h"

namespace shoal::identity {

using TokenId = Id128<struct TokenTag>;

// A place where an agent answers.
struct Contact {
  AgentId agent;
  std::vector<std::string> endpoints;  // "tcp://host:port", best first
  Bytes curve_key;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.agent, self.endpoints, self.curve_key);
  }
  friend bool operator==(const Contact&, const Contact&) = default;
};

// What the text says. Holding it is enough to join, so it is a secret until it is used.
struct JoinToken {
  std::uint16_t version = 1;
  RealmId realm;
  TokenId id;
  Bytes secret;
  Contact issuer;
  std::string child_region;  // found or join this region below the issuer's; empty: join the issuer's own
  WallTime expires;

  static constexpr std::size_t kTextMax = 4096;

  // "shoal1-" and base64url of the fields and a checksum.
  std::string text() const;
  // kInvalid when the text is not a token or was damaged on the way.
  static Result<JoinToken> parse(std::string_view text);

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.version, self.realm, self.id, self.secret, self.issuer, self.child_region, self.expires);
  }
  friend bool operator==(const JoinToken&, const JoinToken&) = default;
};

// A newcomer's request, sent to the issuer over an encrypted link.
struct JoinAsk {
  RealmId realm;
  TokenId token;
  Bytes secret;
  Bytes public_key;
  Bytes curve_key;
  std::string name;
  std::map<std::string, std::string> labels;
  Bytes signature;  // by the newcomer's key over all of the above

  AgentId agent() const { return agent_id_of(public_key); }

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.realm, self.token, self.secret, self.public_key, self.curve_key, self.name, self.labels, self.signature);
  }
};

JoinAsk make_join_ask(const JoinToken& token, const KeyPair& key, const CurveKeys& curve, std::string name,
                      std::map<std::string, std::string> labels);

// kDenied unless the ask is signed by the key in it.
Result<> verify_join_ask(const JoinAsk& ask);

// The answer: a certificate, and agents that will let the newcomer into their region.
struct JoinGrant {
  RealmId realm;
  CertificateChain chain;
  std::vector<Contact> contacts;
  std::string child_region;
  std::optional<Signed> leave = {};  // to issue certificates: for the first agent of a child region

  static constexpr std::size_t kContactsMax = 16;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.realm, self.chain, self.contacts, self.child_region, self.leave);
  }
};

// The tokens an issuing agent has given out.
class TokenBook {
 public:
  static constexpr std::size_t kTokensMax = 4096;
  static constexpr std::int64_t kLifeMs = 10LL * 60 * 1000;

  explicit TokenBook(RealmId realm) : realm_(realm) {}

  // A new token, valid for `life_ms`. kExhausted when kTokensMax unexpired tokens are out.
  Result<JoinToken> create(Contact issuer, std::string child_region, WallTime now, std::int64_t life_ms = kLifeMs);

  // Spends the token that `ask` names, for the agent that asks, and returns the child region it was made for.
  // The same agent may ask again until the token expires (its answer may have been lost); any other finds it
  // used. kDenied with the reason and the remedy: another realm, unknown token, wrong secret, used, expired.
  // Call verify_join_ask first.
  Result<std::string> redeem(const JoinAsk& ask, WallTime now);

  // The book as bytes for the store, and back. parse: kCorrupt when the bytes are not a book of this realm.
  Bytes serialize() const;
  static Result<TokenBook> parse(RealmId realm, std::string_view bytes);

  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    Bytes secret_hash;  // the secret itself is not kept
    std::string child_region;
    WallTime expires;
    AgentId used_by;  // zero: not used
    template <class Self, class F>
    static void fields(Self& self, F&& f) {
      f(self.secret_hash, self.child_region, self.expires, self.used_by);
    }
  };
  void forget_expired(WallTime now);

  RealmId realm_;
  std::map<TokenId, Entry> entries_;
};

// All an issuer does with an ask: checks it, spends the token, and makes the certificate. The caller persists
// `book` before the grant leaves.
Result<JoinGrant> grant_join(const Issuer& issuer, TokenBook& book, const JoinAsk& ask, std::vector<Contact> contacts,
                             WallTime now, const CertificateTerms& terms = {});

}  // namespace shoal::identity
