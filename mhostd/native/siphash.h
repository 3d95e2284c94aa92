/* siphash.h - SipHash-2-4 with 128 bits (Aumasson, Bernstein) */
#ifndef MHOSTD_SIPHASH_H
#define MHOSTD_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_KEY	16	/* octets */
#define SIPHASH_LEN	16	/* octets of the hash */

void siphash128(const uint8_t *key, const void *head, size_t hlen, const void *data,
		size_t len, uint8_t *out);

#endif
