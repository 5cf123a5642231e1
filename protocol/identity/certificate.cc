#include "protocol/identity/certificate.h"

#include <algorithm>
#include <string_view>

#include "protocol/wire/codec.h"

namespace shoal::identity {
namespace {

// What is signed begins with what it is, so a signature for one purpose can never be shown for another.
constexpr std::string_view kAgentPurpose = "shoal agent certificate 1\n";
constexpr std::string_view kIssuingPurpose = "shoal issuing certificate 1\n";
constexpr std::string_view kRenewalPurpose = "shoal renewal 1\n";

constexpr wire::Limits kCertificateLimits{CertificateChain::kBytesMax, 8, 64, 8 << 10};

std::string purposed(std::string_view purpose, std::string_view body) {
  return std::string(purpose).append(body);
}

std::string hours_of(std::int64_t ms) {
  if (ms < 120'000) return std::to_string(ms / 1000) + " s";
  if (ms < 7'200'000) return std::to_string(ms / 60'000) + " min";
  return std::to_string(ms / 3'600'000) + " h";
}

Result<> check_window(const char* what, WallTime from, WallTime until, WallTime now, std::int64_t skew_ms,
                      std::int64_t grace_ms, const char* remedy) {
  if (now.unix_ms + skew_ms < from.unix_ms) {
    return fail(Code::kStale, std::string("the ") + what + " is not valid for another " +
                                  hours_of(from.unix_ms - now.unix_ms) + "; compare the clocks of the two machines");
  }
  if (now.unix_ms >= until.unix_ms && now.unix_ms - until.unix_ms >= grace_ms) {
    return fail(Code::kStale,
                std::string("the ") + what + " expired " + hours_of(now.unix_ms - until.unix_ms) + " ago; " + remedy);
  }
  return {};
}

Result<> check_bounds(const Certificate& c) {
  if (c.name.size() > Certificate::kNameMax) return fail(Code::kInvalid, "the agent's name is longer than 64 bytes");
  if (c.roles.size() > Certificate::kRolesMax) return fail(Code::kInvalid, "the certificate has more than 8 roles");
  if (c.labels.size() > Certificate::kLabelsMax) return fail(Code::kInvalid, "the agent has more than 32 labels");
  for (const auto& [key, value] : c.labels) {
    if (key.size() > Certificate::kLabelBytesMax || value.size() > Certificate::kLabelBytesMax) {
      return fail(Code::kInvalid, "label '" + key.substr(0, 32) + "' is longer than 128 bytes");
    }
  }
  if (c.public_key.size() != kKeyBytes || c.curve_key.size() != kKeyBytes) {
    return fail(Code::kInvalid, "the certificate's keys do not have 32 bytes");
  }
  return {};
}

Result<IssuingCertificate> verify_issuer(const Signed& leave, RealmId realm, WallTime now,
                                         const CertificateTerms& terms) {
  auto issuing = wire::decode<IssuingCertificate>(leave.body, kCertificateLimits);
  if (!issuing) return fail(Code::kInvalid, "the issuing certificate cannot be read: " + issuing.error().message);
  const RealmId named = realm_id_of(issuing->root_key);
  if (named != realm) {
    return fail(Code::kDenied, "the certificate belongs to realm " + named.brief() + ", this is realm " +
                                   realm.brief() + "; join with a token made in this realm");
  }
  if (!verify_signature(issuing->root_key, purposed(kIssuingPurpose, leave.body), leave.signature)) {
    return fail(Code::kDenied, "the issuing certificate was not signed by the realm's root key");
  }
  auto window = check_window("issuing certificate", issuing->not_before, issuing->not_after, now, terms.skew_ms,
                             terms.grace_ms, "renew it with the realm's root key");
  if (!window) return tl::unexpected(window.error());
  return issuing;
}

Result<> check_roles(const std::set<std::string>& asked, const std::set<std::string>& allowed) {
  for (const auto& role : asked) {
    if (!allowed.contains(role)) {
      return fail(Code::kDenied, "the issuer may not give the role '" + role + "'; ask an issuer that may");
    }
  }
  return {};
}

std::string renewal_body(const CertificateChain& current, WallTime asked_at) {
  wire::Encoder e;
  wire::put(e, current);
  wire::put(e, asked_at);
  return purposed(kRenewalPurpose, e.view());
}

}  // namespace

Result<Certificate> read_certificate(const CertificateChain& chain) {
  auto certificate = wire::decode<Certificate>(chain.agent.body, kCertificateLimits);
  if (!certificate) return fail(Code::kInvalid, "the certificate cannot be read: " + certificate.error().message);
  return certificate;
}

Result<Certificate> verify_certificate(const CertificateChain& chain, RealmId realm, WallTime now,
                                       const CertificateTerms& terms) {
  auto issuing = verify_issuer(chain.issuer, realm, now, terms);
  if (!issuing) return tl::unexpected(issuing.error());
  if (!verify_signature(issuing->issuer_key, purposed(kAgentPurpose, chain.agent.body), chain.agent.signature)) {
    return fail(Code::kDenied, "the certificate was not signed by the issuer that it names");
  }
  auto certificate = read_certificate(chain);
  if (!certificate) return certificate;
  if (auto bounds = check_bounds(*certificate); !bounds) return tl::unexpected(bounds.error());
  if (certificate->agent != agent_id_of(certificate->public_key)) {
    return fail(Code::kDenied, "the certificate's agent id does not belong to its key");
  }
  if (auto roles = check_roles(certificate->roles, issuing->roles); !roles) return tl::unexpected(roles.error());
  auto window = check_window("certificate", certificate->not_before, certificate->not_after, now, terms.skew_ms,
                             terms.grace_ms, "join again with a new token (shoal token create)");
  if (!window) return tl::unexpected(window.error());
  return certificate;
}

Result<Certificate> verify_certificate_bytes(std::string_view encoded, RealmId realm, WallTime now,
                                             const CertificateTerms& terms) {
  auto chain = wire::decode<CertificateChain>(encoded, kCertificateLimits);
  if (!chain) return fail(Code::kInvalid, "the certificate chain cannot be read: " + chain.error().message);
  return verify_certificate(*chain, realm, now, terms);
}

Signed delegate_issuer(const KeyPair& root, const Bytes& issuer_key, std::set<std::string> roles, WallTime now,
                       const CertificateTerms& terms) {
  IssuingCertificate issuing;
  issuing.root_key = root.public_key();
  issuing.issuer_key = issuer_key;
  issuing.roles = std::move(roles);
  issuing.not_before = now;
  issuing.not_after = {now.unix_ms + terms.issuing_ms};
  Signed out;
  out.body = wire::encode(issuing);
  out.signature = root.sign(purposed(kIssuingPurpose, out.body));
  return out;
}

Result<CertificateChain> issue_certificate(const Issuer& issuer, Certificate certificate, WallTime now,
                                           const CertificateTerms& terms) {
  auto issuing = wire::decode<IssuingCertificate>(issuer.leave.body, kCertificateLimits);
  if (!issuing) return fail(Code::kCorrupt, "this agent's issuing certificate cannot be read");
  if (issuing->issuer_key != issuer.key.public_key()) {
    return fail(Code::kDenied, "this agent's issuing certificate is for another key");
  }
  auto window = check_window("issuing certificate of this agent", issuing->not_before, issuing->not_after, now,
                             terms.skew_ms, 0, "renew it with the realm's root key");
  if (!window) return tl::unexpected(window.error());
  if (auto bounds = check_bounds(certificate); !bounds) return tl::unexpected(bounds.error());
  if (auto roles = check_roles(certificate.roles, issuing->roles); !roles) return tl::unexpected(roles.error());
  certificate.version = 1;
  certificate.agent = agent_id_of(certificate.public_key);
  certificate.not_before = now;
  certificate.not_after = {std::min(now.unix_ms + terms.agent_ms, issuing->not_after.unix_ms)};
  CertificateChain chain;
  chain.issuer = issuer.leave;
  chain.agent.body = wire::encode(certificate);
  chain.agent.signature = issuer.key.sign(purposed(kAgentPurpose, chain.agent.body));
  return chain;
}

bool renewal_due(const Certificate& certificate, WallTime now) {
  const std::int64_t life = certificate.not_after.unix_ms - certificate.not_before.unix_ms;
  return now.unix_ms >= certificate.not_before.unix_ms + life / 2;
}

RenewalAsk make_renewal_ask(const KeyPair& key, const CertificateChain& current, WallTime now) {
  return RenewalAsk{current, now, key.sign(renewal_body(current, now))};
}

Result<CertificateChain> grant_renewal(const Issuer& issuer, RealmId realm, const RenewalAsk& ask, WallTime now,
                                       const CertificateTerms& terms) {
  auto certificate = verify_certificate(ask.current, realm, now, terms);
  if (!certificate) return tl::unexpected(certificate.error());
  if (!verify_signature(certificate->public_key, renewal_body(ask.current, ask.asked_at), ask.signature)) {
    return fail(Code::kDenied, "the renewal was not signed by the agent whose certificate it shows");
  }
  const std::int64_t age_ms = now.unix_ms - ask.asked_at.unix_ms;
  if (age_ms > terms.skew_ms || age_ms < -terms.skew_ms) {
    return fail(Code::kStale, "the renewal was asked for at another time; compare the clocks of the two machines");
  }
  return issue_certificate(issuer, std::move(*certificate), now, terms);
}

}  // namespace shoal::identity
