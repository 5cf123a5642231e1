// protocol/identity/realm.h
//
// An agent's identity as it lies in its state directory, and how it comes into being: by founding a realm, or
// by joining one with a token (token.h).
//
//   <home>/identity/agent.key     Ed25519 secret, PEM, 0600
//   <home>/identity/curve.key     Curve25519 secret, hex, 0600
//   <home>/identity/certificate   realm id, certificate chain, leave to issue (if any), 0600
//   <home>/realm/root.key         only where the realm was founded: move it to a safe place. It is needed to
//   let
//                                 further agents issue, and to renew that leave every 90 days; nothing else
//                                 reads it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "protocol/identity/certificate.h"
#include "protocol/identity/keys.h"

namespace shoal::identity {

struct AgentKeys {
  KeyPair key;
  CurveKeys curve;
  AgentId id() const { return key.agent_id(); }
};

struct AgentIdentity {
  AgentKeys keys;
  RealmId realm;
  CertificateChain chain;
  std::optional<Signed> leave;  // to issue certificates
  AgentId id() const { return keys.id(); }
  // Valid while this object lives; nullopt when this agent may not issue.
  std::optional<Issuer> issuer() const {
    return leave ? std::optional<Issuer>(Issuer{keys.key, *leave}) : std::nullopt;
  }
};

// How an agent presents itself.
struct Profile {
  std::string name;
  std::map<std::string, std::string> labels;
};

// Founds a realm: root key, agent keys, leave to issue for this agent and its first certificate. kExists when
// `home` already has an identity: nothing is changed then.
Result<AgentIdentity> init_realm(const std::string& home, const Profile& profile, WallTime now,
                                 const CertificateTerms& terms = {});

// The keys under `home`, made and saved if there are none yet: the first step of joining.
Result<AgentKeys> load_or_create_keys(const std::string& home);

// kNotFound before `shoal init` or `shoal join`. Does not check validity: an expired certificate can be
// renewed.
Result<AgentIdentity> load_identity(const std::string& home);

// Writes the certificate file (keys are written once, when they are made): after a join and after each
// renewal.
Result<> save_identity(const std::string& home, const AgentIdentity& identity);

// The realm's root key, if it is still kept under `home`. kNotFound when it was moved away.
Result<KeyPair> load_root_key(const std::string& home);

// An issuing agent's own next certificate. kDenied when it may not issue.
Result<CertificateChain> renew_own_certificate(const AgentIdentity& identity, WallTime now,
                                               const CertificateTerms& terms = {});

}  // namespace shoal::identity
