/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The binary interface of blksnap as existing clients have it compiled in:
 * numbers and offsets spelled out, so that a change of the kernel's headers
 * cannot change what the tests call.  blksnap-abi.c compares the two.
 */
#ifndef BLKSNAP_ABI_H
#define BLKSNAP_ABI_H

/* ioctls of a block device */
#define FILTER_ATTACH		0xc030128eu
#define FILTER_DETACH		0xc020128fu
#define FILTER_CONTROL		0xc0301290u

#define FILTER_NAME_LENGTH	32

/* attach: name @0 */
#define ATTACH_SIZE		48
#define ATTACH_OPT		32
#define ATTACH_OPTLEN		40

/* control: name @0 */
#define CONTROL_SIZE		48
#define CONTROL_COMMAND		32
#define CONTROL_OPTLEN		36
#define CONTROL_OPT		40

/* commands of control */
#define COMMAND_CBT_INFO	0
#define COMMAND_CBT_MAP		1
#define COMMAND_CBT_DIRTY	2
#define COMMAND_ADD		3
#define COMMAND_INFO		4

#define CBT_INFO_SIZE		40
#define CBT_INFO_CAPACITY	0
#define CBT_INFO_BLOCK_SIZE	8
#define CBT_INFO_BLOCK_COUNT	12
#define CBT_INFO_GENERATION	16
#define CBT_INFO_NUMBER		32

#define CBT_MAP_SIZE		16
#define CBT_MAP_OFFSET		0
#define CBT_MAP_LENGTH		4
#define CBT_MAP_BUFFER		8

#define CBT_DIRTY_SIZE		16
#define CBT_DIRTY_COUNT		0
#define CBT_DIRTY_RANGES	8

#define ADD_SIZE		16

#define INFO_SIZE		36
#define INFO_ERROR		0
#define INFO_IMAGE		4

/* ioctls of /dev/blksnap-control */
#define SNAPSHOT_VERSION	0x80085600u
#define SNAPSHOT_CREATE		0xc0205601u
#define SNAPSHOT_DESTROY	0x40105602u
#define SNAPSHOT_TAKE		0x40105603u
#define SNAPSHOT_COLLECT	0x80105604u
#define SNAPSHOT_WAIT_EVENT	0x90005605u
#define SNAPSHOT_APPEND		0x40185606u

#define UUID_SIZE		16

#define VERSION_SIZE		8

#define CREATE_SIZE		32
#define CREATE_LIMIT		0
#define CREATE_PATH		8
#define CREATE_UUID		16

#define COLLECT_SIZE		16
#define COLLECT_COUNT		0
#define COLLECT_UUIDS		8

#define EVENT_SIZE		4096
#define EVENT_UUID		0
#define EVENT_TIMEOUT		16
#define EVENT_CODE		20
#define EVENT_TIME		24
#define EVENT_DATA		32

#define EVENT_CODE_CORRUPTED	0
#define EVENT_CODE_NO_SPACE	1
#define EVENT_CODE_LOW_SPACE	2
#define EVENT_KNOWN		0x6b6e6f00

#define APPEND_SIZE		24
#define APPEND_UUID		0
#define APPEND_PATH		16

#endif /* BLKSNAP_ABI_H */
