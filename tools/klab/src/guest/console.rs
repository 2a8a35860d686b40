//! Complaints of a kernel in its console log.

/// Any of these in a line is a complaint. Case matters: `Warning:` is an ordinary message.
const COMPLAINTS: [&str; 30] = [
    "BUG:",
    "kernel BUG at",
    "WARNING:",
    "Oops",
    "Kernel panic",
    "general protection fault",
    "Kernel mode fault",
    "KASAN:",
    "KFENCE:",
    "KCSAN:",
    "UBSAN:",
    "kmemleak:",
    "possible recursive locking",
    "possible circular locking",
    "possible irq lock inversion",
    "possible deadlock",
    "inconsistent lock state",
    "Invalid wait context",
    "suspicious RCU usage",
    "sleeping function called",
    "held lock freed",
    "still has locks held",
    "lock held when returning to user space",
    "blocked for more than",
    "detected stall",
    "Assertion failed",
    "assertion failed",
    "refcount_t:",
    "rust_kernel: panicked",
    "Internal error",
];

/// Messages that hold such a word and are none.
const HARMLESS: [&str; 4] = [
    // Printed by lockdep itself when it is configured.
    "WARNING: lockdep is configured",
    // Tests of KUnit's own that fail on purpose are marked so.
    "KUnit: expected failure",
    // What finds leaks, when it begins.
    "kmemleak: Kernel memory leak detector initialized",
    "kmemleak: Automatic memory scanning thread started",
];

/// The lines of a console log that are complaints.
pub fn complaints(log: &str) -> Vec<String> {
    log.lines()
        .filter(|line| COMPLAINTS.iter().any(|word| line.contains(word)))
        .filter(|line| !HARMLESS.iter().any(|word| line.contains(word)))
        .map(|line| line.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::complaints;

    #[test]
    fn complaints_are_found() {
        let log = "[    1.0] all well\n\
            [    2.0] WARNING: CPU: 0 PID: 1 at fs/layout.c:10 f+0x1/0x2\n\
            [    2.5] WARNING: possible circular locking dependency detected\n\
            [    3.0] INFO: task writer:12 blocked for more than 60 seconds.\n\
            [    4.0] XFS: Assertion failed: x, file: fs/xfs/a.c, line: 1\n\
            [    5.0] rust_kernel: panicked at drivers/block/x.rs:1:1\n\
            [    6.0] kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)\n";
        assert_eq!(complaints(log).len(), 6);
    }

    #[test]
    fn ordinary_messages_are_none() {
        let log = "Warning: unable to open an initial console.\n\
            BUGFIX applied\nEXT4-fs (ubda): mounted filesystem\nexit debugging enabled\n\
            kmemleak: Kernel memory leak detector initialized (mem pool available: 1)\n";
        assert!(complaints(log).is_empty());
    }
}
