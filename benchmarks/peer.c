/* peer.c - a UDP program in C: on kernel sockets, with libmhost, or under the preloader
 *
 *   peer recv|echo  single|mmsg|gro  ADDRESS  SIZE  SECONDS
 *   peer send       single|mmsg|gso  ADDRESS  SIZE  SECONDS  PORT
 *   peer spread     COUNT            ADDRESS  SIZE  SECONDS  PORT
 *   peer window     COUNT            ADDRESS  SIZE  SECONDS  PORT
 *
 * `recv` and `echo` print their port first; they, `send` and `window` print {"per_s": ...}
 * at the end. `recv` counts from the first datagram on; `echo` ends when none comes for
 * SECONDS. `spread` sends to so many ports in turn; `window` has so many datagrams under
 * way to who sends them back.
 */

#include <arpa/inet.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH	64
#define BUFFER	65536

#ifndef SOL_UDP
#define SOL_UDP		17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT	103
#endif
#ifndef UDP_GRO
#define UDP_GRO		104
#endif

static unsigned char buffers[BATCH][BUFFER];
static struct mmsghdr msgs[BATCH];
static struct iovec parts[BATCH];
static struct sockaddr_in names[BATCH];
static unsigned char controls[BATCH][64];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void prepare(size_t octets)
{
	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){ buffers[i], octets };
		msgs[i].msg_hdr = (struct msghdr){
			.msg_name = names + i, .msg_namelen = sizeof(names[i]),
			.msg_iov = parts + i, .msg_iovlen = 1,
			.msg_control = controls[i], .msg_controllen = sizeof(controls[i]),
		};
	}
}

/* How many datagrams a message is. */
static long segments(struct msghdr *msg, long octets)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		int size;

		if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO)
			continue;
		memcpy(&size, CMSG_DATA(c), sizeof(size));
		return (octets + size - 1) / size;
	}
	return 1;
}

/* As much room as a super-packet or two; and nobody polls what recvmmsg() waits on. */
static void prepare_to_receive(int fd)
{
	struct timeval patience = { .tv_sec = 10 };
	int room = 4 << 20;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
#ifdef MHOST_POLLED
	room = 0;
	setsockopt(fd, SOL_MHOST, MHOST_POLLED, &room, sizeof(room));
#endif
}

static int bound(const char *address, int gro)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
	socklen_t len = sizeof(at);

	inet_pton(AF_INET, address, &at.sin_addr);
	prepare_to_receive(fd);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)))
		die("bind");
	if (gro && setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)))
		die("UDP_GRO");
	getsockname(fd, (struct sockaddr *)&at, &len);
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
	return fd;
}

static void patience(int fd, double seconds)
{
	struct timeval t = { (time_t)seconds, (suseconds_t)((seconds - (time_t)seconds) * 1e6) };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
}

static void run_recv(int fd, const char *mode, double seconds)
{
	int batch = strcmp(mode, "mmsg") ? 1 : BATCH;
	double start = 0, end = 0, last = 0;
	long count = 0;

	for (;;) {
		int n;

		prepare(BUFFER);
		n = recvmmsg(fd, msgs, (unsigned)batch, MSG_WAITFORONE, NULL);
		if (n <= 0)
			break;
		last = now();
		if (!start) {
			start = last;
			end = start + seconds;
			patience(fd, 0.5);
			continue;
		}
		for (int i = 0; i < n; i++)
			count += segments(&msgs[i].msg_hdr, msgs[i].msg_len);
		if (last >= end)
			break;
	}
	printf("{\"per_s\": %.1f}\n", last > start ? (double)count / (last - start) : 0);
}

static void run_echo(int fd, double seconds)
{
	for (;;) {
		int n;

		prepare(BUFFER);
		n = recvmmsg(fd, msgs, BATCH, MSG_WAITFORONE, NULL);
		if (n <= 0)
			return;
		patience(fd, seconds);
		for (int i = 0; i < n; i++) {
			parts[i].iov_len = msgs[i].msg_len;
			msgs[i].msg_hdr.msg_control = NULL;
			msgs[i].msg_hdr.msg_controllen = 0;
		}
		sendmmsg(fd, msgs, (unsigned)n, 0);
	}
}

