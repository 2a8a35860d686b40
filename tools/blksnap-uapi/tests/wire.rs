// SPDX-License-Identifier: GPL-2.0-only

//! The driver decodes and encodes arguments byte by byte; here its own file meets the structures
//! that user space fills in.

use blksnap_uapi::*;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

#[rustfmt::skip]
#[path = "../../../rust-blksnap/linux/drivers/block/blksnap/wire.rs"]
mod wire;

const ID: blksnap_uuid = blksnap_uuid { b: [7; 16] };

#[test]
fn sizes_agree() {
    assert_eq!(wire::UUID, size_of::<blksnap_uuid>());
    assert_eq!(wire::UUID, size_of::<blksnap_snapshot_add>());
    assert_eq!(wire::VERSION, size_of::<blksnap_version>());
    assert_eq!(wire::CREATE, size_of::<blksnap_snapshot_create>());
    assert_eq!(wire::COLLECT, size_of::<blksnap_snapshot_collect>());
    assert_eq!(wire::INFO, size_of::<blksnap_snapshot_info>());
    assert_eq!(wire::APPEND, size_of::<blksnap_storage_append>());
    assert_eq!(wire::EVENT, size_of::<blksnap_event>());
    assert_eq!(wire::TRACKING_INFO, size_of::<blksnap_cbt_info>());
    assert_eq!(wire::TRACKING_MAP, size_of::<blksnap_cbt_map>());
    assert_eq!(wire::DIRTY, size_of::<blksnap_cbt_dirty>());
    assert_eq!(wire::SECTORS, size_of::<blksnap_sectors>());
    assert_eq!(wire::IMAGE_NAME, BLKSNAP_IMAGE_NAME_LENGTH as usize);
    assert_eq!(
        wire::Create::UUID_AT,
        std::mem::offset_of!(blksnap_snapshot_create, id)
    );
}

#[test]
fn the_driver_understands_what_is_sent() {
    let create = blksnap_snapshot_create {
        limit: 0x0123_4567_89ab_cdef,
        path: 0xfedc_ba98_7654_3210,
        id: ID,
    };
    let bytes = create.as_bytes().try_into().expect("of that size");
    let (limit, path) = (create.limit, create.path);
    assert_eq!(wire::Create::decode(bytes), wire::Create { limit, path });

    let collect = blksnap_snapshot_collect {
        count: 0x0123_4567,
        reserved: 0,
        ids: 0xfedc_ba98_7654_3210,
    };
    let bytes = collect.as_bytes().try_into().expect("of that size");
    let (count, uuids) = (collect.count, collect.ids);
    assert_eq!(wire::Collect::decode(bytes), wire::Collect { count, uuids });

    let append = blksnap_storage_append {
        id: ID,
        path: 0xfedc_ba98_7654_3210,
    };
    let bytes = append.as_bytes().try_into().expect("of that size");
    let (uuid, path) = (ID.b, append.path);
    assert_eq!(wire::Append::decode(bytes), wire::Append { uuid, path });

    let map = blksnap_cbt_map {
        offset: 0x0123_4567,
        length: 0x89ab_cdef,
        buffer: 0xfedc_ba98_7654_3210,
    };
    let bytes = map.as_bytes().try_into().expect("of that size");
    let (offset, length, buffer) = (map.offset, map.length, map.buffer);
    assert_eq!(
        wire::ReadMap::decode(bytes),
        wire::ReadMap {
            offset,
            length,
            buffer
        }
    );

    // What clients leave in the hole is not looked at.
    let dirty = blksnap_cbt_dirty {
        count: 0x0123_4567,
        reserved: 0xa5a5_a5a5,
        ranges: 0xfedc_ba98_7654_3210,
    };
    let bytes = dirty.as_bytes().try_into().expect("of that size");
    let (count, ranges) = (dirty.count, dirty.ranges);
    assert_eq!(wire::Dirty::decode(bytes), wire::Dirty { count, ranges });

    for (first, count, range) in [(8, 16, Some(8..24)), (8, u64::MAX, None)] {
        let sectors = blksnap_sectors { first, count };
        let bytes = sectors.as_bytes().try_into().expect("of that size");
        assert_eq!(wire::sectors(bytes), range);
    }
}

