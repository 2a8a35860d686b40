// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub const BLKFILTER_NAME_LENGTH: u32 = 32;
pub const BLKFILTER_ATTACH: u32 = 3224375950;
pub const BLKFILTER_DETACH: u32 = 3223327375;
pub const BLKFILTER_CTL: u32 = 3224375952;
pub const BLKSNAP_FILTER_NAME: &::core::ffi::CStr = c"blksnap";
pub const BLKSNAP_CONTROL_NAME: &::core::ffi::CStr = c"blksnap-control";
pub const BLKSNAP_IMAGE_PREFIX: &::core::ffi::CStr = c"blksnap-";
pub const BLKSNAP_IMAGE_NAME_LENGTH: u32 = 32;
pub const BLKSNAP_EVENT_SIZE: u32 = 4096;
pub const BLKSNAP_EVENT_DATA_SIZE: u32 = 4064;
pub const BLKSNAP_EVENT_KNOWN: u32 = 1802399488;
pub const BLKSNAP_IOCTL_TYPE: u8 = 86u8;
pub const BLKSNAP_IOCTL_VERSION: u32 = 2148029952;
pub const BLKSNAP_IOCTL_CREATE: u32 = 3223344641;
pub const BLKSNAP_IOCTL_DESTROY: u32 = 1074812418;
pub const BLKSNAP_IOCTL_TAKE: u32 = 1074812419;
pub const BLKSNAP_IOCTL_COLLECT: u32 = 2148554244;
pub const BLKSNAP_IOCTL_WAIT_EVENT: u32 = 2415941125;
pub const BLKSNAP_IOCTL_APPEND_STORAGE: u32 = 1075336710;
pub type __u8 = ::core::ffi::c_uchar;
pub type __u16 = ::core::ffi::c_ushort;
pub type __s32 = ::core::ffi::c_int;
pub type __u32 = ::core::ffi::c_uint;
pub type __s64 = ::core::ffi::c_longlong;
pub type __u64 = ::core::ffi::c_ulonglong;
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blkfilter_attach {
    pub name: [__u8; 32usize],
    pub opt: __u64,
    pub optlen: __u32,
    pub reserved: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of blkfilter_attach"][::core::mem::size_of::<blkfilter_attach>() - 48usize];
    [
        "Alignment of blkfilter_attach",
    ][::core::mem::align_of::<blkfilter_attach>() - 8usize];
    [
        "Offset of field: blkfilter_attach::name",
    ][::core::mem::offset_of!(blkfilter_attach, name) - 0usize];
    [
        "Offset of field: blkfilter_attach::opt",
    ][::core::mem::offset_of!(blkfilter_attach, opt) - 32usize];
    [
        "Offset of field: blkfilter_attach::optlen",
    ][::core::mem::offset_of!(blkfilter_attach, optlen) - 40usize];
    [
        "Offset of field: blkfilter_attach::reserved",
    ][::core::mem::offset_of!(blkfilter_attach, reserved) - 44usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blkfilter_detach {
    pub name: [__u8; 32usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of blkfilter_detach"][::core::mem::size_of::<blkfilter_detach>() - 32usize];
    [
        "Alignment of blkfilter_detach",
    ][::core::mem::align_of::<blkfilter_detach>() - 1usize];
    [
        "Offset of field: blkfilter_detach::name",
    ][::core::mem::offset_of!(blkfilter_detach, name) - 0usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blkfilter_ctl {
    pub name: [__u8; 32usize],
    pub cmd: __u32,
    pub optlen: __u32,
    pub opt: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of blkfilter_ctl"][::core::mem::size_of::<blkfilter_ctl>() - 48usize];
    ["Alignment of blkfilter_ctl"][::core::mem::align_of::<blkfilter_ctl>() - 8usize];
    [
        "Offset of field: blkfilter_ctl::name",
    ][::core::mem::offset_of!(blkfilter_ctl, name) - 0usize];
    [
        "Offset of field: blkfilter_ctl::cmd",
    ][::core::mem::offset_of!(blkfilter_ctl, cmd) - 32usize];
    [
        "Offset of field: blkfilter_ctl::optlen",
    ][::core::mem::offset_of!(blkfilter_ctl, optlen) - 36usize];
    [
        "Offset of field: blkfilter_ctl::opt",
    ][::core::mem::offset_of!(blkfilter_ctl, opt) - 40usize];
};
pub const BLKSNAP_FILTER_CBT_INFO: blksnap_filter_cmd = 0;
pub const BLKSNAP_FILTER_CBT_MAP: blksnap_filter_cmd = 1;
pub const BLKSNAP_FILTER_CBT_DIRTY: blksnap_filter_cmd = 2;
pub const BLKSNAP_FILTER_SNAPSHOT_ADD: blksnap_filter_cmd = 3;
pub const BLKSNAP_FILTER_SNAPSHOT_INFO: blksnap_filter_cmd = 4;
pub type blksnap_filter_cmd = ::core::ffi::c_uint;
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_uuid {
    pub b: [__u8; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of blksnap_uuid"][::core::mem::size_of::<blksnap_uuid>() - 16usize];
    ["Alignment of blksnap_uuid"][::core::mem::align_of::<blksnap_uuid>() - 1usize];
    [
        "Offset of field: blksnap_uuid::b",
    ][::core::mem::offset_of!(blksnap_uuid, b) - 0usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_cbt_info {
    pub capacity: __u64,
    pub block_size: __u32,
    pub block_count: __u32,
    pub generation: blksnap_uuid,
    pub change_number: __u8,
    pub reserved: [__u8; 7usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of blksnap_cbt_info"][::core::mem::size_of::<blksnap_cbt_info>() - 40usize];
    [
        "Alignment of blksnap_cbt_info",
    ][::core::mem::align_of::<blksnap_cbt_info>() - 8usize];
    [
        "Offset of field: blksnap_cbt_info::capacity",
    ][::core::mem::offset_of!(blksnap_cbt_info, capacity) - 0usize];
    [
        "Offset of field: blksnap_cbt_info::block_size",
    ][::core::mem::offset_of!(blksnap_cbt_info, block_size) - 8usize];
    [
        "Offset of field: blksnap_cbt_info::block_count",
    ][::core::mem::offset_of!(blksnap_cbt_info, block_count) - 12usize];
    [
        "Offset of field: blksnap_cbt_info::generation",
    ][::core::mem::offset_of!(blksnap_cbt_info, generation) - 16usize];
    [
        "Offset of field: blksnap_cbt_info::change_number",
    ][::core::mem::offset_of!(blksnap_cbt_info, change_number) - 32usize];
    [
        "Offset of field: blksnap_cbt_info::reserved",
    ][::core::mem::offset_of!(blksnap_cbt_info, reserved) - 33usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_cbt_map {
    pub offset: __u32,
    pub length: __u32,
    pub buffer: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of blksnap_cbt_map"][::core::mem::size_of::<blksnap_cbt_map>() - 16usize];
    [
        "Alignment of blksnap_cbt_map",
    ][::core::mem::align_of::<blksnap_cbt_map>() - 8usize];
    [
        "Offset of field: blksnap_cbt_map::offset",
    ][::core::mem::offset_of!(blksnap_cbt_map, offset) - 0usize];
    [
        "Offset of field: blksnap_cbt_map::length",
    ][::core::mem::offset_of!(blksnap_cbt_map, length) - 4usize];
    [
        "Offset of field: blksnap_cbt_map::buffer",
    ][::core::mem::offset_of!(blksnap_cbt_map, buffer) - 8usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_sectors {
    pub first: __u64,
    pub count: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of blksnap_sectors"][::core::mem::size_of::<blksnap_sectors>() - 16usize];
    [
        "Alignment of blksnap_sectors",
    ][::core::mem::align_of::<blksnap_sectors>() - 8usize];
    [
        "Offset of field: blksnap_sectors::first",
    ][::core::mem::offset_of!(blksnap_sectors, first) - 0usize];
    [
        "Offset of field: blksnap_sectors::count",
    ][::core::mem::offset_of!(blksnap_sectors, count) - 8usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_cbt_dirty {
    pub count: __u32,
    pub reserved: __u32,
    pub ranges: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of blksnap_cbt_dirty"][::core::mem::size_of::<blksnap_cbt_dirty>() - 16usize];
    [
        "Alignment of blksnap_cbt_dirty",
    ][::core::mem::align_of::<blksnap_cbt_dirty>() - 8usize];
    [
        "Offset of field: blksnap_cbt_dirty::count",
    ][::core::mem::offset_of!(blksnap_cbt_dirty, count) - 0usize];
    [
        "Offset of field: blksnap_cbt_dirty::reserved",
    ][::core::mem::offset_of!(blksnap_cbt_dirty, reserved) - 4usize];
    [
        "Offset of field: blksnap_cbt_dirty::ranges",
    ][::core::mem::offset_of!(blksnap_cbt_dirty, ranges) - 8usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_snapshot_add {
    pub id: blksnap_uuid,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of blksnap_snapshot_add",
    ][::core::mem::size_of::<blksnap_snapshot_add>() - 16usize];
    [
        "Alignment of blksnap_snapshot_add",
    ][::core::mem::align_of::<blksnap_snapshot_add>() - 1usize];
    [
        "Offset of field: blksnap_snapshot_add::id",
    ][::core::mem::offset_of!(blksnap_snapshot_add, id) - 0usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_snapshot_info {
    pub error: __s32,
    pub image: [__u8; 32usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of blksnap_snapshot_info",
    ][::core::mem::size_of::<blksnap_snapshot_info>() - 36usize];
    [
        "Alignment of blksnap_snapshot_info",
    ][::core::mem::align_of::<blksnap_snapshot_info>() - 4usize];
    [
        "Offset of field: blksnap_snapshot_info::error",
    ][::core::mem::offset_of!(blksnap_snapshot_info, error) - 0usize];
    [
        "Offset of field: blksnap_snapshot_info::image",
    ][::core::mem::offset_of!(blksnap_snapshot_info, image) - 4usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_version {
    pub major: __u16,
    pub minor: __u16,
    pub revision: __u16,
    pub build: __u16,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of blksnap_version"][::core::mem::size_of::<blksnap_version>() - 8usize];
    [
        "Alignment of blksnap_version",
    ][::core::mem::align_of::<blksnap_version>() - 2usize];
    [
        "Offset of field: blksnap_version::major",
    ][::core::mem::offset_of!(blksnap_version, major) - 0usize];
    [
        "Offset of field: blksnap_version::minor",
    ][::core::mem::offset_of!(blksnap_version, minor) - 2usize];
    [
        "Offset of field: blksnap_version::revision",
    ][::core::mem::offset_of!(blksnap_version, revision) - 4usize];
    [
        "Offset of field: blksnap_version::build",
    ][::core::mem::offset_of!(blksnap_version, build) - 6usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_snapshot_create {
    pub limit: __u64,
    pub path: __u64,
    pub id: blksnap_uuid,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of blksnap_snapshot_create",
    ][::core::mem::size_of::<blksnap_snapshot_create>() - 32usize];
    [
        "Alignment of blksnap_snapshot_create",
    ][::core::mem::align_of::<blksnap_snapshot_create>() - 8usize];
    [
        "Offset of field: blksnap_snapshot_create::limit",
    ][::core::mem::offset_of!(blksnap_snapshot_create, limit) - 0usize];
    [
        "Offset of field: blksnap_snapshot_create::path",
    ][::core::mem::offset_of!(blksnap_snapshot_create, path) - 8usize];
    [
        "Offset of field: blksnap_snapshot_create::id",
    ][::core::mem::offset_of!(blksnap_snapshot_create, id) - 16usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_snapshot_collect {
    pub count: __u32,
    pub reserved: __u32,
    pub ids: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of blksnap_snapshot_collect",
    ][::core::mem::size_of::<blksnap_snapshot_collect>() - 16usize];
    [
        "Alignment of blksnap_snapshot_collect",
    ][::core::mem::align_of::<blksnap_snapshot_collect>() - 8usize];
    [
        "Offset of field: blksnap_snapshot_collect::count",
    ][::core::mem::offset_of!(blksnap_snapshot_collect, count) - 0usize];
    [
        "Offset of field: blksnap_snapshot_collect::reserved",
    ][::core::mem::offset_of!(blksnap_snapshot_collect, reserved) - 4usize];
    [
        "Offset of field: blksnap_snapshot_collect::ids",
    ][::core::mem::offset_of!(blksnap_snapshot_collect, ids) - 8usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_storage_append {
    pub id: blksnap_uuid,
    pub path: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of blksnap_storage_append",
    ][::core::mem::size_of::<blksnap_storage_append>() - 24usize];
    [
        "Alignment of blksnap_storage_append",
    ][::core::mem::align_of::<blksnap_storage_append>() - 8usize];
    [
        "Offset of field: blksnap_storage_append::id",
    ][::core::mem::offset_of!(blksnap_storage_append, id) - 0usize];
    [
        "Offset of field: blksnap_storage_append::path",
    ][::core::mem::offset_of!(blksnap_storage_append, path) - 16usize];
};
pub const BLKSNAP_EVENT_CORRUPTED: blksnap_event_code = 0;
pub const BLKSNAP_EVENT_NO_SPACE: blksnap_event_code = 1;
pub const BLKSNAP_EVENT_LOW_SPACE: blksnap_event_code = 2;
pub type blksnap_event_code = ::core::ffi::c_uint;
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_event {
    pub id: blksnap_uuid,
    pub timeout_ms: __u32,
    pub code: __u32,
    pub time: __s64,
    pub data: [__u8; 4064usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of blksnap_event"][::core::mem::size_of::<blksnap_event>() - 4096usize];
    ["Alignment of blksnap_event"][::core::mem::align_of::<blksnap_event>() - 8usize];
    [
        "Offset of field: blksnap_event::id",
    ][::core::mem::offset_of!(blksnap_event, id) - 0usize];
    [
        "Offset of field: blksnap_event::timeout_ms",
    ][::core::mem::offset_of!(blksnap_event, timeout_ms) - 16usize];
    [
        "Offset of field: blksnap_event::code",
    ][::core::mem::offset_of!(blksnap_event, code) - 20usize];
    [
        "Offset of field: blksnap_event::time",
    ][::core::mem::offset_of!(blksnap_event, time) - 24usize];
    [
        "Offset of field: blksnap_event::data",
    ][::core::mem::offset_of!(blksnap_event, data) - 32usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_event_corrupted {
    pub major: __u32,
    pub minor: __u32,
    pub error: __s32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of blksnap_event_corrupted",
    ][::core::mem::size_of::<blksnap_event_corrupted>() - 12usize];
    [
        "Alignment of blksnap_event_corrupted",
    ][::core::mem::align_of::<blksnap_event_corrupted>() - 4usize];
    [
        "Offset of field: blksnap_event_corrupted::major",
    ][::core::mem::offset_of!(blksnap_event_corrupted, major) - 0usize];
    [
        "Offset of field: blksnap_event_corrupted::minor",
    ][::core::mem::offset_of!(blksnap_event_corrupted, minor) - 4usize];
    [
        "Offset of field: blksnap_event_corrupted::error",
    ][::core::mem::offset_of!(blksnap_event_corrupted, error) - 8usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_event_no_space {
    pub requested: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of blksnap_event_no_space",
    ][::core::mem::size_of::<blksnap_event_no_space>() - 8usize];
    [
        "Alignment of blksnap_event_no_space",
    ][::core::mem::align_of::<blksnap_event_no_space>() - 8usize];
    [
        "Offset of field: blksnap_event_no_space::requested",
    ][::core::mem::offset_of!(blksnap_event_no_space, requested) - 0usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PartialEq,
    Eq
)]
pub struct blksnap_event_low_space {
    pub free_sectors: __u64,
    pub capacity_sectors: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of blksnap_event_low_space",
    ][::core::mem::size_of::<blksnap_event_low_space>() - 16usize];
    [
        "Alignment of blksnap_event_low_space",
    ][::core::mem::align_of::<blksnap_event_low_space>() - 8usize];
    [
        "Offset of field: blksnap_event_low_space::free_sectors",
    ][::core::mem::offset_of!(blksnap_event_low_space, free_sectors) - 0usize];
    [
        "Offset of field: blksnap_event_low_space::capacity_sectors",
    ][::core::mem::offset_of!(blksnap_event_low_space, capacity_sectors) - 8usize];
};
