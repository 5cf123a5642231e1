// protocol/overlay/limits.h
//
// Every interval and bound of the overlay in one place. Durations are for the `lan` preset; the machine
// multiplies them by its TimeoutScale.
#pragma once

#include <cstddef>
#include <cstdint>

#include "protocol/base/id.h"
#include "protocol/base/time.h"

namespace shoal::overlay {

// ---- detector (docs: SWIM suspicion, Lifeguard local health) ----
inline constexpr Duration kHeartbeat = seconds(1);
inline constexpr Duration kSuspectAfter = seconds(3);       // of silence on a watched link
inline constexpr Duration kDeadAfter = milliseconds(1500);  // of suspicion that nobody refuted
inline constexpr Duration kLinkGrace = seconds(2);          // a link that became wanted may take this long to open
inline constexpr Duration kLateTick = milliseconds(200);    // a timer of ours this late means: distrust ourselves
inline constexpr Duration kDeathWindow = seconds(10);       // of the guard against declaring everyone dead
inline constexpr std::size_t kDeathsAlways = 2;             // deaths per window that need no live witness
inline constexpr std::size_t kDeathsPercent = 5;
inline constexpr unsigned kHealthMax = 8;
inline constexpr unsigned kFalseAlarmsMax = 4;  // doublings of the patience with one link

// ---- gossip ----
inline constexpr Duration kFlushGap = milliseconds(20);  // between two floods of urgent news
inline constexpr Duration kLoadGap = milliseconds(250);  // between two floods of mere load
inline constexpr Duration kDigestEvery = seconds(10);
inline constexpr Duration kProbeEvery = seconds(10);  // of one dead member, so that partitions heal

// ---- links ----
inline constexpr Duration kKeepAlive = seconds(10);      // on links that nobody watches
inline constexpr Duration kUnwantedAfter = seconds(30);  // of silence on a link that this end does not want
inline constexpr Duration kDialTimeout = seconds(6);
inline constexpr Duration kDialFirst = milliseconds(500);  // doubles with every failure
inline constexpr Duration kDialLast = seconds(8);
inline constexpr Duration kOtherDials = seconds(4);  // then this end dials although it is not its turn
inline constexpr Duration kDemandFor = seconds(60);
inline constexpr Duration kContactFor = seconds(15);
inline constexpr std::size_t kLinksMax = 320;
inline constexpr std::size_t kDemandLinksMax = 64;

// ---- joining ----
inline constexpr Duration kJoinReplyWithin = seconds(4);
inline constexpr Duration kJoinRetryFirst = seconds(1);  // doubles
inline constexpr Duration kJoinRetryLast = seconds(30);
inline constexpr Duration kFoundingFor = seconds(10);    // a name is reserved for whoever was told to found it
inline constexpr Duration kFlapDelayFirst = seconds(1);  // doubles with every flap
inline constexpr Duration kFlapDelayLast = seconds(60);
inline constexpr Duration kFlapsForgottenAfter = seconds(600);
inline constexpr Duration kParentLostAfter = seconds(5);
inline constexpr Duration kOrphanedAfter = seconds(30);  // without a parent; then the regions below look around, too
inline constexpr std::size_t kFoundingsMax = 64;

// ---- heads ----
inline constexpr Duration kElectionRank = milliseconds(1500);  // head start of each candidate over the next in rank
inline constexpr Duration kElectionRetry = seconds(2);
inline constexpr Duration kForceAfter = seconds(30);  // without a majority before the parent is asked to force one
inline constexpr Duration kRollGap = seconds(2);      // between two changes of the electoral roll
inline constexpr Duration kAnnounceGap = seconds(1);  // between two announcements of mere summaries
inline constexpr Duration kAboveEvery = seconds(30);  // refresh of the contacts above
inline constexpr std::size_t kAboveMax = 8;
inline constexpr std::size_t kDutiesMax = 64;  // child regions this agent is witness for

// ---- persistence ----
inline constexpr Duration kKnownGap = seconds(5);  // between two writes of the known members

// ---- table ----
inline constexpr std::size_t kRings = 3;  // two links each: an active view of 6
inline constexpr std::size_t kFullMeshBelow = 8;
inline constexpr std::size_t kNativesMax = 128;  // joins are refused at this size
inline constexpr std::size_t kGuestsMax = 128;
inline constexpr std::size_t kTableMax = 512;  // what gossip may fill: admissions race each other
inline constexpr std::size_t kTombstonesMax = 256;

// ---- what one record or message may carry ----
inline constexpr std::size_t kNameBytesMax = 128;
inline constexpr std::size_t kEndpointBytesMax = 256;
inline constexpr std::size_t kKeyBytesMax = 64;
inline constexpr std::size_t kLabelsMax = 32;
inline constexpr std::size_t kLabelBytesMax = 256;
inline constexpr std::size_t kStateBytesMax = 16U << 10;
inline constexpr std::size_t kSummaryBytesMax = 64U << 10;
inline constexpr std::size_t kMessageBytesMax = 8U << 20;

// An incarnation counts lives in its high bits and refutations within a life in the low ones, so that only a
// restart needs a write, and a peer can tell "still the same process, wrongly suspected" from "that process
// is gone".
inline constexpr unsigned kRefutationBits = 24;
constexpr std::uint64_t life_of(Incarnation i) {
  return i.value() >> kRefutationBits;
}
constexpr Incarnation first_of_life(std::uint64_t life) {
  return Incarnation(life << kRefutationBits);
}

// Epochs that a head took without a majority (see election.h) start at a number of their own for each agent,
// 20 bits of a hash of its id, with room for the elections after it: agents that do so apart from each other
// do not meet.
inline constexpr unsigned kForcedShift = 32;
inline constexpr unsigned kForcedRoomBits = 12;

}  // namespace shoal::overlay
