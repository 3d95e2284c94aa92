/* mhost_send.c - send a string to port 8080 of a host that one is connected to
 *
 *	mhost_send HOST STRING [COUNT]
 *
 * Under `mhostctl run`, or linked with libmhost.
 */

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mhost.h>

int main(int argc, char *argv[])
{
	long count = argc > 3 ? atol(argv[3]) : 1;
	struct addrinfo hints = { .ai_family = AF_MHOST }, *to;
	int fd, err;

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: %s HOST STRING [COUNT]\n", argv[0]);
		return 2;
	}
	fd = socket(AF_MHOST, SOCK_DGRAM, 0);
	if (fd < 0) {
		perror("socket");
		return 1;
	}
	err = getaddrinfo(argv[1], "8080", &hints, &to);
	if (err) {
		fprintf(stderr, "%s: %s\n", argv[1], gai_strerror(err));
		return 1;
	}
	if (connect(fd, to->ai_addr, to->ai_addrlen)) {
		perror("connect");
		return 1;
	}
	freeaddrinfo(to);
	while (count-- > 0)
		if (send(fd, argv[2], strlen(argv[2]), 0) < 0) {
			perror("send");
			return 1;
		}
	close(fd);
	return 0;
}
