// protocol/link/flow.h
//
// Flow control of one link, by credit: a sender has at most a window of bytes under way that the receiver has
// not yet taken in. ZeroMQ's own high-water marks lie (they accept, then drop), so they are set where this
// one is met first. Pure. Internal to this folder.
#pragma once

#include <algorithm>
#include <cstdint>

namespace shoal::link {

// What a message costs beside its bytes: small ones take memory too.
constexpr std::uint64_t kMessageCost = 256;

class Flow {
 public:
  Flow() = default;
  // `window_bytes`: the smaller of what both sides allow. `credit_bytes`: how often to tell the sender.
  Flow(std::uint64_t window_bytes, std::uint64_t credit_bytes) : window_(window_bytes), credit_every_(credit_bytes) {}

  static std::uint64_t cost_of(std::uint64_t bytes) { return bytes + kMessageCost; }

  // ---- sending ----
  // A message larger than the whole window may go when nothing else is under way.
  bool may_send(std::uint64_t bytes) const { return under_way() == 0 || under_way() + cost_of(bytes) <= window_; }
  void sent(std::uint64_t bytes) { sent_ += cost_of(bytes); }
  void refused() { blocked_ = true; }
  // The receiver's report. False when it claims more than was sent, or goes back: it does not keep to the
  // protocol.
  bool credited(std::uint64_t taken_in) {
    if (taken_in > sent_ || taken_in < acknowledged_) return false;
    acknowledged_ = taken_in;
    return true;
  }
  // True once, when a sender that was refused should try again: half the window is free, so it does not
  // flutter.
  bool take_writable() {
    if (!blocked_ || under_way() > window_ / 2) return false;
    blocked_ = false;
    return true;
  }
  std::uint64_t under_way() const { return sent_ - acknowledged_; }

  // ---- receiving ----
  void received(std::uint64_t bytes) { taken_in_ += cost_of(bytes); }
  bool credit_due() const { return taken_in_ - told_ >= credit_every_; }
  std::uint64_t tell() {
    told_ = taken_in_;
    return taken_in_;
  }

 private:
  std::uint64_t window_ = 0;
  std::uint64_t credit_every_ = 0;
  std::uint64_t sent_ = 0;
  std::uint64_t acknowledged_ = 0;
  std::uint64_t taken_in_ = 0;
  std::uint64_t told_ = 0;
  bool blocked_ = false;
};

}  // namespace shoal::link
