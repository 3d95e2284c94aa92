/* zmtp.c - a DEALER's side of ZMTP 3.0, as octets (zmtp.h) */

#include <stdbool.h>
#include <string.h>

#include "zmtp.h"

#define GREETING_LEN	64
#define MORE		1
#define LONG		2
#define COMMAND		4

enum { GREETING, HANDSHAKE, TRAFFIC, BROKEN };

static const uint8_t ready[] = "\5READY"
			       "\13Socket-Type\0\0\0\6DEALER"
			       "\10Identity\0\0\0\0";

_Static_assert(GREETING_LEN + 2 + sizeof(ready) - 1 == ZMTP_HELLO_LEN, "greeting and READY");

/**
 * zmtp_hello() - what a client sends first, without waiting for the other side's
 * @out:	ZMTP_HELLO_LEN octets
 *
 * Return: ZMTP_HELLO_LEN
 */
size_t zmtp_hello(uint8_t *out)
{
	memset(out, 0, GREETING_LEN);
	out[0] = 0xff;
	out[9] = 0x7f;
	out[10] = 3;
	memcpy(out + 12, "NULL", 4);
	out[GREETING_LEN] = COMMAND;
	out[GREETING_LEN + 1] = sizeof(ready) - 1;
	memcpy(out + GREETING_LEN + 2, ready, sizeof(ready) - 1);
	return ZMTP_HELLO_LEN;
}

/**
 * zmtp_frame() - what stands before a message
 * @out:	ZMTP_FRAME_HLEN octets
 * @len:	octets of the message
 *
 * Return: octets written
 */
size_t zmtp_frame(uint8_t *out, size_t len)
{
	if (len <= 0xff) {
		out[0] = 0;
		out[1] = (uint8_t)len;
		return 2;
	}
	out[0] = LONG;
	for (int i = 0; i < 8; i++)
		out[1 + i] = (uint8_t)((uint64_t)len >> (8 * (7 - i)));
	return ZMTP_FRAME_HLEN;
}

/* A connection begins: the greeting comes first. */
void zmtp_begin(struct zmtp *z)
{
	z->phase = GREETING;
	z->at = z->end = 0;
}

/**
 * zmtp_room() - where to put what is received
 * @z:		the connection; what zmtp_message() gave last is gone then
 * @len:	octets of room, at least 1
 */
uint8_t *zmtp_room(struct zmtp *z, size_t *len)
{
	if (z->at > z->end || z->end > sizeof(z->octets)) {	/* somebody died in between */
		z->phase = BROKEN;
		z->at = z->end = 0;
	}
	if (z->at == z->end) {
		z->at = z->end = 0;
	} else if (z->at && z->end > sizeof(z->octets) / 2) {
		memmove(z->octets, z->octets + z->at, z->end - z->at);
		z->end -= z->at;
		z->at = 0;
	}
	*len = sizeof(z->octets) - z->end;
	return z->octets + z->end;
}

/* So many octets were put there. */
void zmtp_got(struct zmtp *z, size_t len)
{
	z->end += (uint32_t)len;
}

/* Take the next frame, if all of it is there; its length is looked at first. */
static enum zmtp_says frame(struct zmtp *z, uint8_t *flags, const uint8_t **body, size_t *len)
{
	const uint8_t *at = z->octets + z->at;
	size_t have = z->end - z->at, head = 2;
	uint64_t length;

	if (!have)
		return ZMTP_WAIT;
	*flags = at[0];
	if (*flags & ~(LONG | COMMAND))
		return ZMTP_BROKEN;	/* MORE too */
	if (*flags & LONG)
		head = ZMTP_FRAME_HLEN;
	if (have < head)
		return ZMTP_WAIT;
	length = at[1];
	for (size_t i = 2; i < head; i++)
		length = length << 8 | at[i];
	if (length > ZMTP_MESSAGE_MAX)
		return ZMTP_BROKEN;
	if (have - head < length)
		return ZMTP_WAIT;
	*body = at + head;
	*len = (size_t)length;
	z->at += (uint32_t)(head + length);
	return ZMTP_MESSAGE;
}

static bool is_command(const uint8_t *body, size_t len, const char *name)
{
	size_t n = strlen(name);

	return len > n && body[0] == n && !memcmp(body + 1, name, n);
}

/**
 * zmtp_message() - the next message
 * @z:		the connection
 * @message:	where it stands until zmtp_room() is called
 * @len:	its octets
 *
 * Return: ZMTP_WAIT if it has not all come, ZMTP_BROKEN if the connection is to be closed
 */
enum zmtp_says zmtp_message(struct zmtp *z, const uint8_t **message, size_t *len)
{
	enum zmtp_says says;
	uint8_t flags;

	if (z->phase == GREETING) {
		const uint8_t *at = z->octets + z->at;

		if (z->end - z->at < GREETING_LEN)
			return ZMTP_WAIT;
		if (at[0] != 0xff || !(at[9] & 1) || at[10] != 3 ||
		    memcmp(at + 12, "NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20))
			goto broken;
		z->at += GREETING_LEN;
		z->phase = HANDSHAKE;
	}
	if (z->phase == HANDSHAKE) {
		says = frame(z, &flags, message, len);
		if (says == ZMTP_WAIT)
			return says;
		if (says == ZMTP_BROKEN || !(flags & COMMAND) || !is_command(*message, *len, "READY"))
			goto broken;
		z->phase = TRAFFIC;
	}
	if (z->phase == TRAFFIC) {
		says = frame(z, &flags, message, len);
		if (says == ZMTP_WAIT || (says == ZMTP_MESSAGE && !(flags & COMMAND)))
			return says;
	}
broken:
	z->phase = BROKEN;
	return ZMTP_BROKEN;
}

/* Whether the other side's READY has come: messages may be sent from now on. */
bool zmtp_open(const struct zmtp *z)
{
	return z->phase == TRAFFIC;
}
