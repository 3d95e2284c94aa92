/* inet_server.c - print the strings that come to port 8080 over IPv4
 *
 *	inet_server [COUNT]		ends after so many; without it, never
 *
 * A plain program: on kernel sockets as it is, on mhostd's under
 * `mhostctl run --family inet -- ./inet_server`.
 */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT	8080

int main(int argc, char *argv[])
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	long count = argc > 1 ? atol(argv[1]) : -1;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	char string[65536];

	if (fd < 0) {
		perror("socket");
		return 1;
	}
	if (bind(fd, (struct sockaddr *)&at, sizeof(at))) {
		perror("bind");
		return 1;
	}
	while (count--) {
		ssize_t n = recv(fd, string, sizeof(string), 0);

		if (n < 0) {
			perror("recv");
			return 1;
		}
		printf("%.*s\n", (int)n, string);
		fflush(stdout);
	}
	close(fd);
	return 0;
}
