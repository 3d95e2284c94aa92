/* mhost_loopback.c - send a string to oneself, and have it back
 *
 *	mhost_loopback ADDRESS [STRING]		testproto:1, otherproto:0:0:0:1, ...
 *
 * ADDRESS is of this host. The original tested its protocols in this way. Ends with 0 if what
 * came is what was sent. Under `mhostctl run`, or linked with libmhost.
 */

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <mhost.h>

int main(int argc, char *argv[])
{
	struct sockaddr_mhost everywhere = { .smh_family = AF_MHOST, .smh_port = htons(8080) };
	struct addrinfo hints = { .ai_family = AF_MHOST }, *to;
	const char *string = argc > 2 ? argv[2] : "hello";
	struct timeval patience = { .tv_sec = 5 };
	char back[65536];
	int fd, err;
	ssize_t n;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: %s ADDRESS [STRING]\n", argv[0]);
		return 2;
	}
	fd = socket(AF_MHOST, SOCK_DGRAM, 0);
	if (fd < 0) {
		perror("socket");
		return 1;
	}
	if (bind(fd, (struct sockaddr *)&everywhere, sizeof(everywhere))) {
		perror("bind");
		return 1;
	}
	err = getaddrinfo(argv[1], "8080", &hints, &to);
	if (err) {
		fprintf(stderr, "%s: %s\n", argv[1], gai_strerror(err));
		return 1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (sendto(fd, string, strlen(string), 0, to->ai_addr, to->ai_addrlen) < 0) {
		perror("sendto");
		return 1;
	}
	freeaddrinfo(to);
	n = recv(fd, back, sizeof(back), 0);
	if (n < 0) {
		perror("recv");
		return 1;
	}
	if ((size_t)n != strlen(string) || memcmp(back, string, (size_t)n)) {
		fprintf(stderr, "something else came: %.*s\n", (int)n, back);
		return 1;
	}
	printf("looped back: %s\n", string);
	close(fd);
	return 0;
}
