// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note

//! What existing clients were compiled with, written down a second time.
//!
//! The headers could be changed by mistake and the bindings regenerated from
//! them; these numbers are the ones that must not move. A wrong one stops the
//! build.

use crate::generated::*;
use core::mem::{align_of, offset_of, size_of};

macro_rules! layout {
    ($($ty:ident: $size:literal bytes, align $align:literal { $($field:ident @ $offset:literal),+ $(,)? })+) => {
        $(
            const _: () = {
                assert!(size_of::<$ty>() == $size, concat!("size of ", stringify!($ty)));
                assert!(align_of::<$ty>() == $align, concat!("alignment of ", stringify!($ty)));
                $(assert!(
                    offset_of!($ty, $field) == $offset,
                    concat!("offset of ", stringify!($ty), "::", stringify!($field)),
                );)+
                // Names every field: one that is added without an offset here does not compile.
                #[allow(dead_code, unused_variables)]
                const fn all_fields(value: $ty) {
                    let $ty { $($field),+ } = value;
                }
            };
        )+
    };
}

layout! {
    blkfilter_attach: 48 bytes, align 8 { name @ 0, opt @ 32, optlen @ 40, reserved @ 44 }
    blkfilter_detach: 32 bytes, align 1 { name @ 0 }
    blkfilter_ctl: 48 bytes, align 8 { name @ 0, cmd @ 32, optlen @ 36, opt @ 40 }
    blksnap_uuid: 16 bytes, align 1 { b @ 0 }
    blksnap_cbt_info: 40 bytes, align 8 {
        capacity @ 0, block_size @ 8, block_count @ 12, generation @ 16, change_number @ 32, reserved @ 33,
    }
    blksnap_cbt_map: 16 bytes, align 8 { offset @ 0, length @ 4, buffer @ 8 }
    blksnap_sectors: 16 bytes, align 8 { first @ 0, count @ 8 }
    blksnap_cbt_dirty: 16 bytes, align 8 { count @ 0, reserved @ 4, ranges @ 8 }
    blksnap_snapshot_add: 16 bytes, align 1 { id @ 0 }
    blksnap_snapshot_info: 36 bytes, align 4 { error @ 0, image @ 4 }
    blksnap_version: 8 bytes, align 2 { major @ 0, minor @ 2, revision @ 4, build @ 6 }
    blksnap_snapshot_create: 32 bytes, align 8 { limit @ 0, path @ 8, id @ 16 }
    blksnap_snapshot_collect: 16 bytes, align 8 { count @ 0, reserved @ 4, ids @ 8 }
    blksnap_storage_append: 24 bytes, align 8 { id @ 0, path @ 16 }
    blksnap_event: 4096 bytes, align 8 { id @ 0, timeout_ms @ 16, code @ 20, time @ 24, data @ 32 }
    blksnap_event_corrupted: 12 bytes, align 4 { major @ 0, minor @ 4, error @ 8 }
    blksnap_event_no_space: 8 bytes, align 8 { requested @ 0 }
    blksnap_event_low_space: 16 bytes, align 8 { free_sectors @ 0, capacity_sectors @ 8 }
}

const _: () = {
    assert!(BLKFILTER_ATTACH == 0xc030_128e);
    assert!(BLKFILTER_DETACH == 0xc020_128f);
    assert!(BLKFILTER_CTL == 0xc030_1290);
    assert!(BLKSNAP_IOCTL_VERSION == 0x8008_5600);
    assert!(BLKSNAP_IOCTL_CREATE == 0xc020_5601);
    assert!(BLKSNAP_IOCTL_DESTROY == 0x4010_5602);
    assert!(BLKSNAP_IOCTL_TAKE == 0x4010_5603);
    assert!(BLKSNAP_IOCTL_COLLECT == 0x8010_5604);
    assert!(BLKSNAP_IOCTL_WAIT_EVENT == 0x9000_5605);
    assert!(BLKSNAP_IOCTL_APPEND_STORAGE == 0x4018_5606);

    assert!(BLKSNAP_FILTER_CBT_INFO == 0);
    assert!(BLKSNAP_FILTER_CBT_MAP == 1);
    assert!(BLKSNAP_FILTER_CBT_DIRTY == 2);
    assert!(BLKSNAP_FILTER_SNAPSHOT_ADD == 3);
    assert!(BLKSNAP_FILTER_SNAPSHOT_INFO == 4);

    assert!(BLKSNAP_EVENT_CORRUPTED == 0);
    assert!(BLKSNAP_EVENT_NO_SPACE == 1);
    assert!(BLKSNAP_EVENT_LOW_SPACE == 2);
    assert!(BLKSNAP_EVENT_KNOWN == 0x6b6e_6f00);
};
