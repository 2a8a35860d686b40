/* SPDX-License-Identifier: GPL-2.0 */
/* One write through io_uring; there is no need for a library. */
#ifndef URING_H
#define URING_H

#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline long uring_write(int fd, const void *buf, size_t len, off_t pos)
{
	struct io_uring_params p = { 0 };
	size_t sq_size, cq_size, sqes_size;
	struct io_uring_sqe *sqes;
	unsigned int *tail, *array, *head;
	struct io_uring_cqe *cqe;
	long ret = -1;
	char *sq, *cq;
	int ring;

	ring = syscall(SYS_io_uring_setup, 1, &p);
	if (ring < 0)
		return -1;
	sq_size = p.sq_off.array + p.sq_entries * sizeof(unsigned int);
	cq_size = p.cq_off.cqes + p.cq_entries * sizeof(*cqe);
	sqes_size = p.sq_entries * sizeof(*sqes);
	sq = mmap(NULL, sq_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		  IORING_OFF_SQ_RING);
	cq = mmap(NULL, cq_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		  IORING_OFF_CQ_RING);
	sqes = mmap(NULL, sqes_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		    IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqes == MAP_FAILED)
		return -1;
	memset(sqes, 0, sizeof(*sqes));
	sqes->opcode = IORING_OP_WRITE;
	sqes->fd = fd;
	sqes->addr = (uintptr_t)buf;
	sqes->len = len;
	sqes->off = pos;
	tail = (unsigned int *)(sq + p.sq_off.tail);
	array = (unsigned int *)(sq + p.sq_off.array);
	array[0] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS,
		    NULL, 0) == 1) {
		head = (unsigned int *)(cq + p.cq_off.head);
		cqe = (struct io_uring_cqe *)(cq + p.cq_off.cqes) + *head;
		errno = cqe->res < 0 ? -cqe->res : 0;
		ret = cqe->res < 0 ? -1 : cqe->res;
	}
	munmap(sq, sq_size);
	munmap(cq, cq_size);
	munmap(sqes, sqes_size);
	close(ring);
	return ret;
}

#endif /* URING_H */
