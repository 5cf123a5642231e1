#include "protocol/identity/realm.h"

#include "protocol/identity/crypto.h"
#include "protocol/identity/secret_file.h"
#include "protocol/wire/codec.h"

namespace shoal::identity {
namespace {

// The certificate file. `version` first, so that a later reader can tell what follows.
struct Stored {
  std::uint16_t version = 1;
  RealmId realm;
  CertificateChain chain;
  std::optional<Signed> leave;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.version, self.realm, self.chain, self.leave);
  }
};

std::string folder_of(const std::string& home) {
  return home + "/identity";
}
std::string key_path(const std::string& home) {
  return folder_of(home) + "/agent.key";
}
std::string curve_path(const std::string& home) {
  return folder_of(home) + "/curve.key";
}
std::string certificate_path(const std::string& home) {
  return folder_of(home) + "/certificate";
}
std::string root_path(const std::string& home) {
  return home + "/realm/root.key";
}

Result<AgentKeys> load_keys(const std::string& home) {
  auto key = KeyPair::load(key_path(home));
  if (!key) return tl::unexpected(key.error());
  auto curve = CurveKeys::load(curve_path(home));
  if (!curve) return tl::unexpected(curve.error());
  return AgentKeys{std::move(*key), std::move(*curve)};
}

Certificate request_of(const AgentKeys& keys, const Profile& profile) {
  Certificate c;
  c.public_key = keys.key.public_key();
  c.curve_key = keys.curve.public_key;
  c.name = profile.name;
  c.labels = profile.labels;
  c.roles = {kRoleAgent};
  return c;
}

}  // namespace

Result<AgentKeys> load_or_create_keys(const std::string& home) {
  auto loaded = load_keys(home);
  if (loaded || loaded.error().code != Code::kNotFound) return loaded;
  // A crash between the two writes leaves an agent key without a curve key: keep what is there.
  auto key = KeyPair::load(key_path(home));
  if (!key && key.error().code != Code::kNotFound) return tl::unexpected(key.error());
  AgentKeys keys{key ? std::move(*key) : KeyPair::generate(), CurveKeys::generate()};
  if (auto made = make_private_directory(folder_of(home)); !made) return tl::unexpected(made.error());
  if (auto saved = keys.key.save(key_path(home)); !saved) return tl::unexpected(saved.error());
  if (auto saved = keys.curve.save(curve_path(home)); !saved) return tl::unexpected(saved.error());
  return keys;
}

Result<> save_identity(const std::string& home, const AgentIdentity& identity) {
  if (auto made = make_private_directory(folder_of(home)); !made) return made;
  return write_secret_file(certificate_path(home),
                           wire::encode(Stored{1, identity.realm, identity.chain, identity.leave}));
}

Result<AgentIdentity> load_identity(const std::string& home) {
  auto content = read_secret_file(certificate_path(home));
  if (!content && content.error().code == Code::kNotFound) {
    return fail(Code::kNotFound, "there is no agent identity in " + home + "; run `shoal init` or `shoal join TOKEN`");
  }
  if (!content) return tl::unexpected(content.error());
  auto stored = wire::decode<Stored>(*content);
  if (!stored || stored->version != 1) {
    return fail(Code::kCorrupt, certificate_path(home) + " cannot be read; restore it, or join again with a new token");
  }
  auto keys = load_keys(home);
  if (!keys) return tl::unexpected(keys.error());
  auto certificate = read_certificate(stored->chain);
  if (!certificate || certificate->public_key != keys->key.public_key() ||
      certificate->curve_key != keys->curve.public_key) {
    return fail(Code::kCorrupt, "the certificate and the keys in " + folder_of(home) +
                                    " do not belong together; restore them, or join again with a new token");
  }
  return AgentIdentity{std::move(*keys), stored->realm, std::move(stored->chain), std::move(stored->leave)};
}

Result<AgentIdentity> init_realm(const std::string& home, const Profile& profile, WallTime now,
                                 const CertificateTerms& terms) {
  auto existing = read_secret_file(certificate_path(home));
  if (existing) {
    return fail(Code::kExists,
                home + " already belongs to an agent; choose another state directory, or remove this one");
  }
  if (existing.error().code != Code::kNotFound) return tl::unexpected(existing.error());
  auto keys = load_or_create_keys(home);
  if (!keys) return tl::unexpected(keys.error());
  const KeyPair root = KeyPair::generate();
  if (auto made = make_private_directory(home + "/realm"); !made) return tl::unexpected(made.error());
  if (auto saved = root.save(root_path(home)); !saved) return tl::unexpected(saved.error());

  AgentIdentity identity{std::move(*keys), realm_id_of(root.public_key()), {}, std::nullopt};
  identity.leave = delegate_issuer(root, identity.keys.key.public_key(), {kRoleAgent, kRoleIssuer}, now, terms);
  Certificate request = request_of(identity.keys, profile);
  request.roles.insert(kRoleIssuer);
  auto chain = issue_certificate(*identity.issuer(), std::move(request), now, terms);
  if (!chain) return tl::unexpected(chain.error());
  identity.chain = std::move(*chain);
  // Written last: an identity exists once this file does.
  if (auto saved = save_identity(home, identity); !saved) return tl::unexpected(saved.error());
  return identity;
}

Result<KeyPair> load_root_key(const std::string& home) {
  auto root = KeyPair::load(root_path(home));
  if (!root && root.error().code == Code::kNotFound) {
    return fail(Code::kNotFound, "the realm's root key is not in " + root_path(home) +
                                     "; bring it from where it is kept, for as long as it is needed");
  }
  return root;
}

Result<CertificateChain> renew_own_certificate(const AgentIdentity& identity, WallTime now,
                                               const CertificateTerms& terms) {
  const auto issuer = identity.issuer();
  if (!issuer) return fail(Code::kDenied, "this agent may not issue certificates; ask one that may");
  auto certificate = read_certificate(identity.chain);
  if (!certificate) return tl::unexpected(certificate.error());
  return issue_certificate(*issuer, std::move(*certificate), now, terms);
}

}  // namespace shoal::identity
