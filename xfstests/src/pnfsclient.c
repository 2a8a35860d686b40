// SPDX-License-Identifier: GPL-2.0
/*
 * A client of an NFS server of this machine that asks for layouts of a file in
 * the exported folder (pNFS, RFC 8881 and 5663), and does what it is told:
 *
 *   pnfsclient PORT NAME
 *
 * A line on stdin is a request, and has a line on stdout as its answer:
 *
 *   get OFFSET LENGTH      a layout to write through
 *   commit OFFSET LENGTH   has written there through it
 *   recalled               whether the server wants layouts back
 *   return                 all layouts of the file
 *   end                    without an answer
 *
 * A layout that the server wants back is kept until "return": that is as slow as
 * a client may be.  The loopback interface is brought up if it is down.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define NFS_PROGRAM		100003
#define CALLBACK_PROGRAM	0x40000000
#define RPC_CALL		0
#define RPC_REPLY		1
#define RPC_LAST_FRAGMENT	0x80000000u
#define AUTH_NONE		0
#define AUTH_SYS		1

#define LAYOUT_BLOCK_VOLUME	3
#define LAYOUT_READ_WRITE	2
#define LAYOUT_ANY		3
#define LAYOUT_RETURN_FILE	1
#define CREATE_SESSION_BACK_CHANNEL	2
#define SHARE_BOTH		3
#define SHARE_NO_DELEGATION	0x0400

enum {
	CB_LAYOUTRECALL		= 5,
	CB_SEQUENCE		= 11,
	OP_LOOKUP		= 15,
	OP_OPEN			= 18,
	OP_PUTROOTFH		= 24,
	OP_EXCHANGE_ID		= 42,
	OP_CREATE_SESSION	= 43,
	OP_LAYOUTCOMMIT		= 49,
	OP_LAYOUTGET		= 50,
	OP_LAYOUTRETURN		= 51,
	OP_SEQUENCE		= 53,
	OP_RECLAIM_COMPLETE	= 58,
	OP_ILLEGAL		= 10044,
};

#define NFS_OK			0
#define NFS_ERR_GRACE		10013
#define NFS_ERR_OP_ILLEGAL	10044

static const struct {
	unsigned int status;
	const char *name;
} names[] = {
	{ NFS_OK, "ok" },
	{ 5, "IO" },
	{ 6, "NXIO" },
	{ 13, "ACCESS" },
	{ 22, "INVAL" },
	{ 10008, "DELAY" },
	{ 10025, "BAD_STATEID" },
	{ 10049, "BADIOMODE" },
	{ 10050, "BADLAYOUT" },
	{ 10059, "LAYOUTUNAVAILABLE" },
	{ 10060, "NOMATCHING_LAYOUT" },
	{ 10061, "RECALLCONFLICT" },
};

static const char *status_name(unsigned int status)
{
	static char number[16];
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (names[i].status == status)
			return names[i].name;
	snprintf(number, sizeof(number), "status %u", status);
	return number;
}

static void die(const char *what)
{
	fprintf(stderr, "pnfsclient: %s\n", what);
	exit(1);
}

/* A message as it is sent or was received: XDR, after the mark of the record. */
struct message {
	unsigned char data[8192];
	size_t size;		/* of what is in it */
	size_t at;		/* what is taken next */
};

static void put(struct message *m, const void *data, size_t size)
{
	size_t whole = (size + 3) & ~3;

	if (whole > sizeof(m->data) - m->size)
		die("message too large");
	memset(m->data + m->size, 0, whole);
	memcpy(m->data + m->size, data, size);
	m->size += whole;
}

static void put32(struct message *m, uint32_t value)
{
	value = htobe32(value);
	put(m, &value, sizeof(value));
}

static void put64(struct message *m, uint64_t value)
{
	value = htobe64(value);
	put(m, &value, sizeof(value));
}

static void put_opaque(struct message *m, const void *data, size_t size)
{
	put32(m, size);
	put(m, data, size);
}

static const void *take(struct message *m, size_t size)
{
	const void *data = m->data + m->at;

	if (size > m->size - m->at)
		die("message too short");
	m->at += (size + 3) & ~3;
	if (m->at > m->size)
		die("message too short");
	return data;
}

static uint32_t take32(struct message *m)
{
	uint32_t value;

	memcpy(&value, take(m, sizeof(value)), sizeof(value));
	return be32toh(value);
}

static uint64_t take64(struct message *m)
{
	uint64_t value;

	memcpy(&value, take(m, sizeof(value)), sizeof(value));
	return be64toh(value);
}

static void skip_opaque(struct message *m)
{
	take(m, take32(m));
}

struct stateid {
	unsigned char bytes[16];
};

static struct stateid take_stateid(struct message *m)
{
	struct stateid id;

	memcpy(&id, take(m, sizeof(id)), sizeof(id));
	return id;
}

