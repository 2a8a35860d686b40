// SPDX-License-Identifier: GPL-2.0

//! Block device filters.
//!
//! A filter sees every bio that modifies one block device before the device does, and may hold it
//! back. Its [state](Filter::State) is what the submission path reads; to change it, the filter is
//! frozen, which keeps submitters out. So the path needs no lock:
//!
//! ```ignore
//! let prepared = attached.prepare_freeze();   // So that it takes less time (optional).
//! let freezing = attached.freeze()?;      // New submitters wait from here on.
//! let mut frozen = freezing.wait()?;      // Nobody is inside any more.
//! drain(attached.bdev())?;                // What was let through has completed.
//! *frozen.state() = Some(snapshot);
//! drop(frozen);                           // Submitters go on, and see the new state.
//! ```
//!
//! C header: [`include/linux/blk-filter.h`](srctree/include/linux/blk-filter.h)

use crate::{
    bindings,
    block::{bdev::BlockDevice, bio::Bio},
    error::{from_result, to_result, Error, Result},
    prelude::*,
    sync::{aref::ARef, Arc, ArcBorrow},
    types::Opaque,
    uaccess::{UserPtr, UserSlice},
};
use core::cell::UnsafeCell;

/// What a command from user space comes to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    /// How many bytes were written back.
    pub len: usize,
    /// What the system call returns, which is not negative.
    pub value: u32,
}

/// A filter driver. An instance is a filter on one device.
#[vtable]
pub trait Filter: Send + Sync + Sized + 'static {
    /// The name that user space attaches it by.
    const NAME: &'static CStr;

    /// What the driver was registered with.
    type Context: Send + Sync;

    /// What [`submit_bio`](Self::submit_bio) works by.
    type State: Send + Sync;

    /// Creates a filter for a device, and its first state. An error refuses the device.
    fn attach(
        context: &Self::Context,
        bdev: &BlockDevice,
    ) -> Result<(impl PinInit<Self, Error>, Self::State)>;

    /// Asked before user space detaches the filter; an error refuses.
    fn may_detach(this: ArcBorrow<'_, Attached<Self>>) -> Result;

    /// The device is going away. The filter still sees what is written to it, but soon will not.
    fn gone(this: ArcBorrow<'_, Attached<Self>>);

    /// The filter is off its device, which may have gone.
    fn detach(this: Arc<Attached<Self>>);

    /// A command from user space with its argument. The filter may be detached meanwhile.
    fn ctl(
        this: ArcBorrow<'_, Attached<Self>>,
        cmd: u32,
        arg: UserSlice,
        len: usize,
    ) -> Result<Answer>;

    /// Looks at a bio that modifies the device. Gives it back to let it pass; else it has been
    /// taken over. Must not wait for I/O.
    fn submit_bio(attached: &Attached<Self>, state: &Self::State, bio: Bio) -> Option<Bio>;
}

/// A filter that is, or has been, attached to a device.
///
/// # Invariants
///
/// - `flt` is initialised.
/// - `state` is only read while a reference of `flt` is held, and only written while the filter is
///   frozen by the writer, or before it is attached, or while it is dropped.
#[pin_data(PinnedDrop)]
pub struct Attached<F: Filter> {
    #[pin]
    flt: Opaque<bindings::blkfilter>,
    bdev: ARef<BlockDevice>,
    state: UnsafeCell<F::State>,
    #[pin]
    filter: F,
}

// SAFETY: All parts may be sent, and the C struct is not tied to a thread.
unsafe impl<F: Filter> Send for Attached<F> {}

// SAFETY: `filter` and `bdev` are `Sync`; the C struct does its own locking; access to `state`
// follows the type invariants.
unsafe impl<F: Filter> Sync for Attached<F> {}

impl<F: Filter> Attached<F> {
    fn new(
        bdev: ARef<BlockDevice>,
        filter: impl PinInit<F, Error>,
        state: F::State,
    ) -> impl PinInit<Self, Error> {
        let device = bdev.as_raw();
        try_pin_init!(Self {
            bdev,
            state: UnsafeCell::new(state),
            filter <- filter,
            // Last: what fails after it would have to release it.
            flt <- Opaque::try_ffi_init(|flt: *mut bindings::blkfilter| {
                // SAFETY: `flt` is valid for writes, and zeroes are a valid value.
                unsafe { core::ptr::write_bytes(flt, 0, 1) };
                // SAFETY: `flt` is valid, zeroed and pinned, and `bdev` keeps the device.
                to_result(unsafe { bindings::blkfilter_init(flt, device) })
            }),
        })
    }

    /// The driver's value.
    pub fn filter(&self) -> &F {
        &self.filter
    }

    /// The device, which may have gone.
    pub fn bdev(&self) -> &BlockDevice {
        &self.bdev
    }

    /// Gets ready to freeze the filter and to [`drain`] its device, which takes less time then: the
    /// grace periods of RCU that it needs begin now. Until the result is dropped, submitters of all
    /// processors count in one place.
    pub fn prepare_freeze(self: &Arc<Self>) -> Prepared<F> {
        // SAFETY: Initialised by the type invariants, and the device stays for as long as `bdev`.
        unsafe { bindings::blkfilter_freeze_prepare(self.flt.get()) };
        // INVARIANT: Prepared just now.
        Prepared(self.clone())
    }

    /// Begins to keep submitters out. Several filters are frozen faster if all are begun before the
    /// first is waited for, but not those of devices that are stacked on each other.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if somebody else has frozen the filter, [`ENODEV`] if it is off its device.
    pub fn freeze(self: &Arc<Self>) -> Result<Freezing<F>> {
        // SAFETY: Initialised by the type invariants.
        to_result(unsafe { bindings::blkfilter_freeze_start(self.flt.get()) })?;
        // INVARIANT: Frozen by us.
        Ok(Freezing(self.clone()))
    }

    /// Waits until nobody is inside a filter that [`freeze`](Self::freeze) has refused to freeze with
    /// [`ENODEV`]: it may be being taken off its device right now.
    pub fn wait_detached(&self) {
        // SAFETY: Initialised by the type invariants.
        unsafe { bindings::blkfilter_wait_detached(self.flt.get()) };
    }

    /// # Safety
    ///
    /// `flt` must be the `flt` of an `Attached<F>` within an `Arc` of which the C side has a reference
    /// for `'a`.
    unsafe fn borrow<'a>(flt: *mut bindings::blkfilter) -> ArcBorrow<'a, Self> {
        // SAFETY: By the safety requirements `flt` is within an `Attached<F>`, and that within an
        // `Arc` with a reference for `'a`.
        unsafe { ArcBorrow::from_raw(crate::container_of!(Opaque::cast_from(flt), Self, flt)) }
    }
}

#[pinned_drop]
impl<F: Filter> PinnedDrop for Attached<F> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised by the type invariants. The C side owned a reference while the filter
        // was attached, so it is not.
        unsafe { bindings::blkfilter_release(self.flt.get()) };
    }
}