static int connected(const char *address, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	inet_pton(AF_INET, address, &to.sin_addr);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		die("connect");
	return fd;
}

/* Messages as sendmmsg() wants them. */
static void plain(size_t octets)
{
	prepare(octets);
	for (int i = 0; i < BATCH; i++) {
		msgs[i].msg_hdr.msg_name = NULL;
		msgs[i].msg_hdr.msg_namelen = 0;
		msgs[i].msg_hdr.msg_control = NULL;
		msgs[i].msg_hdr.msg_controllen = 0;
	}
}

static void run_spread(int count, const char *address, size_t size, double seconds, int port)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0), at = 0;
	double end = now() + seconds;

	plain(size);
	for (int i = 0; i < BATCH; i++) {
		names[i].sin_family = AF_INET;
		inet_pton(AF_INET, address, &names[i].sin_addr);
		msgs[i].msg_hdr.msg_name = names + i;
		msgs[i].msg_hdr.msg_namelen = sizeof(names[i]);
	}
	while (now() < end) {
		for (int i = 0; i < BATCH; i++, at = (at + 1) % count)
			names[i].sin_port = htons((unsigned short)(port + at));
		sendmmsg(fd, msgs, BATCH, 0);
	}
}

static void run_window(int count, const char *address, size_t size, double seconds, int port)
{
	int fd = connected(address, port), lost = 1;
	double start = 0, end = now() + 10;
	long done = 0;

	patience(fd, 0.2);
	while (now() < end) {
		int n;

		plain(size);
		if (lost)
			sendmmsg(fd, msgs, (unsigned)count, 0);
		n = recvmmsg(fd, msgs, (unsigned)count, MSG_WAITFORONE, NULL);
		lost = n <= 0;
		if (lost)
			continue;
		if (!start) {	/* the first ones found the way */
			start = now();
			end = start + seconds;
		} else {
			done += n;
		}
		plain(size);
		sendmmsg(fd, msgs, (unsigned)n, 0);
	}
	printf("{\"per_s\": %.1f}\n", start ? (double)done / (now() - start) : 0);
}

static void run_send(const char *mode, const char *address, size_t size, double seconds, int port)
{
	int fd = connected(address, port), segment = (int)size;
	int several = (int)(BUFFER - 1000) / segment;
	double start = now(), t = start;
	long count = 0;

	if (several > BATCH)
		several = BATCH;
	if (!strcmp(mode, "gso") &&
	    setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)))
		die("UDP_SEGMENT");
	plain(size);
	while (t < start + seconds) {
		for (int i = 0; i < 16; i++) {
			if (!strcmp(mode, "gso")) {
				if (send(fd, buffers, (size_t)several * size, 0) > 0)
					count += several;
			} else if (!strcmp(mode, "mmsg")) {
				int n = sendmmsg(fd, msgs, BATCH, 0);

				count += n > 0 ? n : 0;
			} else {
				count += send(fd, buffers, size, 0) > 0;
			}
		}
		t = now();
	}
	printf("{\"per_s\": %.1f}\n", (double)count / (t - start));
}

int main(int argc, char **argv)
{
	double seconds;

	if (argc < 6)
		return 2;
	seconds = atof(argv[5]);
	if (!strcmp(argv[1], "send"))
		run_send(argv[2], argv[3], (size_t)atoi(argv[4]), seconds, atoi(argv[6]));
	else if (!strcmp(argv[1], "spread"))
		run_spread(atoi(argv[2]), argv[3], (size_t)atoi(argv[4]), seconds, atoi(argv[6]));
	else if (!strcmp(argv[1], "window"))
		run_window(atoi(argv[2]), argv[3], (size_t)atoi(argv[4]), seconds, atoi(argv[6]));
	else if (!strcmp(argv[1], "recv"))
		run_recv(bound(argv[3], !strcmp(argv[2], "gro")), argv[2], seconds);
	else
		run_echo(bound(argv[3], 0), seconds);
	return 0;
}
