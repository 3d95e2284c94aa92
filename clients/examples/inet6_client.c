/* inet6_client.c - send a string to port 8080 of an IPv6 address
 *
 *	inet6_client [ADDRESS [STRING]]
 *
 * A plain program: on kernel sockets as it is, on mhostd's under
 * `mhostctl run --family inet -- ./inet6_client ADDRESS`.
 */

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT	8080

int main(int argc, char *argv[])
{
	const char *address = argc > 1 ? argv[1] : "::1";
	const char *string = argc > 2 ? argv[2] : "hello";
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };
	int fd;

	if (argc > 3) {
		fprintf(stderr, "usage: %s [ADDRESS [STRING]]\n", argv[0]);
		return 2;
	}
	if (inet_pton(AF_INET6, address, &to.sin6_addr) != 1) {
		fprintf(stderr, "%s is no IPv6 address\n", address);
		return 2;
	}
	fd = socket(AF_INET6, SOCK_DGRAM, 0);
	if (fd < 0) {
		perror("socket");
		return 1;
	}
	if (sendto(fd, string, strlen(string), 0, (struct sockaddr *)&to, sizeof(to)) < 0) {
		perror("sendto");
		return 1;
	}
	close(fd);
	return 0;
}
