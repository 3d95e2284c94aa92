/* mhost_sockets.h - a program that is recompiled: the calls of <sys/socket.h> are libmhost's
 *
 *	cc -include mhost_sockets.h $(mhostctl dev --cflags) program.c $(mhostctl dev --libs)
 *
 * Its AF_INET and AF_INET6 datagram sockets are on mhostd then; other descriptors are given
 * to the C library as ever. read(2) and write(2) are not here: use recv() and send().
 */
#ifndef MHOST_SOCKETS_H
#define MHOST_SOCKETS_H

#include <netdb.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mhost.h>

#define bind		mhost_bind
#define close		mhost_close
#define connect		mhost_connect
#define dup		mhost_dup
#define dup2		mhost_dup2
#define freeaddrinfo	mhost_freeaddrinfo
#define getaddrinfo	mhost_getaddrinfo
#define getnameinfo	mhost_getnameinfo
#define getpeername	mhost_getpeername
#define getsockname	mhost_getsockname
#define getsockopt	mhost_getsockopt
#define ioctl		mhost_ioctl
#define recv		mhost_recv
#define recvfrom	mhost_recvfrom
#define recvmmsg	mhost_recvmmsg
#define recvmsg		mhost_recvmsg
#define send		mhost_send
#define sendmmsg	mhost_sendmmsg
#define sendmsg		mhost_sendmsg
#define sendto		mhost_sendto
#define setsockopt	mhost_setsockopt
#define shutdown	mhost_shutdown
#define socket		mhost_socket

#endif
