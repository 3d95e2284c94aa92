/* msgpack.h - as much MessagePack as the control messages need (docs/ipc.md, section 2)
 *
 * https://github.com/msgpack/msgpack/blob/master/spec.md. A writer that has no room and a
 * reader that meets what it does not expect stop for good (`bad`), so that a caller looks
 * once, at the end.
 */
#ifndef MHOST_MSGPACK_H
#define MHOST_MSGPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * struct mp_out - a message that is written
 * @at:		where the next octet goes
 * @end:	behind the last one there is room for
 * @bad:	something had no room
 */
struct mp_out {
	uint8_t *at;
	uint8_t *end;
	bool bad;
};

void mp_array(struct mp_out *out, uint32_t n);
void mp_int(struct mp_out *out, int64_t value);
void mp_u32(struct mp_out *out, uint32_t value);
void mp_bool(struct mp_out *out, bool value);
void mp_nil(struct mp_out *out);
void mp_str(struct mp_out *out, const char *text, size_t len);
void mp_bin(struct mp_out *out, const uint8_t *octets, size_t len);

/**
 * struct mp_in - a message that is read
 * @at:		the next octet
 * @end:	behind the last one
 * @bad:	something else was there
 */
struct mp_in {
	const uint8_t *at;
	const uint8_t *end;
	bool bad;
};

uint32_t mp_get_array(struct mp_in *in);
int64_t mp_get_int(struct mp_in *in);
bool mp_get_bool(struct mp_in *in);
const uint8_t *mp_get_octets(struct mp_in *in, size_t *len);
bool mp_take_nil(struct mp_in *in);
bool mp_is_octets(const struct mp_in *in);
bool mp_is_array(const struct mp_in *in);
void mp_skip(struct mp_in *in);

#endif
