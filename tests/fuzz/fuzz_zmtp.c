/* fuzz_zmtp.c - what a peer sends that is no daemon: frames, and messages in them */

#include <stdlib.h>
#include <string.h>

#include "msgpack.h"
#include "zmtp.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

/* Read a message as if it were an answer, an error and a name; then step over it. */
static void read_message(const uint8_t *message, size_t len)
{
	struct mp_in in = { message, message + len, false };
	uint32_t n = mp_get_array(&in);
	size_t size;

	for (uint32_t i = 0; i < n && !in.bad; i++) {
		if (mp_is_octets(&in)) {
			const uint8_t *at = mp_get_octets(&in, &size);

			if (at < message || size > (size_t)(message + len - at))
				abort();
		} else if (mp_is_array(&in)) {
			mp_skip(&in);
		} else if (!mp_take_nil(&in)) {
			mp_get_int(&in);
		}
	}
	if (in.at > in.end)
		abort();
}

/* A peer that has greeted as it should. */
static void greeted(struct zmtp *z)
{
	const uint8_t *message;
	size_t room, len;

	zmtp_got(z, zmtp_hello(zmtp_room(z, &room)));
	if (zmtp_message(z, &message, &len) != ZMTP_WAIT || !zmtp_open(z))
		abort();
}

/* The first octet says into how small pieces the others are cut, and what came before. */
int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
	static struct zmtp z;
	enum zmtp_says says = ZMTP_WAIT;
	size_t piece = len ? (size_t)octets[0] + 1 : 1;
	const uint8_t *message;
	size_t size;

	zmtp_begin(&z);
	if (piece % 8)
		greeted(&z);
	for (size_t at = 1; at < len && says != ZMTP_BROKEN;) {
		size_t room, n = len - at < piece ? len - at : piece;
		uint8_t *to = zmtp_room(&z, &room);

		if (!room)
			abort();
		if (n > room)
			n = room;
		memcpy(to, octets + at, n);
		zmtp_got(&z, n);
		at += n;
		while ((says = zmtp_message(&z, &message, &size)) == ZMTP_MESSAGE) {
			if (size > ZMTP_MESSAGE_MAX)
				abort();
			read_message(message, size);
		}
	}
	return 0;
}
