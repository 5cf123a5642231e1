// protocol/identity/certificate.h
//
// Who an agent is, as its realm says it. Two links: the realm's root key, which stays offline, signs an
// *issuing certificate* for the key of an agent that may admit others; that agent signs small, short-lived
// *certificates*.
//
//   root key ──signs──► issuing certificate (issuer's key, roles it may give, 90 days)
//                          └─signs──► certificate (agent id, keys, name, roles, labels, 24 h + grace)
//
// A realm is named by its root key, so a chain carries all that is needed to check it, except the time, which
// the caller passes in. Nothing here reads a file or a clock.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "protocol/base/id.h"
#include "protocol/base/result.h"
#include "protocol/base/time.h"
#include "protocol/identity/keys.h"
#include "protocol/wire/bytes.h"

namespace shoal::identity {

constexpr const char* kRoleAgent = "agent";    // may take part in regions
constexpr const char* kRoleIssuer = "issuer";  // holds an issuing certificate as well

// How long things are valid, in milliseconds of wall-clock time.
struct CertificateTerms {
  std::int64_t agent_ms = 24LL * 3600 * 1000;
  std::int64_t grace_ms = 24LL * 3600 * 1000;  // beyond expiry, for agents that are cut off from every issuer
  std::int64_t issuing_ms = 90LL * 24 * 3600 * 1000;
  std::int64_t skew_ms = 5LL * 60 * 1000;  // how far two clocks may differ
};

// What an agent's certificate says. Travels only inside Signed.
struct Certificate {
  std::uint16_t version = 1;
  AgentId agent;
  Bytes public_key;  // Ed25519; `agent` is derived from it
  Bytes curve_key;   // Curve25519: the key of its links
  std::string name;
  std::set<std::string> roles;
  std::map<std::string, std::string> labels;
  WallTime not_before;
  WallTime not_after;

  static constexpr std::size_t kNameMax = 64;
  static constexpr std::size_t kRolesMax = 8;
  static constexpr std::size_t kLabelsMax = 32;
  static constexpr std::size_t kLabelBytesMax = 128;  // of a key or a value

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.version, self.agent, self.public_key, self.curve_key, self.name, self.roles, self.labels, self.not_before,
      self.not_after);
  }
  friend bool operator==(const Certificate&, const Certificate&) = default;
};

// The realm's leave to issue certificates. Travels only inside Signed.
struct IssuingCertificate {
  std::uint16_t version = 1;
  Bytes root_key;               // names the realm
  Bytes issuer_key;             // Ed25519 key of the agent that may issue
  std::set<std::string> roles;  // that it may give
  WallTime not_before;
  WallTime not_after;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.version, self.root_key, self.issuer_key, self.roles, self.not_before, self.not_after);
  }
  friend bool operator==(const IssuingCertificate&, const IssuingCertificate&) = default;
};

// The exact bytes that were signed, and the signature.
struct Signed {
  Bytes body;
  Bytes signature;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.body, self.signature);
  }
  friend bool operator==(const Signed&, const Signed&) = default;
};

struct CertificateChain {
  Signed agent;   // a Certificate, signed by the issuer
  Signed issuer;  // an IssuingCertificate, signed by the root

  // No honest chain is larger; readers refuse more before they decode.
  static constexpr std::size_t kBytesMax = 16 << 10;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.agent, self.issuer);
  }
  friend bool operator==(const CertificateChain&, const CertificateChain&) = default;
};

// Checks every link of `chain` and returns what it says. kInvalid: malformed. kDenied: another realm, a bad
// signature, a role the issuer may not give, an id that does not belong to the key. kStale: not valid yet or
// expired
// (`terms.grace_ms` after its end; pass terms with 0 to ask whether it is valid without grace). The message
// names the reason and what to do.
Result<Certificate> verify_certificate(const CertificateChain& chain, RealmId realm, WallTime now,
                                       const CertificateTerms& terms = {});

// Decodes a chain that came from outside and checks it as above.
Result<Certificate> verify_certificate_bytes(std::string_view encoded, RealmId realm, WallTime now,
                                             const CertificateTerms& terms = {});

// What the agent certificate of `chain` says, without any check: for a chain that was checked before.
Result<Certificate> read_certificate(const CertificateChain& chain);

// Signs an issuing certificate for `issuer_key`. Needs the realm's root key, so it runs where that is kept.
Signed delegate_issuer(const KeyPair& root, const Bytes& issuer_key, std::set<std::string> roles, WallTime now,
                       const CertificateTerms& terms = {});

// An agent that may issue: its key and the realm's leave.
struct Issuer {
  const KeyPair& key;
  const Signed& leave;
};

// Signs `certificate` (its id and validity are filled in here). kDenied when the leave is for another key,
// for fewer roles, or has expired; kInvalid for names or labels beyond the maxima. The certificate never
// outlives the leave.
Result<CertificateChain> issue_certificate(const Issuer& issuer, Certificate certificate, WallTime now,
                                           const CertificateTerms& terms = {});

// True from half of the certificate's life on: time to ask an issuer for the next one.
bool renewal_due(const Certificate& certificate, WallTime now);

// Asks for the next certificate; sent by an agent to an issuer.
struct RenewalAsk {
  CertificateChain current;
  WallTime asked_at;
  Bytes signature;  // by the agent's key, over `current` and the time
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.current, self.asked_at, self.signature);
  }
};

RenewalAsk make_renewal_ask(const KeyPair& key, const CertificateChain& current, WallTime now);

// The next certificate with the same keys, name, roles and labels. Errors as verify_certificate and
// issue_certificate; kDenied when the ask was not signed by the agent itself.
Result<CertificateChain> grant_renewal(const Issuer& issuer, RealmId realm, const RenewalAsk& ask, WallTime now,
                                       const CertificateTerms& terms = {});

}  // namespace shoal::identity
