// protocol/overlay/joiner.h
//
// The patience of an agent that asks for admission: which contact to ask now, when to give up on it, when to
// start over. It sends nothing; its owner dials and asks when told to.
#pragma once

#include <string>
#include <vector>

#include "protocol/base/rng.h"
#include "protocol/overlay/limits.h"
#include "protocol/overlay/messages.h"

namespace shoal::overlay {

class Joiner {
 public:
  enum class Phase : std::uint8_t { kIdle, kDialing, kAsked, kWaiting };

  explicit Joiner(std::int64_t scale) : scale_(scale) {}

  void begin(std::vector<Contact> contacts, message::Role role, RegionId wanted, Instant now);
  void stop() { phase_ = Phase::kIdle; }

  bool active() const { return phase_ != Phase::kIdle; }
  Phase phase() const { return phase_; }
  Instant deadline() const { return active() ? deadline_ : Instant::never(); }
  const Contact& current() const { return current_; }
  message::Role role() const { return role_; }
  RegionId wanted() const { return wanted_; }
  unsigned rounds() const { return rounds_; }  // through all contacts without success
  const std::string& last_error() const { return last_error_; }

  // The question has been put to current().
  void asked(Instant now);
  // current() is of no use: go on to the next, or wait after the last.
  void fail(std::string why, Rng& rng, Instant now);
  // Ask somebody else instead. False after too many of these in one round.
  bool redirect(const Contact& to, message::Role role, Instant now);
  // Ask current() again after `wait`.
  void retry(Duration wait, std::string why, Instant now);
  // The deadline passed.
  void on_deadline(Rng& rng, Instant now);

 private:
  void try_contact(const Contact& contact, Instant now);

  static constexpr unsigned kRedirectsMax = 4;
  static constexpr unsigned kRetriesMax = 30;

  std::int64_t scale_;
  Phase phase_ = Phase::kIdle;
  std::vector<Contact> contacts_;
  std::size_t next_ = 0;
  Contact current_;
  message::Role first_role_ = message::Role::kNative;
  message::Role role_ = message::Role::kNative;
  RegionId wanted_;
  Instant deadline_;
  unsigned rounds_ = 0;
  unsigned redirects_ = 0;
  unsigned retries_ = 0;
  bool same_again_ = false;
  std::string last_error_;
};

}  // namespace shoal::overlay
