// SPDX-License-Identifier: GPL-2.0

use crate::cow::Context;
use crate::jobs::{Ended, Job, Jobs, Permit, Phase, JOBS};
use kernel::{
    block::bio::{BioList, Pages},
    prelude::*,
    sync::Arc,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn pages() -> Pages {
    Pages::new(1, GFP_KERNEL).unwrap()
}

fn job(permit: &Permit) -> Job {
    Job {
        first: u64::from(permit.job),
        chunks: 1,
        place: 0,
        others: KVec::new(),
        bytes: permit.bytes,
        pages: Arc::new(pages()),
        reserve: false,
        more: false,
        phase: Phase::Read,
        pending: 1,
        writers: BioList::new(),
        image_writers: BioList::new(),
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start(usize, Context),
    GiveBack(usize),
    Finish(bool),
}

proptest! {
    #![proptest_config(super::cases(256))]

    #[test]
    fn permissions_are_bounded_and_come_back(
        max in prop_oneof![Just(u32::MAX), 0..8u32],
        steps in prop::collection::vec(
            prop_oneof![
                3 => (
                    prop_oneof![1..4usize << 20, 1..4096usize],
                    prop_oneof![
                        Just(Context::Submitter),
                        Just(Context::Worker),
                        Just(Context::Ahead),
                    ],
                )
                    .prop_map(|(bytes, context)| Step::Start(bytes, context)),
                1 => (1..4usize << 20).prop_map(Step::GiveBack),
                2 => any::<bool>().prop_map(Step::Finish),
            ],
            0..600,
        ),
    ) {
        let mut jobs = Jobs::new(pages(), max).unwrap();
        let mut running = BTreeMap::new();
        let (mut copied, mut failed) = (0, 0);
        for step in steps {
            let sum: usize = running.values().sum();
            match step {
                Step::Start(bytes, context) => {
                    let most = (max as usize).clamp(1, JOBS);
                    let (most, most_bytes) = match context {
                        Context::Ahead => (most / 2, 2 << 20),
                        _ => (most, 16 << 20),
                    };
                    let fits = running.is_empty() || sum + bytes <= most_bytes;
                    let permit = jobs.permit(bytes, context);
                    prop_assert_eq!(permit.is_some(), running.len() < most && fits);
                    if let Some(permit) = permit {
                        let job = job(&permit);
                        jobs.start(&permit, job);
                        prop_assert!(running.insert(permit.job, bytes).is_none());
                    }
                }
                Step::GiveBack(bytes) => {
                    if let Some(permit) = jobs.permit(bytes, Context::Worker) {
                        jobs.give_back(permit, None);
                    }
                }
                Step::Finish(stored) => {
                    if let Some((number, bytes)) = running.pop_first() {
                        let done = jobs.finish(number, stored).unwrap();
                        prop_assert_eq!((done.first, done.bytes), (number.into(), bytes));
                        match stored {
                            true => copied += done.chunks,
                            false => failed += 1,
                        }
                        prop_assert!(jobs.get(number).is_none());
                        prop_assert!(jobs.finish(number, stored).is_none());
                    }
                }
            }
            prop_assert!(running.len() <= (max as usize).max(1));
            prop_assert_eq!(jobs.is_idle(), running.is_empty());
            let counters = jobs.counters();
            prop_assert_eq!(counters.jobs_in_flight, running.len() as u64);
            prop_assert_eq!(counters.buffered_bytes, running.values().sum::<usize>() as u64);
            prop_assert_eq!(counters.chunks_copied, copied);
            prop_assert_eq!(counters.copies_failed, failed);
            prop_assert_eq!(counters.parked, 0);
            for &number in running.keys() {
                prop_assert!(jobs.get(number).is_some());
            }
        }
    }

    #[test]
    fn what_has_ended_is_told_once(records in prop::collection::vec(
        (0..JOBS as u32, any::<bool>(), any::<bool>()),
        0..200,
    )) {
        let ended = Ended::new().unwrap();
        let mut expected = BTreeMap::<u32, (u32, bool)>::new();
        for (number, fails, take) in records {
            ended.record(number, if fails { Err(EIO) } else { Ok(()) });
            let entry = expected.entry(number).or_default();
            entry.0 += 1;
            entry.1 |= fails;
            if take {
                let mut seen = BTreeSet::new();
                let any = ended.take(|number, count, result| {
                    assert!(seen.insert(number));
                    assert_eq!(expected.remove(&number), Some((count, result.is_err())));
                });
                prop_assert!(any && expected.is_empty());
                prop_assert!(!ended.take(|_, _, _| panic!("told twice")));
            }
        }
    }
}

#[test]
fn there_are_no_more_jobs_than_slots() {
    let mut jobs = Jobs::new(pages(), u32::MAX).unwrap();
    let all: BTreeSet<_> = (0..JOBS)
        .map(|_| jobs.permit(1, Context::Worker).unwrap().job)
        .collect();
    assert_eq!(all.len(), JOBS);
    assert!(jobs.permit(1, Context::Worker).is_none());
}

#[test]
fn the_reserve_is_lent_once() {
    let mut jobs = Jobs::new(pages(), u32::MAX).unwrap();
    let reserve = jobs.take_reserve().unwrap();
    assert!(jobs.take_reserve().is_none());
    let permit = jobs.permit(4096, Context::Worker).unwrap();
    jobs.give_back(permit, Some(reserve));
    assert!(jobs.take_reserve().is_some());
    assert!(jobs.is_idle());
}
