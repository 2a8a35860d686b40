//! The kernel's asynchronous I/O, by its system calls.
//!
//! It is used because submission waits where the device makes it wait. io_uring would first ask not
//! to wait and hand refused requests to a thread, which measures that thread.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use anyhow::{Context, Result, ensure};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Memory as direct I/O wants it.
pub struct Buffer {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: The memory belongs to the buffer alone.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Memory with some content that does not compress to nothing.
    pub fn new(len: usize) -> Result<Self> {
        // SAFETY: A fresh mapping wherever there is room touches nobody else's memory.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::POPULATE,
            )
        }
        .context("no memory for I/O")?;
        let mut buffer = Self {
            start: NonNull::new(start.cast()).context("a mapping at zero")?,
            len,
        };
        for (i, byte) in buffer.bytes().iter_mut().enumerate() {
            *byte = (i as u8).wrapping_mul(31) ^ (i >> 8) as u8;
        }
        Ok(buffer)
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: The mapping is ours, `len` bytes long and initialised by the kernel.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: Mapped in `new()` and not used any more; I/O in flight is waited for by `Queue`.
        // It cannot fail for a mapping that exists.
        unsafe { munmap(self.start.as_ptr().cast(), self.len) }.unwrap_or(());
    }
}

/// `struct iocb` of a little-endian machine.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    iocb: u64,
    result: i64,
    result2: i64,
}

const _: () = assert!(size_of::<Iocb>() == 64 && size_of::<Event>() == 32);

const PREAD: u16 = 0;
const PWRITE: u16 = 1;

/// A queue of I/O to one file, each with its own part of a buffer.
pub struct Queue {
    context: libc::c_ulong,
    file: File,
    buffer: Buffer,
    block: usize,
    opcode: u16,
    iocbs: Vec<Iocb>,
    events: Vec<Event>,
    in_flight: usize,
}

impl Queue {
    pub fn new(file: File, write: bool, block: usize, depth: usize) -> Result<Self> {
        let buffer = Buffer::new(block * depth)?;
        let mut context: libc::c_ulong = 0;
        // SAFETY: `context` is a live variable of the type that the call fills in.
        let done = unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut context) };
        if done < 0 {
            return Err(std::io::Error::last_os_error()).context("io_setup");
        }
        Ok(Self {
            context,
            file,
            buffer,
            block,
            opcode: if write { PWRITE } else { PREAD },
            iocbs: vec![Iocb::default(); depth],
            events: vec![Event::default(); depth],
            in_flight: 0,
        })
    }

    /// Does all that `next` gives, as many at a time as the queue is deep.
    pub fn run(&mut self, mut next: impl FnMut() -> Option<u64>) -> Result<()> {
        let mut free: Vec<usize> = (0..self.iocbs.len()).rev().collect();
        let mut batch = Vec::with_capacity(free.len());
        loop {
            batch.clear();
            while let Some(&slot) = free.last() {
                let Some(offset) = next() else { break };
                free.pop();
                batch.push(self.prepare(slot, offset)?);
            }
            self.submit(&mut batch)?;
            if self.in_flight == 0 {
                return Ok(());
            }
            self.reap(&mut free)?;
        }
    }

    fn prepare(&mut self, slot: usize, offset: u64) -> Result<*mut Iocb> {
        let start = slot * self.block;
        let buffer = self.buffer.bytes()[start..start + self.block].as_mut_ptr();
        self.iocbs[slot] = Iocb {
            data: slot as u64,
            opcode: self.opcode,
            fd: u32::try_from(self.file.as_raw_fd())?,
            buffer: buffer.expose_provenance() as u64,
            bytes: self.block as u64,
            offset: i64::try_from(offset)?,
            ..Iocb::default()
        };
        Ok(&raw mut self.iocbs[slot])
    }

    fn submit(&mut self, batch: &mut [*mut Iocb]) -> Result<()> {
        let mut done = 0;
        while done < batch.len() {
            let rest = &mut batch[done..];
            // SAFETY: The pointers are to iocbs of this queue, whose buffers stay until their
            // events have come, for which `drop()` waits.
            let n = unsafe {
                libc::syscall(
                    libc::SYS_io_submit,
                    self.context,
                    rest.len(),
                    rest.as_mut_ptr(),
                )
            };
            if n < 0 {
                return Err(std::io::Error::last_os_error()).context("io_submit");
            }
            ensure!(n > 0, "io_submit takes nothing");
            done += n as usize;
            self.in_flight += n as usize;
        }
        Ok(())
    }

    fn reap(&mut self, free: &mut Vec<usize>) -> Result<()> {
        // SAFETY: There is room for as many events as are asked for at most.
        let n = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                1,
                self.events.len(),
                self.events.as_mut_ptr(),
                std::ptr::null_mut::<libc::timespec>(),
            )
        };
        if n < 0 {
            return Err(std::io::Error::last_os_error()).context("io_getevents");
        }
        let ended = &self.events[..n as usize];
        self.in_flight -= ended.len();
        for event in ended {
            ensure!(
                event.result == self.block as i64,
                "I/O ended with {} instead of {} bytes",
                event.result,
                self.block
            );
            free.push(event.data as usize);
        }
        Ok(())
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: Set up in `new()`. The call waits for what is in flight.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn every_block_is_written_once_at_its_place() {
        let mut file = tempfile::tempfile().unwrap();
        let mut blocks = (0..10_u64).map(|i| (i * 7 % 10) * 4096);
        let mut queue = Queue::new(file.try_clone().unwrap(), true, 4096, 3).unwrap();
        queue.run(|| blocks.next()).unwrap();
        drop(queue);
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content.len(), 40960);
        assert!(content.chunks(256).all(|part| part.iter().any(|b| *b != 0)));
    }

    #[test]
    fn a_short_read_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let mut queue = Queue::new(file, false, 4096, 2).unwrap();
        let mut blocks = [0, 4096].into_iter();
        assert!(queue.run(|| blocks.next()).is_err());
    }
}