static int sock;
static uint32_t xid;
static unsigned char session[16];
static uint32_t sequence;
static bool recalled;

static void transfer(bool out, void *data, size_t size)
{
	ssize_t done;

	for (; size; data = (char *)data + done, size -= done) {
		done = out ? write(sock, data, size) : read(sock, data, size);
		if (done < 0 && errno == EINTR)
			done = 0;
		else if (done <= 0)
			die("the server is gone");
	}
}

static void send_message(struct message *m)
{
	uint32_t mark = htobe32(RPC_LAST_FRAGMENT | m->size);

	transfer(true, &mark, sizeof(mark));
	transfer(true, m->data, m->size);
}

static void receive_message(struct message *m)
{
	uint32_t mark;

	m->size = m->at = 0;
	do {
		transfer(false, &mark, sizeof(mark));
		mark = be32toh(mark);
		if ((mark & ~RPC_LAST_FRAGMENT) > sizeof(m->data) - m->size)
			die("message too large");
		transfer(false, m->data + m->size, mark & ~RPC_LAST_FRAGMENT);
		m->size += mark & ~RPC_LAST_FRAGMENT;
	} while (!(mark & RPC_LAST_FRAGMENT));
}

/* The server asks: it is answered that what it wants back will come. */
static void answer(struct message *call, uint32_t call_xid)
{
	struct message m = { .size = 0 };
	/* with the number of the call, the slot and the highest slot */
	unsigned char slot[sizeof(session) + 3 * sizeof(uint32_t)];
	uint32_t procedure, op, lists, calls;

	take(call, 3 * sizeof(uint32_t));	/* versions and program */
	procedure = take32(call);
	take32(call);				/* credentials, verifier */
	skip_opaque(call);
	take32(call);
	skip_opaque(call);

	put32(&m, call_xid);
	put32(&m, RPC_REPLY);
	put32(&m, 0);				/* accepted */
	put32(&m, AUTH_NONE);
	put32(&m, 0);
	put32(&m, 0);				/* success */
	if (!procedure)
		return send_message(&m);

	skip_opaque(call);			/* tag */
	take(call, 3 * sizeof(uint32_t));	/* minor version, ident, operations */
	if (take32(call) != CB_SEQUENCE)
		die("a callback without a sequence");
	memcpy(slot, take(call, sizeof(slot)), sizeof(slot));
	take32(call);				/* whether to keep the answer */
	for (lists = take32(call); lists; lists--) {
		take(call, sizeof(session));	/* calls that it is about */
		for (calls = take32(call); calls; calls--)
			take(call, 2 * sizeof(uint32_t));
	}
	op = take32(call);

	put32(&m, op == CB_LAYOUTRECALL ? NFS_OK : NFS_ERR_OP_ILLEGAL);
	put_opaque(&m, "", 0);
	put32(&m, 2);
	put32(&m, CB_SEQUENCE);
	put32(&m, NFS_OK);
	put(&m, slot, sizeof(slot));
	put32(&m, 0);				/* the highest slot there should be */
	if (op == CB_LAYOUTRECALL) {
		put32(&m, op);
		put32(&m, NFS_OK);
		recalled = true;
	} else {
		put32(&m, OP_ILLEGAL);
		put32(&m, NFS_ERR_OP_ILLEGAL);
	}
	send_message(&m);
}

/* Waits for a message: true if it is the answer to the last call. */
static bool incoming(struct message *m)
{
	uint32_t got;

	receive_message(m);
	got = take32(m);
	if (take32(m) == RPC_REPLY)
		return got == xid;
	answer(m, got);
	return false;
}

/* A call of so many operations, which are to follow. */
static void begin(struct message *m, unsigned int operations)
{
	m->size = m->at = 0;
	put32(m, ++xid);
	put32(m, RPC_CALL);
	put32(m, 2);
	put32(m, NFS_PROGRAM);
	put32(m, 4);
	put32(m, 1);				/* COMPOUND */
	put32(m, AUTH_SYS);
	put32(m, 5 * sizeof(uint32_t));
	put32(m, 0);				/* stamp */
	put_opaque(m, "", 0);			/* machine */
	put32(m, 0);				/* user, group, no other groups */
	put32(m, 0);
	put32(m, 0);
	put32(m, AUTH_NONE);
	put32(m, 0);
	put_opaque(m, "", 0);			/* tag */
	put32(m, 1);				/* NFSv4.1 */
	put32(m, operations);
}

/* The same in the session, and with the folder as the current file. */
static void begin_in_session(struct message *m, unsigned int operations)
{
	begin(m, 1 + operations);
	put32(m, OP_SEQUENCE);
	put(m, session, sizeof(session));
	put32(m, ++sequence);
	put32(m, 0);				/* slot, the highest slot */
	put32(m, 0);
	put32(m, 0);				/* keep no answer */
}

