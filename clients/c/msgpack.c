/* msgpack.c - as much MessagePack as the control messages need (msgpack.h) */

#include <string.h>

#include "msgpack.h"

static void put(struct mp_out *out, const void *octets, size_t len)
{
	if (out->bad || (size_t)(out->end - out->at) < len) {
		out->bad = true;
		return;
	}
	if (len)
		memcpy(out->at, octets, len);
	out->at += len;
}

/* One octet that says what follows, and @n octets of a number in network order. */
static void head(struct mp_out *out, uint8_t type, uint64_t value, int n)
{
	uint8_t octets[9] = { type };

	for (int i = 0; i < n; i++)
		octets[1 + i] = (uint8_t)(value >> (8 * (n - 1 - i)));
	put(out, octets, (size_t)n + 1);
}

void mp_array(struct mp_out *out, uint32_t n)
{
	head(out, (uint8_t)(0x90 | n), 0, 0);	/* of at most 15 */
	out->bad |= n > 15;
}

void mp_int(struct mp_out *out, int64_t value)
{
	head(out, 0xd3, (uint64_t)value, 8);
}

void mp_u32(struct mp_out *out, uint32_t value)
{
	head(out, 0xce, value, 4);
}

void mp_bool(struct mp_out *out, bool value)
{
	head(out, value ? 0xc3 : 0xc2, 0, 0);
}

void mp_nil(struct mp_out *out)
{
	head(out, 0xc0, 0, 0);
}

void mp_str(struct mp_out *out, const char *text, size_t len)
{
	if (len < 32)
		head(out, (uint8_t)(0xa0 | len), 0, 0);
	else
		head(out, 0xda, len, 2);
	out->bad |= len > 0xffff;
	put(out, text, len);
}

void mp_bin(struct mp_out *out, const uint8_t *octets, size_t len)
{
	head(out, 0xc5, len, 2);
	out->bad |= len > 0xffff;
	put(out, octets, len);
}

static bool need(struct mp_in *in, size_t len)
{
	if (in->bad || (size_t)(in->end - in->at) < len)
		in->bad = true;
	return !in->bad;
}

static uint64_t number(struct mp_in *in, int n)
{
	uint64_t value = 0;

	if (!need(in, (size_t)n))
		return 0;
	while (n--)
		value = value << 8 | *in->at++;
	return value;
}

static uint8_t type(struct mp_in *in)
{
	return (uint8_t)number(in, 1);
}

static uint64_t wrong(struct mp_in *in)
{
	in->bad = true;
	return 0;
}

/* How many elements follow; at least one octet of each is there. */
uint32_t mp_get_array(struct mp_in *in)
{
	uint8_t t = type(in);
	uint64_t n = 0;

	if ((t & 0xf0) == 0x90)
		n = t & 0x0f;
	else if (t == 0xdc || t == 0xdd)
		n = number(in, t == 0xdc ? 2 : 4);
	else
		wrong(in);
	return need(in, n) ? (uint32_t)n : 0;
}

/* An integer; of one above INT64_MAX the low 63 bits. */
int64_t mp_get_int(struct mp_in *in)
{
	uint8_t t = type(in);
	uint64_t value;

	if (t < 0x80 || t >= 0xe0)
		return (int8_t)t;
	switch (t) {
	case 0xcc:
	case 0xcd:
	case 0xce:
	case 0xcf:
		return (int64_t)(number(in, 1 << (t - 0xcc)) & INT64_MAX);
	case 0xd0:
		return (int8_t)number(in, 1);
	case 0xd1:
		return (int16_t)number(in, 2);
	case 0xd2:
		return (int32_t)number(in, 4);
	case 0xd3:
		value = number(in, 8);
		return value > INT64_MAX ? -1 - (int64_t)(UINT64_MAX - value) : (int64_t)value;
	}
	return (int64_t)wrong(in);
}

bool mp_get_bool(struct mp_in *in)
{
	uint8_t t = type(in);

	if (t != 0xc2 && t != 0xc3)
		wrong(in);
	return t == 0xc3;
}

/* Text or octets; they stand in the message. */
const uint8_t *mp_get_octets(struct mp_in *in, size_t *len)
{
	uint8_t t = type(in);
	const uint8_t *at;
	uint64_t n = 0;

	if ((t & 0xe0) == 0xa0)
		n = t & 0x1f;
	else if (t >= 0xc4 && t <= 0xc6)
		n = number(in, 1 << (t - 0xc4));
	else if (t >= 0xd9 && t <= 0xdb)
		n = number(in, 1 << (t - 0xd9));
	else
		wrong(in);
	*len = 0;
	if (!need(in, n))
		return in->end;
	at = in->at;
	in->at += n;
	*len = n;
	return at;
}

static uint8_t peek(const struct mp_in *in)
{
	return in->bad || in->at == in->end ? 0xc1 : *in->at;	/* which is never used */
}

/* Whether nil was next; it is taken. */
bool mp_take_nil(struct mp_in *in)
{
	bool nil = peek(in) == 0xc0;

	in->at += nil;
	return nil;
}

bool mp_is_octets(const struct mp_in *in)
{
	uint8_t t = peek(in);

	return (t & 0xe0) == 0xa0 || (t >= 0xc4 && t <= 0xc6) || (t >= 0xd9 && t <= 0xdb);
}

bool mp_is_array(const struct mp_in *in)
{
	uint8_t t = peek(in);

	return (t & 0xf0) == 0x90 || t == 0xdc || t == 0xdd;
}

/* Step over one element, whatever is in it. */
void mp_skip(struct mp_in *in)
{
	uint64_t left = 1;

	while (left-- && !in->bad) {
		uint8_t t = peek(in);
		size_t len;

		if (mp_is_array(in)) {
			left += mp_get_array(in);
		} else if (mp_is_octets(in)) {
			mp_get_octets(in, &len);
		} else if (t == 0xc0 || t == 0xc2 || t == 0xc3) {
			in->at++;
		} else if ((t & 0xf0) == 0x80) {
			in->at++;
			left += 2 * (t & 0x0f);
		} else if (t == 0xca || t == 0xcb) {
			in->at++;
			number(in, t == 0xca ? 4 : 8);
		} else {
			mp_get_int(in);
		}
	}
}
