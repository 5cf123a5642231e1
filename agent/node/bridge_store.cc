// What the store machine gives out: copies to move and answers go to the drivers, its own notes go to disk.
#include <utility>

#include "agent/node/impl.h"
#include "protocol/base/overloaded.h"

namespace shoal::node {

void Node::Impl::bridge(Instant /*now*/, storage::Output& output, std::vector<Effect>& out) {
  std::visit(
      Overloaded{
          [&](storage::out::Send& frame) { send(std::move(frame.envelope), Ticket(), out); },
          [&](storage::out::PersistManifest& change) {
            persist("s/m/" + change.manifest.object.hex(), wire::encode(change.manifest), false, out);
          },
          [&](storage::out::PersistRecord& change) {
            const Ticket ticket = persist("s/r/" + change.record.name, wire::encode(change.record), true, out);
            record_tickets.emplace(ticket, change.ticket);
          },
          [&](storage::out::Erase& erase) {
            persist("s/m/" + erase.object.hex(), Bytes(), false, out);
            out.emplace_back(out::Storage(std::move(erase)));
          },
          [&](storage::out::Answer& answer) { out.emplace_back(out::Answer{answer.id, std::move(answer.result)}); },
          [&](auto& for_driver) { out.emplace_back(out::Storage(std::move(for_driver))); }},
      output);
}

}  // namespace shoal::node
