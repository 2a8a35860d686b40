// SPDX-License-Identifier: GPL-2.0

use crate::{
    cow::{Cow, Sizes},
    ranges::Ranges,
    storage::Storage,
    world::{check, Action, Extent, On, Origin, Plan},
};
use kernel::{
    block::{bdev::BlockDevice, bio::Op},
    sync::Arc,
    workqueue::OwnedQueue,
};
use proptest::prelude::*;

fn erase() -> impl Strategy<Value = Op> {
    prop::sample::select(vec![Op::Discard, Op::WriteZeroes, Op::SecureErase])
}

fn extent(on: impl Into<Vec<On>>) -> impl Strategy<Value = Extent> {
    (prop::sample::select(on.into()), 0..24u64, 4..56u64).prop_map(|(on, offset, sectors)| Extent {
        on,
        offset,
        sectors,
    })
}

fn sizes() -> impl Strategy<Value = Sizes> {
    // Mostly small ones, since large chunks do not fit into the storage.
    let shift = || prop_oneof![8 => 9..14u32, 1 => 0..70u32];
    let max_jobs = prop_oneof![4 => 1..400u32, 1 => Just(0), 1 => Just(1)];
    (shift(), 0..70u32, shift(), max_jobs).prop_map(
        |(min_shift, max_count_shift, max_shift, max_jobs)| Sizes {
            min_shift,
            max_count_shift,
            max_shift,
            max_jobs,
        },
    )
}

fn plan() -> impl Strategy<Value = Plan> {
    let action = prop_oneof![
        8 => any::<bool>().prop_map(|nowait| Action::Write { nowait }),
        2 => (erase(), any::<bool>()).prop_map(|(op, nowait)| Action::Erase { op, nowait }),
        1 => Just(Action::Flush),
        8 => Just(Action::ImageRead),
        4 => Just(Action::ImageWrite),
        1 => erase().prop_map(|op| Action::ImageErase { op }),
    ];
    let on = prop_oneof![
        Just(vec![On::SameDisk]),
        Just(vec![On::OtherDisk]),
        Just(vec![On::Memory]),
        Just(vec![On::SameDisk, On::OtherDisk]),
        Just(vec![On::SameDisk, On::OtherDisk, On::Memory]),
    ];
    // What is added while a snapshot is held is never on a disk that it is of.
    let portion = prop::collection::vec(extent([On::OtherDisk, On::Memory]), 0..4);
    let storage = (
        on.prop_flat_map(|on| prop::collection::vec(extent(on), 1..12)),
        prop::collection::vec(portion, 0..4),
        prop_oneof![Just(u64::MAX), 0..600u64],
    );
    let trouble = (
        prop_oneof![3 => Just(0u64), 1 => 2..12u64],
        prop_oneof![4 => Just(0u64), 1 => 3..40u64],
    );
    let actions = prop::collection::vec((action, any::<u64>(), 1..80u64), 1..60);
    let origin = (0..20u64, 1..700u64, sizes()).prop_map(|(gap, sectors, sizes)| Origin {
        gap,
        sectors,
        sizes,
    });
    let origins = prop::collection::vec(origin, 1..3);
    (any::<u64>(), origins, storage, trouble, actions).prop_map(
        |(seed, origins, (extents, portions, limit), (no_memory, io_errors), actions)| Plan {
            seed,
            origins,
            extents,
            portions,
            limit,
            no_memory,
            io_errors,
            actions,
        },
    )
}

/// Writes one after the other, so many sectors each, while others do something else.
fn stream() -> impl Strategy<Value = Plan> {
    let writes = (plan(), 8..40u64, any::<bool>());
    writes.prop_map(|(mut plan, sectors, nowait)| {
        plan.origins.truncate(1);
        plan.origins[0].sectors = 700;
        plan.origins[0].sizes.max_jobs = 256;
        // Room for what is copied ahead.
        let on = plan.extents[0].on;
        let extent = Extent {
            on,
            offset: 0,
            sectors: 72,
        };
        plan.extents = vec![extent; 24];
        plan.portions = Vec::new();
        plan.limit = u64::MAX;
        let others = plan.actions.into_iter();
        let writes = (0..700 / sectors).map(|n| (Action::Write { nowait }, n * sectors, sectors));
        plan.actions = writes
            .zip(others.map(Some).chain(std::iter::repeat(None)))
            .flat_map(|(write, other)| std::iter::once(write).chain(other))
            .collect();
        plan
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 20_000,
        ..super::cases(3000)
    })]

    #[test]
    fn an_image_shows_what_was_there_before_a_stream(plan in stream()) {
        check(plan);
    }

    #[test]
    fn an_image_shows_what_was_there(plan in plan()) {
        check(plan);
    }

    #[test]
    fn chunks_are_of_a_size_that_can_be_copied(sectors in 1..3000u64, sizes in sizes()) {
        let disk = BlockDevice::new(0, sectors);
        let storage = Storage::new(Vec::new(), &[], [], 0).unwrap();
        let queue = Arc::new(OwnedQueue::default());
        let cow = Cow::new(&disk, &storage, Ranges::default(), &sizes, &queue).unwrap();
        let chunk = cow.counters().chunk_bytes;

        let within = |shift: u32| 1u64 << shift.clamp(12, 18);
        let smallest = within(sizes.min_shift);
        prop_assert!(chunk.is_power_of_two() && chunk >= smallest);
        prop_assert!(chunk <= within(sizes.max_shift).max(smallest));
        // Larger than the smallest only to be fewer.
        let most = 1u128 << sizes.max_count_shift.min(100);
        let half = u128::from((sectors * 512).div_ceil(chunk / 2));
        prop_assert!(chunk == smallest || half > most);
    }
}
