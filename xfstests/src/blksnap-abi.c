// SPDX-License-Identifier: GPL-2.0
/*
 * Nothing to run: this compiles only while the kernel's headers describe the
 * interface that blksnap-abi.h spells out.
 */
#include <stddef.h>
#include <linux/blk-filter.h>
#include <linux/blksnap.h>
#include "blksnap-abi.h"

#define SAME(a, b) _Static_assert((a) == (b), #a " is not " #b)

SAME(FILTER_ATTACH, BLKFILTER_ATTACH);
SAME(FILTER_DETACH, BLKFILTER_DETACH);
SAME(FILTER_CONTROL, BLKFILTER_CTL);
SAME(FILTER_NAME_LENGTH, BLKFILTER_NAME_LENGTH);
SAME(ATTACH_SIZE, sizeof(struct blkfilter_attach));
SAME(ATTACH_OPT, offsetof(struct blkfilter_attach, opt));
SAME(ATTACH_OPTLEN, offsetof(struct blkfilter_attach, optlen));
SAME(FILTER_NAME_LENGTH, sizeof(struct blkfilter_detach));
SAME(CONTROL_SIZE, sizeof(struct blkfilter_ctl));
SAME(CONTROL_COMMAND, offsetof(struct blkfilter_ctl, cmd));
SAME(CONTROL_OPTLEN, offsetof(struct blkfilter_ctl, optlen));
SAME(CONTROL_OPT, offsetof(struct blkfilter_ctl, opt));

SAME(COMMAND_CBT_INFO, BLKSNAP_FILTER_CBT_INFO);
SAME(COMMAND_CBT_MAP, BLKSNAP_FILTER_CBT_MAP);
SAME(COMMAND_CBT_DIRTY, BLKSNAP_FILTER_CBT_DIRTY);
SAME(COMMAND_ADD, BLKSNAP_FILTER_SNAPSHOT_ADD);
SAME(COMMAND_INFO, BLKSNAP_FILTER_SNAPSHOT_INFO);

SAME(CBT_INFO_SIZE, sizeof(struct blksnap_cbt_info));
SAME(CBT_INFO_CAPACITY, offsetof(struct blksnap_cbt_info, capacity));
SAME(CBT_INFO_BLOCK_SIZE, offsetof(struct blksnap_cbt_info, block_size));
SAME(CBT_INFO_BLOCK_COUNT, offsetof(struct blksnap_cbt_info, block_count));
SAME(CBT_INFO_GENERATION, offsetof(struct blksnap_cbt_info, generation));
SAME(CBT_INFO_NUMBER, offsetof(struct blksnap_cbt_info, change_number));
SAME(CBT_MAP_SIZE, sizeof(struct blksnap_cbt_map));
SAME(CBT_MAP_OFFSET, offsetof(struct blksnap_cbt_map, offset));
SAME(CBT_MAP_LENGTH, offsetof(struct blksnap_cbt_map, length));
SAME(CBT_MAP_BUFFER, offsetof(struct blksnap_cbt_map, buffer));
SAME(CBT_DIRTY_SIZE, sizeof(struct blksnap_cbt_dirty));
SAME(CBT_DIRTY_COUNT, offsetof(struct blksnap_cbt_dirty, count));
SAME(CBT_DIRTY_RANGES, offsetof(struct blksnap_cbt_dirty, ranges));
SAME(ADD_SIZE, sizeof(struct blksnap_snapshot_add));
/* no tail padding: clients have this one as 36 bytes */
SAME(INFO_SIZE, sizeof(struct blksnap_snapshot_info));
SAME(INFO_ERROR, offsetof(struct blksnap_snapshot_info, error));
SAME(INFO_IMAGE, offsetof(struct blksnap_snapshot_info, image));

SAME(SNAPSHOT_VERSION, BLKSNAP_IOCTL_VERSION);
SAME(SNAPSHOT_CREATE, BLKSNAP_IOCTL_CREATE);
SAME(SNAPSHOT_DESTROY, BLKSNAP_IOCTL_DESTROY);
SAME(SNAPSHOT_TAKE, BLKSNAP_IOCTL_TAKE);
SAME(SNAPSHOT_COLLECT, BLKSNAP_IOCTL_COLLECT);
SAME(SNAPSHOT_WAIT_EVENT, BLKSNAP_IOCTL_WAIT_EVENT);
SAME(SNAPSHOT_APPEND, BLKSNAP_IOCTL_APPEND_STORAGE);
SAME(UUID_SIZE, sizeof(struct blksnap_uuid));
SAME(VERSION_SIZE, sizeof(struct blksnap_version));
SAME(CREATE_SIZE, sizeof(struct blksnap_snapshot_create));
SAME(CREATE_LIMIT, offsetof(struct blksnap_snapshot_create, limit));
SAME(CREATE_PATH, offsetof(struct blksnap_snapshot_create, path));
SAME(CREATE_UUID, offsetof(struct blksnap_snapshot_create, id));
SAME(COLLECT_SIZE, sizeof(struct blksnap_snapshot_collect));
SAME(COLLECT_COUNT, offsetof(struct blksnap_snapshot_collect, count));
SAME(COLLECT_UUIDS, offsetof(struct blksnap_snapshot_collect, ids));
SAME(EVENT_SIZE, sizeof(struct blksnap_event));
SAME(EVENT_UUID, offsetof(struct blksnap_event, id));
SAME(EVENT_TIMEOUT, offsetof(struct blksnap_event, timeout_ms));
SAME(EVENT_CODE, offsetof(struct blksnap_event, code));
SAME(EVENT_TIME, offsetof(struct blksnap_event, time));
SAME(EVENT_DATA, offsetof(struct blksnap_event, data));
SAME(EVENT_CODE_CORRUPTED, BLKSNAP_EVENT_CORRUPTED);
SAME(EVENT_CODE_NO_SPACE, BLKSNAP_EVENT_NO_SPACE);
SAME(EVENT_CODE_LOW_SPACE, BLKSNAP_EVENT_LOW_SPACE);
SAME(EVENT_KNOWN, BLKSNAP_EVENT_KNOWN);
SAME(APPEND_SIZE, sizeof(struct blksnap_storage_append));
SAME(APPEND_UUID, offsetof(struct blksnap_storage_append, id));
SAME(APPEND_PATH, offsetof(struct blksnap_storage_append, path));
