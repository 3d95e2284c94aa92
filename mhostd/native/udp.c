/* udp.c - UDP header (RFC 768) */

#include <arpa/inet.h>
#include <string.h>

#include "csum.h"
#include "udp.h"

/**
 * udp_push() - write the UDP header in front of the payload already in a buffer
 * @buf:	UDP_HLEN octets for the header, then the payload
 * @len:	octets in @buf, UDP_HLEN..UDP_LEN_MAX
 * @source:	source port (host order)
 * @dest:	destination port (host order)
 * @psum:	partial sum of the L3 pseudo-header (host order), 0 if none
 */
void udp_push(void *buf, size_t len, uint16_t source, uint16_t dest,
	      uint32_t psum)
{
	uint16_t hdr[4] = { htons(source), htons(dest), htons((uint16_t)len), 0 };

	memcpy(buf, hdr, sizeof(hdr));
	hdr[3] = htons((uint16_t)~csum_fold(buf, len, psum));
	if (!hdr[3])
		hdr[3] = 0xffff;	/* RFC 768: 0 says "no checksum" */
	memcpy(buf, hdr, sizeof(hdr));
}
