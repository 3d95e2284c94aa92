/* fuzz_frame.c - any octets as a frame off the TUN: 10 of struct virtio_net_hdr, a packet */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "csum.h"
#include "frame.h"
#include "udp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct udp_frame frame;
	uint8_t *packet, *out;
	struct vnet vnet;
	size_t len, n, payload = 0;

	if (size <= VNET_LEN || size > VNET_LEN + FRAME_MAX)
		return 0;
	vnet_parse(&vnet, data);
	len = size - VNET_LEN;
	packet = malloc(len);		/* as long as it is, so that a step too far is seen */
	out = malloc(len + UDP_HLEN);
	memcpy(packet, data + VNET_LEN, len);
	if (frame_parse(&frame, &vnet, packet, len)) {
		assert(frame.payload >= packet + 28);
		assert(frame.payload + frame.len == packet + len);
		assert(!frame.segment_size || frame.segment_size < frame.len);
	}
	n = frame_segments(&vnet, packet, len);
	assert(n >= 1);
	for (size_t i = 0; i < n; i++) {
		size_t octets = frame_segment(&vnet, packet, len, i, out);

		assert(octets <= len);
		if (n > 1)
			payload += octets - vnet.csum_start - UDP_HLEN;
	}
	assert(n == 1 || payload == len - vnet.csum_start - UDP_HLEN);
	free(packet);
	free(out);
	return 0;
}
