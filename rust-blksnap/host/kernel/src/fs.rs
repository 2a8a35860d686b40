// SPDX-License-Identifier: GPL-2.0

//! Files in memory.

use crate::error::{Result, code::*};
use crate::sim;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A file in memory. Two of them are the same if one is a clone of the other.
#[derive(Clone)]
pub struct MemoryFile(Rc<Inner>);

struct Inner {
    data: RefCell<Vec<u8>>,
    /// I/O to it is a mistake from now on.
    forbidden: Cell<bool>,
}

impl MemoryFile {
    /// A file full of zeroes.
    pub fn new(bytes: u64) -> Self {
        MemoryFile(Rc::new(Inner {
            data: RefCell::new(vec![0; bytes as usize]),
            forbidden: Cell::new(false),
        }))
    }

    /// From here on I/O to the file is a mistake.
    pub fn forbid(&self) {
        self.0.forbidden.set(true);
    }

    /// Looks at what the file contains.
    pub fn access<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        f(&self.0.data.borrow())
    }

    /// Writes all of `bytes` at `pos`. As others, it fails now and then.
    pub fn write_at(&self, pos: u64, bytes: &[u8]) -> Result {
        self.io(pos, bytes.len(), |there| there.copy_from_slice(bytes))
    }

    /// Fills `bytes` from `pos` on.
    pub fn read_at(&self, pos: u64, bytes: &mut [u8]) -> Result {
        self.io(pos, bytes.len(), |there| bytes.copy_from_slice(there))
    }

    fn io(&self, pos: u64, len: usize, f: impl FnOnce(&mut [u8])) -> Result {
        sim::might_sleep("I/O to a file in memory");
        sim::preempt();
        assert!(
            !self.0.forbidden.get(),
            "I/O to a file that has been given back"
        );
        let mut data = self.0.data.borrow_mut();
        let end = pos as usize + len;
        assert!(
            end <= data.len(),
            "I/O beyond the end: {pos}+{len} of {}",
            data.len()
        );
        if sim::io_fails() {
            return Err(EIO);
        }
        f(&mut data[pos as usize..end]);
        Ok(())
    }
}
