/* udp.h - UDP header (RFC 768) */
#ifndef MHOSTD_UDP_H
#define MHOSTD_UDP_H

#include <stddef.h>
#include <stdint.h>

#define UDP_HLEN	8
#define UDP_LEN_MAX	0xffff

void udp_push(void *buf, size_t len, uint16_t source, uint16_t dest,
	      uint32_t psum);

#endif
