/* frame.c - what a frame off the TUN says, and the frames of a super-packet */

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

#include "csum.h"
#include "frame.h"
#include "udp.h"

#define IP4_HLEN	20
#define IP6_HLEN	40
#define IP_PROTO_UDP	17

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* struct virtio_net_hdr is in the byte order of this machine (TUN's default). */
void vnet_parse(struct vnet *vnet, const uint8_t *octets)
{
	vnet->flags = octets[0];
	vnet->gso_type = octets[1];
	memcpy(&vnet->hdr_len, octets + 2, 8);
}

/* The other way round. */
void vnet_emit(const struct vnet *vnet, uint8_t *octets)
{
	octets[0] = vnet->flags;
	octets[1] = vnet->gso_type;
	memcpy(octets + 2, &vnet->hdr_len, 8);
}

_Static_assert(offsetof(struct vnet, csum_offset) - offsetof(struct vnet, hdr_len) == 6,
	       "the four fields are copied at once");

/* Partial sum of the UDP pseudo-header: RFC 768, RFC 8200 section 8.1. */
static uint32_t pseudo_sum(const uint8_t *addresses, size_t octets, size_t ulen)
{
	return csum_fold(addresses, octets, (uint32_t)ulen + IP_PROTO_UDP);
}

/**
 * frame_parse() - read a packet, if it is plain UDP in which nothing is wrong
 * @frame:	filled in if it is
 * @vnet:	all zero if there was none
 * @packet:	from its L3 header on
 * @len:	octets in @packet
 *
 * Plain is IPv4 without options and fragments, IPv6 without extension headers, and lengths
 * that agree. Everything else is for the walk, which says what is wrong and counts it.
 *
 * Return: whether it is
 */
bool frame_parse(struct udp_frame *frame, const struct vnet *vnet, const uint8_t *packet,
		 size_t len)
{
	struct flow_key *key = &frame->key;
	const uint8_t *udp;
	size_t hlen, ulen;
	uint32_t psum;

	if (len < IP4_HLEN + UDP_HLEN)
		return false;
	memset(key, 0, sizeof(*key));
	if (packet[0] == 0x45) {
		hlen = IP4_HLEN;
		if (get16(packet + 2) != len || packet[9] != IP_PROTO_UDP ||
		    get16(packet + 6) & 0x3fff || csum_fold(packet, hlen, 0) != 0xffff)
			return false;
		key->family = AF_INET;
		memcpy(key->saddr, packet + 12, 4);
		memcpy(key->daddr, packet + 16, 4);
		psum = pseudo_sum(packet + 12, 8, len - hlen);
	} else if (packet[0] >> 4 == 6) {
		hlen = IP6_HLEN;
		if (len < IP6_HLEN + UDP_HLEN || packet[6] != IP_PROTO_UDP ||
		    get16(packet + 4) != len - hlen)
			return false;
		key->family = AF_INET6;
		memcpy(key->saddr, packet + 8, 16);
		memcpy(key->daddr, packet + 24, 16);
		psum = pseudo_sum(packet + 8, 32, len - hlen);
	} else {
		return false;
	}

	udp = packet + hlen;
	ulen = len - hlen;
	if (get16(udp + 4) != ulen)
		return false;
	if (vnet->gso_type && (vnet->gso_type != VNET_GSO_UDP_L4 || !vnet->gso_size))
		return false;
	if (!(vnet->flags & (VNET_NEEDS_CSUM | VNET_DATA_VALID))) {
		if (!get16(udp + UDP_AT_CHECK)) {
			if (key->family != AF_INET)
				return false;	/* RFC 8200 section 8.1 */
		} else if (csum_fold(udp, ulen, psum) != 0xffff) {
			return false;
		}
	}
	key->source = get16(udp);
	key->dest = get16(udp + 2);
	frame->payload = udp + UDP_HLEN;
	frame->len = ulen - UDP_HLEN;
	frame->segment_size = vnet->gso_type && frame->len > vnet->gso_size ?
			      vnet->gso_size : 0;
	return true;
}

/**
 * frame_segments() - how many packets a super-packet is
 * @vnet:	what stood before it
 * @packet:	the packet
 * @len:	octets in @packet
 *
 * Return: 1 if it is none
 */
size_t frame_segments(const struct vnet *vnet, const uint8_t *packet, size_t len)
{
	size_t hlen = (size_t)vnet->csum_start + UDP_HLEN;

	if (vnet->gso_type != VNET_GSO_UDP_L4 || !vnet->gso_size || len <= hlen ||
	    vnet->csum_start != (packet[0] >> 4 == 4 ? IP4_HLEN : IP6_HLEN))
		return 1;
	return (len - hlen + vnet->gso_size - 1) / vnet->gso_size;
}

/* Write the lengths and the checksum of an IPv4 or IPv6 header for that much behind it. */
static void l3_lengths(uint8_t *l3, size_t hlen, size_t behind)
{
	if (l3[0] >> 4 == 6) {
		put16(l3 + 4, (uint16_t)behind);
		return;
	}
	put16(l3 + 2, (uint16_t)(hlen + behind));
	put16(l3 + 10, 0);
	put16(l3 + 10, (uint16_t)~csum_fold(l3, hlen, 0));
}

/**
 * frame_segment() - one packet of a super-packet, its checksums complete
 * @vnet:	what stood before the packet
 * @packet:	the packet; it may be no super-packet
 * @len:	octets in @packet
 * @number:	which one, below frame_segments()
 * @out:	room for @len octets
 *
 * What Linux's own segmentation does (__udp_gso_segment, inet_gso_segment): each has the
 * headers of the whole, IPv4's identification counts up.
 *
 * Return: octets of the packet
 */
size_t frame_segment(const struct vnet *vnet, const uint8_t *packet, size_t len,
		     size_t number, uint8_t *out)
{
	size_t start = vnet->csum_start, at = start + vnet->csum_offset;
	size_t hlen = start + UDP_HLEN, from, part;
	uint16_t check;
	uint32_t psum;

	if (frame_segments(vnet, packet, len) > 1) {
		from = hlen + number * vnet->gso_size;
		part = len - from < vnet->gso_size ? len - from : vnet->gso_size;
		memcpy(out, packet, hlen);
		check = csum_copy(out + hlen, packet + from, part, 0);
		if (out[0] >> 4 == 4)
			put16(out + 4, (uint16_t)(get16(out + 4) + number));
		l3_lengths(out, start, UDP_HLEN + part);
		put16(out + start + 4, (uint16_t)(UDP_HLEN + part));
		put16(out + start + UDP_AT_CHECK, 0);
		if (out[0] >> 4 == 4)
			psum = check + pseudo_sum(out + 12, 8, UDP_HLEN + part);
		else
			psum = check + pseudo_sum(out + 8, 32, UDP_HLEN + part);
		check = (uint16_t)~csum_fold(out + start, UDP_HLEN, psum);
		put16(out + start + UDP_AT_CHECK, check ? check : 0xffff);
		return hlen + part;
	}

	memcpy(out, packet, len);
	if (vnet->flags & VNET_NEEDS_CSUM && at + 2 <= len) {
		/* The field holds the sum of the pseudo-header (linux/skbuff.h). */
		check = (uint16_t)~csum_fold(out + start, len - start, 0);
		if (!check && vnet->csum_offset == UDP_AT_CHECK)
			check = 0xffff;		/* RFC 768 */
		put16(out + at, check);
	}
	return len;
}

/**
 * frame_headers() - complete the headers of a packet of a flow but for the UDP checksum
 * @headers:	the flow's, with addresses and ports; lengths and checksums are written,
 *		that of UDP is the sum of the pseudo-header
 * @hlen:	octets in @headers
 * @family:	AF_INET or AF_INET6
 * @payload:	octets that follow
 */
void frame_headers(uint8_t *headers, size_t hlen, uint32_t family, size_t payload)
{
	size_t l3 = hlen - UDP_HLEN, ulen = UDP_HLEN + payload;
	uint32_t psum;

	l3_lengths(headers, l3, ulen);
	if (family == AF_INET)
		psum = pseudo_sum(headers + 12, 8, ulen);
	else
		psum = pseudo_sum(headers + 8, 32, ulen);
	put16(headers + l3 + 4, (uint16_t)ulen);
	put16(headers + l3 + UDP_AT_CHECK, (uint16_t)psum);
}
