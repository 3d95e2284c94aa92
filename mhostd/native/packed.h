/* packed.h - records between a ring and the data messages of ZeroMQ (docs/ipc.md) */
#ifndef MHOSTD_PACKED_H
#define MHOSTD_PACKED_H

#include "app_lane.h"

/* Octets of the longest record: control messages with their length, and a payload. */
#define PACKED_MAX	record_align(RECORD_HLEN + 8 + RECORD_CONTROL_MAX + RECORD_PAYLOAD_MAX)

bool packed_plain(const uint8_t *octets, size_t len);
size_t packed_put(struct ring *ring, const uint8_t *octets, size_t len);
size_t packed_take(struct app_lane *lane, uint8_t *out, size_t most);

#endif