/// A filter that will be frozen soon, or has just been.
///
/// # Invariants
///
/// `blkfilter_freeze_prepare()` was called, and its `blkfilter_freeze_finish()` is to come.
pub struct Prepared<F: Filter>(Arc<Attached<F>>);

impl<F: Filter> Drop for Prepared<F> {
    fn drop(&mut self) {
        // SAFETY: Initialised by the type invariants of `Attached`, and the device stays for as long
        // as `bdev`. By our own invariants this is due.
        unsafe { bindings::blkfilter_freeze_finish(self.0.flt.get()) };
    }
}

/// A filter that is about to be frozen. Thaws it when dropped.
///
/// # Invariants
///
/// The freeze of the filter was started by the owner, and is to be undone by it.
pub struct Freezing<F: Filter>(Arc<Attached<F>>);

impl<F: Filter> Freezing<F> {
    /// Waits until nobody is inside the filter, and what has passed has been handed to the device's
    /// queue, or completed if it has none.
    ///
    /// # Errors
    ///
    /// [`ETIMEDOUT`] if that takes too long. It may be waiting for another filter that is frozen.
    pub fn wait(self) -> Result<Frozen<F>> {
        // SAFETY: Initialised by the type invariants of `Attached`, and the freeze is ours.
        to_result(unsafe { bindings::blkfilter_freeze_wait(self.0.flt.get()) })?;
        // INVARIANT: Waited for.
        Ok(Frozen(self))
    }

