// SPDX-License-Identifier: GPL-2.0

//! Sets of sectors.

use core::ops::Range;
use kernel::prelude::*;

/// A set of sectors as sorted ranges that neither overlap nor touch.
#[derive(Default)]
pub(crate) struct Ranges(KVVec<Range<u64>>);

impl Ranges {
    /// The set of all sectors in `ranges`, which may be in any order and overlap.
    pub(crate) fn new(mut ranges: KVVec<Range<u64>>) -> Self {
        ranges.retain(|r| !r.is_empty());
        ranges.sort_unstable_by_key(|r| r.start);

        let mut kept = 0;
        for i in 0..ranges.len() {
            let next = ranges[i].clone();
            if kept > 0 && next.start <= ranges[kept - 1].end {
                let last = &mut ranges[kept - 1];
                last.end = last.end.max(next.end);
            } else {
                ranges[kept] = next;
                kept += 1;
            }
        }
        ranges.truncate(kept);
        Self(ranges)
    }

    /// Whether the first `sectors`, which are some, are all in the set.
    pub(crate) fn start_with(&self, sectors: u64) -> bool {
        let first = self.0.first();
        first.is_some_and(|r| r.start == 0 && r.end >= sectors.max(1))
    }

    /// Whether all of `range`, which is not empty, is in the set.
    pub(crate) fn covers(&self, range: Range<u64>) -> bool {
        self.within(range.clone()).next() == Some(range)
    }

    /// The parts of `range`, which is not empty, that are in the set, in order.
    pub(crate) fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.0.partition_point(|r| r.end <= range.start);
        self.0[first..]
            .iter()
            .take_while(move |r| r.start < range.end)
            .map(move |r| r.start.max(range.start)..r.end.min(range.end))
    }
}
