/* lane_run.h - records of a socket that go out in one piece */
#ifndef MHOSTD_LANE_RUN_H
#define MHOSTD_LANE_RUN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "lane.h"

/**
 * struct run - records that go out in one piece
 * @head:	of the first
 * @flow:	that all of them take
 * @parts:	their payloads, in the ring; the first is free for headers
 * @at:		where each record begins, by its place in @parts
 * @n_parts:	of them, that one counted
 * @payload:	octets in them
 * @segments:	datagrams
 * @segment_size: octets of each, 0 if there is one
 */
struct run {
	struct record head;
	const struct flow *flow;
	struct iovec parts[LANE_RUN + 1];
	uint64_t at[LANE_RUN + 1];
	size_t n_parts;
	size_t payload;
	uint32_t segments;
	uint16_t segment_size;
};

int lane_write_tun(const struct lane *lane, struct run *run);
void lane_tun_done(struct lane *lane, const struct run *run, int err);

#endif
