/* mhost_client.c - send a string to port 8080 of a host
 *
 *	mhost_client HOST [STRING]	HOST: a name, an address, or proto:address
 *
 * Under `mhostctl run`, or linked with libmhost (mhost_client_direct).
 */

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mhost.h>

int main(int argc, char *argv[])
{
	const char *string = argc > 2 ? argv[2] : "hello";
	struct addrinfo hints = { .ai_family = AF_MHOST }, *to;
	int fd, err;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: %s HOST [STRING]\n", argv[0]);
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
	if (sendto(fd, string, strlen(string), 0, to->ai_addr, to->ai_addrlen) < 0) {
		perror("sendto");
		return 1;
	}
	freeaddrinfo(to);
	close(fd);
	return 0;
}
