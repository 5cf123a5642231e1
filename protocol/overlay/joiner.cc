#include "protocol/overlay/joiner.h"

#include <algorithm>
#include <utility>

namespace shoal::overlay {

void Joiner::begin(std::vector<Contact> contacts, message::Role role, RegionId wanted, Instant now) {
  contacts_ = std::move(contacts);
  first_role_ = role_ = role;
  wanted_ = wanted;
  next_ = 0;
  rounds_ = redirects_ = retries_ = 0;
  last_error_.clear();
  if (contacts_.empty()) {
    phase_ = Phase::kIdle;
    return;
  }
  try_contact(contacts_[next_++], now);
}

void Joiner::asked(Instant now) {
  phase_ = Phase::kAsked;
  deadline_ = now + kJoinReplyWithin * scale_;
}

void Joiner::fail(std::string why, Rng& rng, Instant now) {
  last_error_ = std::move(why);
  same_again_ = false;
  if (next_ < contacts_.size()) {
    try_contact(contacts_[next_++], now);
    return;
  }
  const Duration wait = std::min(kJoinRetryFirst * (std::int64_t{1} << std::min(rounds_, 5U)), kJoinRetryLast) * scale_;
  ++rounds_;
  next_ = 0;
  redirects_ = retries_ = 0;
  phase_ = Phase::kWaiting;
  deadline_ = now + wait + microseconds(rng.between(0, wait.us / 4));
}

bool Joiner::redirect(const Contact& to, message::Role role, Instant now) {
  if (++redirects_ > kRedirectsMax) return false;
  try_contact(to, now);
  role_ = role;
  return true;
}

void Joiner::retry(Duration wait, std::string why, Instant now) {
  last_error_ = std::move(why);
  if (++retries_ > kRetriesMax) {
    retries_ = 0;
    wait = std::max(wait, kJoinRetryLast * scale_);
  }
  phase_ = Phase::kWaiting;
  same_again_ = true;
  deadline_ = now + wait;
}

void Joiner::on_deadline(Rng& rng, Instant now) {
  if (phase_ != Phase::kWaiting) {
    fail(phase_ == Phase::kDialing ? "no link to " + current_.endpoint : "no answer from " + current_.endpoint, rng,
         now);
  } else if (std::exchange(same_again_, false)) {
    const message::Role role = role_;
    try_contact(Contact(current_), now);
    role_ = role;
  } else {
    try_contact(contacts_[next_++], now);
  }
}

void Joiner::try_contact(const Contact& contact, Instant now) {
  current_ = contact;
  role_ = first_role_;
  phase_ = Phase::kDialing;
  deadline_ = now + kDialTimeout * scale_;
}

}  // namespace shoal::overlay
