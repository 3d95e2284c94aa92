/* zmtp.h - a DEALER's side of ZMTP 3.0 with the NULL mechanism, as octets
 *
 * https://rfc.zeromq.org/spec/23/. No descriptor is touched here: the caller sends what is
 * written and gives what it has received. A message is one frame (docs/ipc.md); a peer
 * that sends anything else is broken.
 *
 *	greeting   ff 00*8 7f | 3 0 | "NULL" zero padded to 20 | 0 | 00*31    64 octets
 *	frame      flags | length, 1 or 8 octets in network order | body
 */
#ifndef MHOST_ZMTP_H
#define MHOST_ZMTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZMTP_MESSAGE_MAX	(1u << 17)	/* octets of one message, either way */
#define ZMTP_FRAME_HLEN		9		/* octets before a body, at most */
#define ZMTP_HELLO_LEN		107		/* octets that begin a connection */

/**
 * struct zmtp - what has been received, as far as it was not taken
 * @phase:	what is expected next
 * @at:		first octet that was not taken
 * @end:	behind the last one received
 * @octets:	room for the largest message and its frame
 */
struct zmtp {
	uint32_t phase;
	uint32_t at;
	uint32_t end;
	uint8_t octets[ZMTP_MESSAGE_MAX + ZMTP_FRAME_HLEN];
};

enum zmtp_says { ZMTP_MESSAGE, ZMTP_WAIT, ZMTP_BROKEN };

size_t zmtp_hello(uint8_t *out);
size_t zmtp_frame(uint8_t *out, size_t len);

void zmtp_begin(struct zmtp *z);
uint8_t *zmtp_room(struct zmtp *z, size_t *len);
void zmtp_got(struct zmtp *z, size_t len);
enum zmtp_says zmtp_message(struct zmtp *z, const uint8_t **message, size_t *len);
bool zmtp_open(const struct zmtp *z);

#endif