    /// Waits until nobody is inside the filter. What has passed may be under way still.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_for_submitters(self) -> Result<Frozen<F>> {
        // SAFETY: As in `wait()`.
        to_result(unsafe { bindings::blkfilter_freeze_wait_submitters(self.0.flt.get()) })?;
        // INVARIANT: Waited for.
        Ok(Frozen(self))
    }
}

impl<F: Filter> Drop for Freezing<F> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the freeze is ours to undo.
        unsafe { bindings::blkfilter_unfreeze(self.0.flt.get()) };
    }
}

/// A frozen filter. Thaws it when dropped.
///
/// # Invariants
///
/// Nobody is inside the filter.
pub struct Frozen<F: Filter>(Freezing<F>);

impl<F: Filter> Frozen<F> {
    /// The state, to be changed.
    pub fn state(&mut self) -> &mut F::State {
        // SAFETY: By the type invariants no submitter reads the state, and there is no other
        // `Frozen` for the same filter. `&mut self` makes the borrow exclusive.
        unsafe { &mut *self.0 .0.state.get() }
    }

    /// Whether the filter is off its device. If not, [`Filter::detach`] is still to come.
    pub fn is_detached(&self) -> bool {
        // SAFETY: Initialised by the type invariants of `Attached`.
        unsafe { bindings::blkfilter_is_detached(self.0 .0.flt.get()) }
    }
}

/// Waits for the requests that a device is working on. What its filter has let through before it was
/// frozen has been completed then.
///
/// # Errors
///
/// [`ETIMEDOUT`] if that takes too long.
pub fn drain(bdev: &BlockDevice) -> Result {
    // SAFETY: By the type invariants the device is valid.
    to_result(unsafe { bindings::blkfilter_drain(bdev.as_raw()) })
}

/// The registration of a filter driver.
///
/// # Invariants
///
/// `ops` is registered.
#[pin_data(PinnedDrop)]
pub struct Registration<F: Filter> {
    #[pin]
    ops: Opaque<bindings::blkfilter_operations>,
    context: F::Context,
}

// SAFETY: A registration may be undone from any thread, and the context is `Send`.
unsafe impl<F: Filter> Send for Registration<F> {}

// SAFETY: `&Registration` gives access to the context, which is `Sync`, and to nothing else.
unsafe impl<F: Filter> Sync for Registration<F> {}

