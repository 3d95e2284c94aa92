/* exercise.c - every call once, in threads and a child, for valgrind and the sanitizers
 *
 * Linked with libmhost (-include mhost_sockets.h), or plain and under the preloader.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mhost.h>

#define BATCH	16

static void want(int true_, const char *what)
{
	if (true_)
		return;
	perror(what);
	exit(1);
}

/* One's own host, at a port. */
static struct addrinfo *me(int port)
{
	struct addrinfo hints = { .ai_family = AF_MHOST }, *list;
	char service[8];

	snprintf(service, sizeof(service), "%d", port);
	want(!getaddrinfo("me", service, &hints, &list), "getaddrinfo");
	return list;
}

static int port_of(int fd)
{
	struct sockaddr_mhost name;
	socklen_t len = sizeof(name);

	want(!getsockname(fd, (struct sockaddr *)&name, &len), "getsockname");
	return ntohs(name.smh_port);
}

static int bound(void)
{
	struct sockaddr_mhost any = { .smh_family = AF_MHOST };
	int fd = socket(AF_MHOST, SOCK_DGRAM, 0);

	want(fd >= 0, "socket");
	want(!bind(fd, (struct sockaddr *)&any, sizeof(any)), "bind");
	return fd;
}

/* Send to oneself, one by one and many at once. */
static void *talk(void *nothing)
{
	struct mmsghdr out[BATCH] = { 0 }, in[BATCH] = { 0 };
	char buffer[BATCH][64], octets[64] = "", host[64], service[16];
	struct iovec to[BATCH], from[BATCH];
	struct sockaddr_storage source;
	socklen_t len = sizeof(source);
	int fd = bound(), other = bound(), number, got = 0;
	struct addrinfo *list = me(port_of(fd));
	struct pollfd poll_ = { fd, POLLIN, 0 };

	(void)nothing;
	want(sendto(other, "one", 3, 0, list->ai_addr, list->ai_addrlen) == 3, "sendto");
	want(poll(&poll_, 1, 10000) == 1, "poll");
	want(!ioctl(fd, FIONREAD, &number) && number == 3, "FIONREAD");
	want(recvfrom(fd, octets, sizeof(octets), 0, (struct sockaddr *)&source, &len) == 3,
	     "recvfrom");
	want(!getnameinfo((struct sockaddr *)&source, len, host, sizeof(host), service,
			  sizeof(service), NI_NUMERICHOST), "getnameinfo");
	want(!strcmp(host, "me"), host);
	want(!connect(other, list->ai_addr, list->ai_addrlen), "connect");
	len = sizeof(source);
	want(!getpeername(other, (struct sockaddr *)&source, &len), "getpeername");
	for (int i = 0; i < BATCH; i++) {
		to[i] = (struct iovec){ octets, sizeof(octets) };
		from[i] = (struct iovec){ buffer[i], sizeof(buffer[i]) };
		out[i].msg_hdr.msg_iov = to + i;
		in[i].msg_hdr.msg_iov = from + i;
		out[i].msg_hdr.msg_iovlen = in[i].msg_hdr.msg_iovlen = 1;
	}
	for (int turn = 0; turn < 20; turn++) {
		want(sendmmsg(other, out, BATCH, 0) == BATCH, "sendmmsg");
		for (got = 0; got < BATCH;) {
			int n = recvmmsg(fd, in, BATCH, MSG_WAITFORONE, NULL);

			want(n > 0, "recvmmsg");
			got += n;
		}
	}
	want(recv(fd, octets, sizeof(octets), MSG_DONTWAIT) < 0 && errno == EAGAIN, "EAGAIN");
	number = 1;
	want(!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &number, sizeof(number)), "setsockopt");
	len = sizeof(number);
	want(!getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &number, &len), "getsockopt");
	want(!shutdown(other, SHUT_RDWR), "shutdown");
	want(send(other, "x", 1, 0) < 0 && errno == EPIPE, "EPIPE");
	freeaddrinfo(list);
	close(other);
	want(dup2(fd, 200 + fd) == 200 + fd, "dup2");
	close(fd);
	close(200 + fd);
	return NULL;
}

/* A child answers on its parent's socket. */
static void fork_(void)
{
	struct sockaddr_storage source;
	socklen_t len = sizeof(source);
	int fd = bound(), asks = bound(), status;
	struct addrinfo *list = me(port_of(fd)), *own;
	char octets[64];
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);	/* nothing is left when a test is ended */
		want(recvfrom(fd, octets, sizeof(octets), 0, (struct sockaddr *)&source,
			      &len) == 3, "child: recvfrom");
		want(sendto(fd, "answer", 6, 0, (struct sockaddr *)&source, len) == 6,
		     "child: sendto");
		talk(NULL);
		own = me(port_of(asks));	/* a number of the child's, on a socket of its parent's */
		want(sendto(fd, "number", 6, 0, own->ai_addr, own->ai_addrlen) == 6, "number");
		freeaddrinfo(own);
		close(fd);
		close(asks);
		freeaddrinfo(list);
		exit(0);
	}
	want(sendto(asks, "ask", 3, 0, list->ai_addr, list->ai_addrlen) == 3, "ask");
	want(recv(asks, octets, sizeof(octets), 0) == 6, "answer");
	want(recv(asks, octets, sizeof(octets), 0) == 6 && octets[0] == 'n', "number");
	want(waitpid(pid, &status, 0) == pid && !status, "child");
	freeaddrinfo(list);
	close(fd);
	close(asks);
}

static int handlers;	/* descriptor that they send on */
static struct addrinfo *handlers_to;
static volatile sig_atomic_t handled;

static void on_alarm(int number)
{
	int err = errno, fd = socket(AF_MHOST, SOCK_DGRAM, 0);

	(void)number;
	if (sendto(handlers, "handler", 7, MSG_DONTWAIT, handlers_to->ai_addr,
		   handlers_to->ai_addrlen) == 7 && fd >= 0)
		handled = handled + 1;
	close(fd);
	errno = err;
}

/* A signal handler calls whatever the program was in. */
static void interrupted(void)
{
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct itimerval once = { 0 };
	struct sockaddr_storage source;
	socklen_t len = sizeof(source);
	int sink = bound();
	char octets[64];

	handlers = bound();
	handlers_to = me(port_of(sink));
	want(!sigaction(SIGALRM, &action, NULL), "sigaction");
	for (int i = 0; i < 100 || handled < 20; i++) {
		int fd;

		once.it_value.tv_usec = 1 + i * 37 % 1500;	/* one in each turn, somewhere */
		want(!setitimer(ITIMER_REAL, &once, NULL), "setitimer");
		fd = bound();
		close(fd);
		want(sendto(handlers, "program", 7, 0, handlers_to->ai_addr,
			    handlers_to->ai_addrlen) == 7 || errno == EAGAIN, "sendto");
		while (recvfrom(sink, octets, sizeof(octets), MSG_DONTWAIT,
				(struct sockaddr *)&source, &len) > 0)
			;
	}
	once.it_value.tv_usec = 0;
	want(!setitimer(ITIMER_REAL, &once, NULL), "setitimer");
	freeaddrinfo(handlers_to);
	close(handlers);
	close(sink);
}

int main(void)
{
	pthread_t threads[3];

	for (int i = 0; i < 3; i++)
		want(!pthread_create(threads + i, NULL, talk, NULL), "pthread_create");
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	fork_();
	interrupted();
	puts("done");
	return 0;
}
