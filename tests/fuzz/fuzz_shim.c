/* fuzz_shim.c - any octets as packets of a session
 *
 * Each is its length (1 octet), what to do with it (1), and as many octets. Done to it, for
 * no fuzzer finds a tag: bit 0, the tag is made right; bit 1, it is sealed as an inner packet.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "shim.h"

#define SEEN	4096	/* packets of one input, at most */

static const uint8_t key_a[SIPHASH_KEY] = { 1 }, key_b[SIPHASH_KEY] = { 2 };

/* The packet to open, as long as it is, so that a step too far is seen. */
static uint8_t *packet_of(struct shim *near, const uint8_t *data, size_t n, uint8_t what,
			  size_t *len)
{
	size_t half = n / 2;
	struct iovec parts[] = { { (void *)data, half }, { (void *)(data + half), n - half } };
	uint8_t *packet;

	*len = what & 2 ? n + SHIM_OVERHEAD : n;
	packet = malloc(*len ? *len : 1);
	if (what & 2) {
		assert(shim_seal(near, what, 17, parts, 2, packet) == (ssize_t)*len);
		return packet;
	}
	memcpy(packet, data, n);
	if (what & 1 && n >= SHIM_OVERHEAD)
		siphash128(key_a, packet, n - SIPHASH_LEN, packet, 0, packet + n - SIPHASH_LEN);
	return packet;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct shim *near = shim_new(key_b, key_a, 1), *far = shim_new(key_a, key_b, 2);
	uint64_t seen[SEEN], packets = 0, highest = 0;
	size_t n_seen = 0;

	while (size >= 2 && n_seen < SEEN) {
		uint64_t bad = far->counts[SHIM_BAD_TAG] + far->counts[SHIM_MALFORMED];
		uint64_t counted = 0, path_highest = 0, sum = 0;
		size_t n = data[0] < size - 2 ? data[0] : size - 2, len;
		uint8_t what = data[1], *packet = packet_of(near, data + 2, n, what, &len);
		uint64_t max = far->rx_max;
		struct shim_view view;
		enum shim_says says = shim_open(far, packet, len, &view);

		packets++;
		assert(what & 2 || len >= SHIM_OVERHEAD || says == SHIM_MALFORMED);
		if (says == SHIM_OK) {
			assert(view.inner == packet + SHIM_HLEN);
			assert(view.len == len - SHIM_OVERHEAD);
			assert(view.seq > max || max - view.seq < SHIM_WINDOW);
			for (size_t i = 0; i < n_seen; i++)
				assert(seen[i] != view.seq);
			seen[n_seen++] = view.seq;
			if (view.seq > highest)
				highest = view.seq;
		} else if (says != SHIM_REPLAYED) {
			assert(far->rx_max == max);
			assert(far->counts[SHIM_BAD_TAG] + far->counts[SHIM_MALFORMED] == bad + 1);
		}
		for (size_t i = 0; i < SHIM_PATHS; i++) {
			counted += far->received[i].count;
			if (far->received[i].highest > path_highest)
				path_highest = far->received[i].highest;
		}
		for (int i = 0; i < SHIM_SAYS; i++)
			sum += far->counts[i];
		assert(counted == far->counts[SHIM_OK] + far->counts[SHIM_REPLAYED]);
		assert(sum == packets && far->counts[SHIM_OK] == n_seen);
		assert(path_highest == far->rx_max && highest == far->rx_max);
		free(packet);
		data += 2 + n;
		size -= 2 + n;
	}
	shim_put(shim_get(far));
	shim_put(far);
	shim_put(near);
	return 0;
}
