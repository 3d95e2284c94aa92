/* siphash.c - SipHash-2-4 with 128 bits (siphash.h)
 *
 * "SipHash: a fast short-input PRF", Aumasson and Bernstein, 2012. The variant of 128 bits
 * is that of their reference implementation; its words go out in its order.
 */

#include <endian.h>
#include <string.h>

#include "siphash.h"

#define WORD	8	/* octets */

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t word, int bits)
{
	return word << bits | word >> (64 - bits);
}

/* SipRound, `rounds` times; a constant, so that there is no loop left. */
static inline struct sip sip_rounds(struct sip s, int rounds)
{
	for (int i = 0; i < rounds; i++) {
		s.v0 += s.v1;
		s.v2 += s.v3;
		s.v1 = rotl(s.v1, 13) ^ s.v0;
		s.v3 = rotl(s.v3, 16) ^ s.v2;
		s.v0 = rotl(s.v0, 32);
		s.v2 += s.v1;
		s.v0 += s.v3;
		s.v1 = rotl(s.v1, 17) ^ s.v2;
		s.v3 = rotl(s.v3, 21) ^ s.v0;
		s.v2 = rotl(s.v2, 32);
	}
	return s;
}

static inline uint64_t load(const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, WORD);
	return le64toh(word);
}

static inline void store(uint8_t *at, uint64_t word)
{
	word = htole64(word);
	memcpy(at, &word, WORD);
}

/* Compress @len octets, a multiple of WORD. */
static inline struct sip sip_words(struct sip s, const uint8_t *at, size_t len)
{
	for (const uint8_t *end = at + len; at != end; at += WORD) {
		uint64_t word = load(at);

		s.v3 ^= word;
		s = sip_rounds(s, 2);
		s.v0 ^= word;
	}
	return s;
}

/**
 * siphash128() - SipHash-2-4-128 of a message in two pieces
 * @key:	SIPHASH_KEY octets
 * @head:	the first piece, at any alignment
 * @hlen:	octets of @head; 0 is fine if there is a pointer, and so is a @len of 0
 * @data:	what follows it, at any alignment
 * @len:	octets of @data
 * @out:	room for SIPHASH_LEN octets, which may be those behind @data
 */
void siphash128(const uint8_t *key, const void *head, size_t hlen, const void *data,
		size_t len, uint8_t *out)
{
	uint64_t k0 = load(key), k1 = load(key + WORD);
	struct sip s = {
		.v0 = k0 ^ 0x736f6d6570736575ull,
		.v1 = k1 ^ 0x646f72616e646f6dull ^ 0xee,
		.v2 = k0 ^ 0x6c7967656e657261ull,
		.v3 = k1 ^ 0x7465646279746573ull,
	};
	uint8_t all = (uint8_t)(hlen + len);	/* modulo 256, says the paper */
	size_t used = hlen % WORD;		/* octets of @word */
	const uint8_t *at = data;
	uint8_t word[WORD] = { 0 };

	s = sip_words(s, head, hlen - used);
	if (used) {
		size_t fill = len < WORD - used ? len : WORD - used;

		memcpy(word, (const uint8_t *)head + hlen - used, used);
		if (fill)
			memcpy(word + used, at, fill);
		used += fill;
		at += fill;
		len -= fill;
		if (used == WORD) {
			s = sip_words(s, word, WORD);
			memset(word, 0, WORD);
			used = 0;
		}
	}
	if (len) {	/* then @word is empty */
		used = len % WORD;
		s = sip_words(s, at, len - used);
		memcpy(word, at + len - used, used);
	}
	word[WORD - 1] = all;
	s = sip_words(s, word, WORD);

	s.v2 ^= 0xee;
	s = sip_rounds(s, 4);
	store(out, s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
	s.v1 ^= 0xdd;
	s = sip_rounds(s, 4);
	store(out + WORD, s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
}
