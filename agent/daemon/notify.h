// agent/daemon/notify.h
//
// The service manager's notification protocol (sd_notify(3)): one datagram to the socket that NOTIFY_SOCKET
// names. Nothing happens when there is none.
#pragma once

namespace shoal::daemon {

void notify_ready();
void notify_stopping();

}  // namespace shoal::daemon
