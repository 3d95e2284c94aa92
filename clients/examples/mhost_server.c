/* mhost_server.c - print the strings that come to port 8080, over whatever they come
 *
 *	mhost_server [COUNT]		ends after so many; without it, never
 *
 * Who sent each goes to standard error. Under `mhostctl run`, or linked with libmhost.
 */

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mhost.h>

int main(int argc, char *argv[])
{
	struct sockaddr_mhost everywhere = { .smh_family = AF_MHOST, .smh_port = htons(8080) };
	long count = argc > 1 ? atol(argv[1]) : -1;
	int fd = socket(AF_MHOST, SOCK_DGRAM, 0);
	char string[65536], host[NI_MAXHOST], port[NI_MAXSERV];

	if (fd < 0) {
		perror("socket");
		return 1;
	}
	if (bind(fd, (struct sockaddr *)&everywhere, sizeof(everywhere))) {
		perror("bind");
		return 1;
	}
	while (count--) {
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, string, sizeof(string), 0, (struct sockaddr *)&from, &len);

		if (n < 0) {
			perror("recvfrom");
			return 1;
		}
		printf("%.*s\n", (int)n, string);
		fflush(stdout);
		if (!getnameinfo((struct sockaddr *)&from, len, host, sizeof(host), port,
				 sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
			fprintf(stderr, "from %s port %s\n", host, port);
	}
	close(fd);
	return 0;
}
