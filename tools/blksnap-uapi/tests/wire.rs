// SPDX-License-Identifier: GPL-2.0-only

//! The driver decodes and encodes arguments byte by byte; here its own file meets the structures
//! that user space fills in.

use blksnap_uapi::*;
use zerocopy::{FromBytes, IntoBytes};

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
