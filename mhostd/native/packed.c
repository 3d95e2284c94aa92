/* packed.c - records between a ring and the data messages of ZeroMQ (packed.h) */

#include <string.h>

#include "packed.h"

/* Octets of the record at the start, without padding; 0 if it is none. */
static size_t record_at(const uint8_t *octets, size_t len, struct record *head)
{
	if (len < RECORD_HLEN)
		return 0;
	memcpy(head, octets, sizeof(*head));
	return head->length < RECORD_HLEN || head->length > len ? 0 : head->length;
}

/* Octets to the next record, which the last of a message may have no padding before. */
static size_t step_over(size_t length, size_t len)
{
	return record_align(length) < len ? record_align(length) : len;
}

/**
 * packed_plain() - whether an application may put all of these records in its ring
 * @octets:	records, one behind the other
 * @len:	octets
 *
 * Those that want an answer, have control messages or are wrong are for the walk, and so
 * is what comes with them.
 */
bool packed_plain(const uint8_t *octets, size_t len)
{
	struct record head;

	while (len) {
		size_t length = record_at(octets, len, &head), step;

		if (!length || head.flags & ~RECORD_CONNECTED ||
		    length - RECORD_HLEN > RECORD_PAYLOAD_MAX)
			return false;
		step = step_over(length, len);
		octets += step;
		len -= step;
	}
	return true;
}

/**
 * packed_put() - put records in a ring, as many as it has room for; published later
 * @ring:	of a producer
 * @octets:	records, one behind the other
 * @len:	octets
 *
 * Return: how many of the octets; what follows does not fit now, or is no record
 */
size_t packed_put(struct ring *ring, const uint8_t *octets, size_t len)
{
	struct record head;
	enum ring_says says;
	size_t done = 0;

	while (done < len) {
		size_t length = record_at(octets + done, len - done, &head);
		uint8_t *at = length ? ring_reserve(ring, length, &says) : NULL;

		if (!at)
			break;
		memcpy(at, octets + done, length);
		ring_commit(ring, length);
		done += step_over(length, len - done);
	}
	return done;
}

/**
 * packed_take() - take what has come for an application
 * @lane:	the application's side
 * @out:	where to write the records, one datagram in each; room for PACKED_MAX or @most
 *		octets, whichever is more
 * @most:	octets; one record may be longer than that, if it is the only one
 *
 * Return: how many octets were written
 */
size_t packed_take(struct app_lane *lane, uint8_t *out, size_t most)
{
	struct datagram d;
	size_t used = 0;

	while (app_lane_front(lane, &d) == RING_OK) {
		size_t control = d.control ? 8 + d.n_control : 0;
		size_t length = RECORD_HLEN + control + d.n_payload;
		struct record head = d.head;

		if (used ? used + record_align(length) > most : length > PACKED_MAX)
			break;
		head.length = (uint32_t)length;
		head.segment_size = 0;
		memcpy(out + used, &head, RECORD_HLEN);
		if (control)
			memcpy(out + used + RECORD_HLEN, d.control - 8, control);
		memcpy(out + used + RECORD_HLEN + control, d.payload, d.n_payload);
		memset(out + used + length, 0, record_align(length) - length);
		used += record_align(length);
		app_lane_pop(lane, &d);
	}
	return used;
}
