// What the store machine gives out: copies to move and answers go to the drivers, its own notes go to disk.
#include <utility>

#include "agent/node/impl.h"

namespace shoal::node {

void Node::Impl::bridge(Instant /*now*/, storage::Output& output, std::vector<Effect>& out) {
  struct Visitor {
    Impl& self;
    std::vector<Effect>& out;
    void operator()(storage::out::Send& send) const { self.send(std::move(send.envelope), Ticket(), out); }
    void operator()(storage::out::PersistManifest& persist) const {
      self.persist("s/m/" + persist.manifest.object.hex(), wire::encode(persist.manifest), false, out);
    }
    void operator()(storage::out::PersistRecord& persist) const {
      const Ticket ticket = self.persist("s/r/" + persist.record.name, wire::encode(persist.record), true, out);
      self.record_tickets.emplace(ticket, persist.ticket);
    }
    void operator()(storage::out::Erase& erase) const {
      self.persist("s/m/" + erase.object.hex(), Bytes(), false, out);
      out.emplace_back(out::Storage(std::move(erase)));
    }
    void operator()(storage::out::Answer& answer) const {
      out.emplace_back(out::Answer{answer.id, std::move(answer.result)});
    }
    void operator()(auto& for_driver) const { out.emplace_back(out::Storage(std::move(for_driver))); }
  };
  std::visit(Visitor{*this, out}, output);
}

}  // namespace shoal::node
