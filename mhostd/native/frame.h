/* frame.h - what a frame off the TUN says, and the frames of a super-packet */
#ifndef MHOSTD_FRAME_H
#define MHOSTD_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TUN_PI_LEN	4	/* octets, linux/if_tun.h struct tun_pi */
#define VNET_LEN	10	/* octets, linux/virtio_net.h struct virtio_net_hdr */
#define FRAME_MAX	65535	/* octets of packet */
#define FRAME_HLEN_MAX	48	/* octets: IPv6 and UDP */
#define UDP_AT_CHECK	6	/* octet of the checksum in the UDP header */

/* linux/virtio_net.h */
#define VNET_NEEDS_CSUM	1
#define VNET_DATA_VALID	2
#define VNET_GSO_UDP_L4	5

/**
 * struct vnet - struct virtio_net_hdr, in host order
 * @flags:	VNET_NEEDS_CSUM, VNET_DATA_VALID
 * @gso_type:	0, or VNET_GSO_UDP_L4 of a super-packet
 * @hdr_len:	octets of headers before the payload
 * @gso_size:	octets of payload of each segment
 * @csum_start:	where the checksum begins, octets from the start of the packet
 * @csum_offset: where it stands, octets from there
 */
struct vnet {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len;
	uint16_t gso_size;
	uint16_t csum_start;
	uint16_t csum_offset;
};

/**
 * struct flow_key - the five fields of a UDP datagram, as received
 * @saddr:	source, network order, padded with zero octets
 * @daddr:	destination, the same
 * @source:	port (host order)
 * @dest:	port (host order)
 * @family:	AF_INET or AF_INET6
 */
struct flow_key {
	uint8_t saddr[16];
	uint8_t daddr[16];
	uint16_t source;
	uint16_t dest;
	uint32_t family;
};

/**
 * struct udp_frame - a UDP datagram, or a run of them, that needs no second look
 * @key:	from where to where
 * @payload:	within the packet
 * @len:	octets of @payload
 * @segment_size: octets of each datagram in it, 0 if it is one
 */
struct udp_frame {
	struct flow_key key;
	const uint8_t *payload;
	size_t len;
	uint16_t segment_size;
};

void vnet_parse(struct vnet *vnet, const uint8_t *octets);
void vnet_emit(const struct vnet *vnet, uint8_t *octets);

bool frame_parse(struct udp_frame *frame, const struct vnet *vnet, const uint8_t *packet,
		 size_t len);

size_t frame_segments(const struct vnet *vnet, const uint8_t *packet, size_t len);
size_t frame_segment(const struct vnet *vnet, const uint8_t *packet, size_t len,
		     size_t number, uint8_t *out);

void frame_headers(uint8_t *headers, size_t hlen, uint32_t family, size_t payload);

#endif