#[test]
fn who_waits_is_understood_and_gets_what_it_knows() {
    for (code, known) in [
        (0, BLKSNAP_EVENT_NO_SPACE),
        (BLKSNAP_EVENT_LOW_SPACE, BLKSNAP_EVENT_NO_SPACE),
        (u32::MAX, BLKSNAP_EVENT_NO_SPACE),
        (BLKSNAP_EVENT_KNOWN, BLKSNAP_EVENT_NO_SPACE),
        (
            BLKSNAP_EVENT_KNOWN + BLKSNAP_EVENT_LOW_SPACE,
            BLKSNAP_EVENT_LOW_SPACE,
        ),
    ] {
        let mut event = blksnap_event::new_zeroed();
        event.id = ID;
        event.timeout_ms = 1500;
        event.code = code;
        let bytes = event.as_bytes()[..wire::Wait::SIZE].try_into();
        let request = wire::Wait::decode(bytes.expect("of that size"));
        assert_eq!((request.uuid, request.timeout_ms), (ID.b, 1500));
        assert_eq!(request.code, known);
    }

    let answer = |happened: wire::Happened| {
        let mut event = blksnap_event::new_zeroed();
        event.as_mut_bytes()[wire::Happened::AT..][..wire::Happened::SIZE]
            .copy_from_slice(&happened.encode(-5));
        assert_eq!(event.time, -5);
        event
    };
    let event = answer(wire::Happened::Corrupted {
        major: 8,
        minor: 17,
        errno: -5,
    });
    assert_eq!(event.code, BLKSNAP_EVENT_CORRUPTED);
    let (data, _) = blksnap_event_corrupted::read_from_prefix(&event.data).expect("large enough");
    assert_eq!((data.major, data.minor, data.error), (8, 17, -5));

    let event = answer(wire::Happened::NoSpace { requested: 2048 });
    assert_eq!(event.code, BLKSNAP_EVENT_NO_SPACE);
    let (data, _) = blksnap_event_no_space::read_from_prefix(&event.data).expect("large enough");
    assert_eq!(data.requested, 2048);

    let event = answer(wire::Happened::LowSpace {
        free: 8,
        capacity: 64,
    });
    assert_eq!(event.code, BLKSNAP_EVENT_LOW_SPACE);
    let (data, _) = blksnap_event_low_space::read_from_prefix(&event.data).expect("large enough");
    assert_eq!((data.free_sectors, data.capacity_sectors), (8, 64));
}

#[test]
fn the_driver_is_understood() {
    let bytes = wire::version([1, 2, 3, 4]);
    let version = blksnap_version::read_from_bytes(&bytes).expect("of that size");
    let parts = (
        version.major,
        version.minor,
        version.revision,
        version.build,
    );
    assert_eq!(parts, (1, 2, 3, 4));

    let bytes = wire::tracking_info(1 << 40, 65536, 1 << 24, &ID.b, 255);
    let info = blksnap_cbt_info::read_from_bytes(&bytes).expect("of that size");
    let numbers = (info.capacity, info.block_size, info.block_count);
    assert_eq!(numbers, (1 << 40, 65536, 1 << 24));
    assert_eq!((info.generation, info.change_number), (ID, 255));
    assert_eq!(info.reserved, [0; 7]);

    for (name, shown) in [
        (&b""[..], &b""[..]),
        (b"blksnap-259-12", b"blksnap-259-12"),
        // What is too long is cut off, and ends all the same.
        (&[b'x'; 40], &[b'x'; 31]),
    ] {
        let bytes = wire::info(-28, name);
        let info = blksnap_snapshot_info::read_from_bytes(&bytes).expect("of that size");
        assert_eq!(info.error, -28);
        let end = info.image.iter().position(|&b| b == 0);
        assert_eq!(&info.image[..end.expect("ends")], shown);
    }
}
