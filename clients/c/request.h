/* request.h - the messages to the daemon (docs/ipc.md, mhostd/uapi.py) */
#ifndef MHOST_REQUEST_H
#define MHOST_REQUEST_H

#include "session.h"

#define UAPI_VERSION	1
#define DATA_MAGIC	0xc1
#define DATA_HLEN	8	/* octets before the records of a data message */
#define OPTION_MAX	256	/* octets of a socket option's value */
#define DEFAULT_SOCKET	"ipc:///run/mhostd/mhost.sock"

/**
 * struct request - a control message whose numbers are filled in when it is sent
 * @sk:		the socket that it names, or NULL
 * @out:	writes @octets
 * @seq_at:	where its number goes
 * @sk_at:	where the socket's goes, 0 if nowhere
 */
struct request {
	const struct sk *sk;
	struct mp_out out;
	size_t seq_at;
	size_t sk_at;
	uint8_t octets[640];
};

void request_begin(struct request *rq, const char *tag, uint32_t fields);
void request_begin_sk(struct request *rq, const char *tag, uint32_t fields,
		      const struct sk *sk);
void request_place(struct request *rq, const struct place *place);
void request_any_place(struct request *rq, const struct place *place);
emit_fn request_emit;

int request_ask(struct view *view, struct request *rq, uint32_t generation,
		struct reply *reply);
struct mp_in reply_value(const struct reply *reply);
bool get_place(struct mp_in *in, struct place *place);

#endif
