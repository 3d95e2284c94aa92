/* inet_client.c - send a string to port 8080 of an IPv4 address
 *
 *	inet_client [ADDRESS [STRING]]
 *
 * A plain program: on kernel sockets as it is, on mhostd's under
 * `mhostctl run --family inet -- ./inet_client ADDRESS`.
 */

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT	8080

int main(int argc, char *argv[])
{
	const char *address = argc > 1 ? argv[1] : "127.0.0.1";
	const char *string = argc > 2 ? argv[2] : "hello";
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int fd;

	if (argc > 3) {
		fprintf(stderr, "usage: %s [ADDRESS [STRING]]\n", argv[0]);
		return 2;
	}
	if (inet_pton(AF_INET, address, &to.sin_addr) != 1) {
		fprintf(stderr, "%s is no IPv4 address\n", address);
		return 2;
	}
	fd = socket(AF_INET, SOCK_DGRAM, 0);
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