static void begin_at_file(struct message *m, const char *name, unsigned int operations)
{
	begin_in_session(m, 2 + operations);
	put32(m, OP_PUTROOTFH);
	put32(m, OP_LOOKUP);
	put_opaque(m, name, strlen(name));
}

static void call(struct message *m)
{
	send_message(m);
	while (!incoming(m))
		;
	if (take32(m))
		die("call denied");
	take32(m);
	skip_opaque(m);
	if (take32(m))
		die("call not accepted");
	take32(m);				/* status: that of the last operation */
	skip_opaque(m);
	take32(m);
}

/* The status of the next operation in an answer. */
static uint32_t result(struct message *m, uint32_t op)
{
	if (take32(m) != op)
		die("an answer to something else");
	return take32(m);
}

static void expect(struct message *m, uint32_t op, const char *what)
{
	uint32_t status = result(m, op);

	if (status != NFS_OK) {
		fprintf(stderr, "pnfsclient: %s: %s\n", what, status_name(status));
		exit(1);
	}
}

static void expect_session(struct message *m)
{
	expect(m, OP_SEQUENCE, "SEQUENCE");
	take(m, sizeof(session) + 5 * sizeof(uint32_t));
}

static void expect_at_file(struct message *m)
{
	expect_session(m);
	expect(m, OP_PUTROOTFH, "PUTROOTFH");
	expect(m, OP_LOOKUP, "LOOKUP");
}

static void put_channel(struct message *m)
{
	put32(m, 0);				/* padding */
	put32(m, 8192);				/* size of a request, an answer, */
	put32(m, 8192);
	put32(m, 4096);				/* one that is kept */
	put32(m, 8);				/* operations */
	put32(m, 1);				/* slots */
	put32(m, 0);				/* no RDMA */
}

static uint64_t make_client(void)
{
	struct message m;
	uint64_t client;
	char owner[32];

	begin(&m, 1);
	put32(&m, OP_EXCHANGE_ID);
	put64(&m, getpid());			/* verifier: who was before has ended */
	snprintf(owner, sizeof(owner), "pnfsclient %d", getpid());
	put_opaque(&m, owner, strlen(owner));
	put32(&m, 0);				/* flags, no protection of state, */
	put32(&m, 0);
	put32(&m, 0);				/* no name of the program */
	call(&m);
	expect(&m, OP_EXCHANGE_ID, "EXCHANGE_ID");
	client = take64(&m);
	sequence = take32(&m);

	begin(&m, 1);
	put32(&m, OP_CREATE_SESSION);
	put64(&m, client);
	put32(&m, sequence);
	put32(&m, CREATE_SESSION_BACK_CHANNEL);
	put_channel(&m);
	put_channel(&m);
	put32(&m, CALLBACK_PROGRAM);
	put32(&m, 1);
	put32(&m, AUTH_NONE);
	call(&m);
	expect(&m, OP_CREATE_SESSION, "CREATE_SESSION");
	memcpy(session, take(&m, sizeof(session)), sizeof(session));
	sequence = 0;

	begin_in_session(&m, 1);
	put32(&m, OP_RECLAIM_COMPLETE);
	put32(&m, 0);
	call(&m);
	expect_session(&m);
	expect(&m, OP_RECLAIM_COMPLETE, "RECLAIM_COMPLETE");
	return client;
}

static uint32_t try_open(struct message *m, uint64_t client, const char *name)
{
	begin_in_session(m, 2);
	put32(m, OP_PUTROOTFH);
	put32(m, OP_OPEN);
	put32(m, 0);				/* sequence, not used */
	put32(m, SHARE_BOTH | SHARE_NO_DELEGATION);
	put32(m, 0);				/* deny nobody */
	put64(m, client);
	put_opaque(m, "pnfsclient", 10);
	put32(m, 0);				/* create nothing, by name */
	put32(m, 0);
	put_opaque(m, name, strlen(name));
	call(m);
	expect_session(m);
	expect(m, OP_PUTROOTFH, "PUTROOTFH");
	return result(m, OP_OPEN);
}

static struct stateid open_file(uint64_t client, const char *name)
{
	struct message m;
	uint32_t status;

	/* A server that has just started waits for clients from before. */
	while ((status = try_open(&m, client, name)) == NFS_ERR_GRACE)
		usleep(100000);
	if (status != NFS_OK) {
		fprintf(stderr, "pnfsclient: OPEN: %s\n", status_name(status));
		exit(1);
	}
	return take_stateid(&m);
}

static struct stateid layout;
static bool has_layout;
static unsigned char device[16];

