/* csum.c - Internet checksum (RFC 1071) */

#include <arpa/inet.h>
#include <string.h>

#include "csum.h"

/* Fold a 64-bit one's complement sum of 16-bit words to 16 bits. */
static uint16_t fold64(uint64_t sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)sum;
}

/**
 * csum_fold() - one's complement sum of 16-bit words, folded to 16 bits
 * @data:	octets to sum, at any alignment
 * @len:	octets in @data; an odd last one is padded with a zero octet
 * @psum:	partial sum to start from (host order)
 *
 * Sums 32-bit words in memory order, four accumulators deep so that the compiler
 * can use vector registers, and swaps once at the end: RFC 1071 section 2 (B)
 * says that byte order does not matter until then. Each accumulator takes at most
 * 2^32 words before it could overflow; @len of 16 GiB is out of reach here.
 *
 * Return: the sum, host order, not complemented: 0xffff over good data
 */
uint16_t csum_fold(const void *data, size_t len, uint32_t psum)
{
	uint64_t acc[4] = { 0, 0, 0, 0 };
	const unsigned char *at = data;
	uint32_t words[4] = { 0, 0, 0, 0 };
	uint64_t sum;

	while (len >= sizeof(words)) {
		memcpy(words, at, sizeof(words));
		for (int i = 0; i < 4; i++)
			acc[i] += words[i];
		at += sizeof(words);
		len -= sizeof(words);
	}
	if (len) {
		memset(words, 0, sizeof(words));
		memcpy(words, at, len);
		for (int i = 0; i < 4; i++)
			acc[i] += words[i];
	}

	sum = acc[0] + acc[1] + acc[2] + acc[3];
	return fold64((uint64_t)ntohs(fold64(sum)) + psum);
}