impl<F: Filter> Registration<F> {
    /// Makes the driver known. Every filter that it attaches gets the context.
    pub fn new(context: F::Context) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // May be needed as soon as the driver is known.
            context,
            ops <- Opaque::try_ffi_init(|ops: *mut bindings::blkfilter_operations| {
                // SAFETY: `ops` is valid for writes.
                unsafe { ops.write(Self::operations()) };
                // INVARIANT: Registered if this succeeds.
                // SAFETY: `ops` is pinned, and unregistered before it goes.
                to_result(unsafe { bindings::blkfilter_register(ops) })
            }),
        })
    }

    fn operations() -> bindings::blkfilter_operations {
        bindings::blkfilter_operations {
            name: F::NAME.as_char_ptr(),
            owner: crate::module::this_module::<F::OwnerModule>().as_ptr(),
            attach: Some(Self::attach),
            may_detach: Some(Self::may_detach),
            gone: Some(Self::gone),
            detach: Some(Self::detach),
            ctl: Some(Self::ctl),
            get: Some(Self::get),
            put: Some(Self::put),
            submit_bio: Some(Self::submit_bio),
            ..pin_init::zeroed()
        }
    }

    /// # Safety
    ///
    /// `ops` must be what `new()` has registered, and `bdev` stay for the call.
    unsafe extern "C" fn attach(
        ops: *mut bindings::blkfilter_operations,
        bdev: *mut bindings::block_device,
    ) -> *mut bindings::blkfilter {
        // SAFETY: By the safety requirements the operations are within a registration, which is
        // initialised up to them.
        let context = unsafe {
            let this: *const Self = crate::container_of!(Opaque::cast_from(ops), Self, ops);
            &(*this).context
        };
        // SAFETY: By the safety requirements.
        let bdev = unsafe { BlockDevice::from_raw(bdev) };
        let attached = F::attach(context, bdev)
            .and_then(|(f, state)| Arc::pin_init(Attached::new(bdev.into(), f, state), GFP_KERNEL));
        match attached {
            // SAFETY: The pointer is to an `Attached`, whose reference goes to the C side.
            Ok(attached) => unsafe { (*Arc::into_raw(attached)).flt.get() },
            Err(e) => e.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// `flt` must be attached, and stay for the call.
    unsafe extern "C" fn may_detach(flt: *mut bindings::blkfilter) -> c_int {
        // SAFETY: The C side gives what `attach()` gave it, and owns it for the call.
        let this = unsafe { Attached::borrow(flt) };
        from_result(|| F::may_detach(this).map(|()| 0))
    }

    /// # Safety
    ///
    /// `flt` must be attached, and stay for the call.
    unsafe extern "C" fn gone(flt: *mut bindings::blkfilter) {
        // SAFETY: The C side gives what `attach()` gave it, and owns it for the call.
        F::gone(unsafe { Attached::borrow(flt) });
    }

    /// # Safety
    ///
    /// `flt` must be what `attach()` has returned, with the reference that came with it.
    unsafe extern "C" fn detach(flt: *mut bindings::blkfilter) {
        // SAFETY: The C side gives back what `attach()` gave it, together with its reference.
        let this = unsafe {
            Arc::from_raw(crate::container_of!(
                Opaque::cast_from(flt),
                Attached<F>,
                flt
            ))
        };
        F::detach(this);
    }

    /// # Safety
    ///
    /// `flt` must be attached, and stay for the call.
    unsafe extern "C" fn get(flt: *mut bindings::blkfilter) {
        // SAFETY: The C side gives what `attach()` gave it, and owns it for the call.
        let this: Arc<_> = unsafe { Attached::<F>::borrow(flt) }.into();
        // Until `put()`.
        let _ = Arc::into_raw(this);
    }

    /// # Safety
    ///
    /// `flt` must have been given to `get()`, once for each call.
    unsafe extern "C" fn put(flt: *mut bindings::blkfilter) {
        // SAFETY: The reference is that of a `get()`.
        drop(unsafe {
            Arc::from_raw(crate::container_of!(
                Opaque::cast_from(flt),
                Attached<F>,
                flt
            ))
        });
    }

    /// # Safety
    ///
    /// `flt` must have been given to `get()`, and to no `put()` during the call, for which `len` must
    /// be valid.
    unsafe extern "C" fn ctl(
        flt: *mut bindings::blkfilter,
        cmd: c_uint,
        buf: *mut c_void,
        len: *mut u32,
    ) -> c_int {
        // SAFETY: The C side has a reference from `get()` for the call.
        let this = unsafe { Attached::borrow(flt) };
        // SAFETY: `len` is valid for the call.
        let len = unsafe { &mut *len };
        from_result(|| {
            let arg = UserSlice::new(UserPtr::from_ptr(buf), *len as usize);
            let answer = F::ctl(this, cmd, arg, *len as usize)?;
            *len = answer.len.try_into()?;
            Ok(answer.value.try_into()?)
        })
    }

    /// # Safety
    ///
    /// `flt` must be attached and its reference be held for the call, and `bio` have been submitted
    /// and be given to the callee.
    unsafe extern "C" fn submit_bio(
        flt: *mut bindings::blkfilter,
        bio: *mut bindings::bio,
    ) -> bool {
        // SAFETY: The C side gives what `attach()` gave it, and owns it for the call.
        let this = unsafe { Attached::<F>::borrow(flt) };
        // SAFETY: The C side holds a reference of `flt`, so by the type invariants nobody writes.
        let state = unsafe { &*this.state.get() };
        // SAFETY: The bio is given to us, and given back below if it is to pass.
        match F::submit_bio(&this, state, unsafe { Bio::from_raw(bio) }) {
            Some(back) => {
                let back = back.into_raw();
                if back == bio {
                    return true;
                }
                // SAFETY: A bio that the filter has taken over before, and gives back.
                unsafe { bindings::blkfilter_resubmit_bio(back) };
                false
            }
            None => false,
        }
    }
}

#[pinned_drop]
impl<F: Filter> PinnedDrop for Registration<F> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by the type invariants. What is attached still is detached by this, and
        // commands that run are waited for, so that nobody uses `ops` afterwards.
        unsafe { bindings::blkfilter_unregister(self.ops.get()) };
    }
}