static uint32_t get_layout(const char *name, const struct stateid *open, uint64_t offset,
			   uint64_t length)
{
	struct message m;
	uint32_t status, count;

	begin_at_file(&m, name, 1);
	put32(&m, OP_LAYOUTGET);
	put32(&m, 0);				/* do not tell when there is one */
	put32(&m, LAYOUT_BLOCK_VOLUME);
	put32(&m, LAYOUT_READ_WRITE);
	put64(&m, offset);
	put64(&m, length);
	put64(&m, length);
	put(&m, has_layout ? &layout : open, sizeof(*open));
	put32(&m, 4096);
	call(&m);
	expect_at_file(&m);
	status = result(&m, OP_LAYOUTGET);
	if (status != NFS_OK)
		return status;
	take32(&m);				/* whether to return it on close */
	layout = take_stateid(&m);
	has_layout = true;
	recalled = false;
	count = take32(&m);
	if (!count)
		die("no layout in LAYOUTGET");
	take(&m, 2 * sizeof(uint64_t) + 3 * sizeof(uint32_t));
	if (take32(&m))
		memcpy(device, take(&m, sizeof(device)), sizeof(device));
	return NFS_OK;
}

static uint32_t commit_layout(const char *name, uint64_t offset, uint64_t length)
{
	struct message m;

	begin_at_file(&m, name, 1);
	put32(&m, OP_LAYOUTCOMMIT);
	put64(&m, offset);
	put64(&m, length);
	put32(&m, 0);				/* not after a restart */
	put(&m, &layout, sizeof(layout));
	put32(&m, 1);				/* the last byte written */
	put64(&m, offset + length - 1);
	put32(&m, 0);				/* no time */
	put32(&m, LAYOUT_BLOCK_VOLUME);
	put32(&m, sizeof(uint32_t) + sizeof(device) + 3 * sizeof(uint64_t) +
		  sizeof(uint32_t));
	put32(&m, 1);
	put(&m, device, sizeof(device));
	put64(&m, offset);
	put64(&m, length);
	put64(&m, 0);				/* the server knows where */
	put32(&m, 0);				/* written */
	call(&m);
	expect_at_file(&m);
	return result(&m, OP_LAYOUTCOMMIT);
}

static uint32_t return_layout(const char *name)
{
	struct message m;

	begin_at_file(&m, name, 1);
	put32(&m, OP_LAYOUTRETURN);
	put32(&m, 0);				/* not after a restart */
	put32(&m, LAYOUT_BLOCK_VOLUME);
	put32(&m, LAYOUT_ANY);
	put32(&m, LAYOUT_RETURN_FILE);
	put64(&m, 0);
	put64(&m, UINT64_MAX);
	put(&m, &layout, sizeof(layout));
	put_opaque(&m, "", 0);
	call(&m);
	expect_at_file(&m);
	has_layout = false;
	return result(&m, OP_LAYOUTRETURN);
}

static void bring_loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo" };

	if (ioctl(sock, SIOCGIFFLAGS, &request))
		return;
	request.ifr_flags |= IFF_UP;
	ioctl(sock, SIOCSIFFLAGS, &request);
}

static void connect_to(unsigned int port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	sock = socket(AF_INET, SOCK_STREAM, 0);
	if (sock >= 0)
		bring_loopback_up();
	if (sock < 0 || connect(sock, (struct sockaddr *)&address, sizeof(address))) {
		perror("pnfsclient: cannot connect to the server");
		exit(1);
	}
}

int main(int argc, char **argv)
{
	uint64_t client, offset, length;
	struct stateid open;
	struct message m;
	char line[80];

	if (argc != 3) {
		fprintf(stderr, "usage: pnfsclient PORT NAME\n");
		return 2;
	}
	setlinebuf(stdout);
	/* what is waited for with poll() must not wait in a buffer */
	setvbuf(stdin, NULL, _IONBF, 0);
	connect_to(atoi(argv[1]));
	client = make_client();
	open = open_file(client, argv[2]);
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = STDIN_FILENO, .events = POLLIN },
			{ .fd = sock, .events = POLLIN },
		};

		if (poll(fds, 2, -1) < 0)
			die("poll");
		if (fds[1].revents && incoming(&m))
			die("an answer to nothing");
		if (!fds[0].revents)
			continue;
		if (!fgets(line, sizeof(line), stdin))
			return 0;
		if (sscanf(line, "get %lu %lu", &offset, &length) == 2) {
			puts(status_name(get_layout(argv[2], &open, offset, length)));
		} else if (sscanf(line, "commit %lu %lu", &offset, &length) == 2) {
			puts(status_name(commit_layout(argv[2], offset, length)));
		} else if (!strcmp(line, "recalled\n")) {
			puts(recalled ? "yes" : "no");
		} else if (!strcmp(line, "return\n")) {
			puts(status_name(return_layout(argv[2])));
		} else if (!strcmp(line, "end\n")) {
			return 0;
		} else {
			die("no such request");
		}
	}
}
