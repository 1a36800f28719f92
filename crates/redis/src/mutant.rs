//! Promises that can be broken on purpose, so that a test can show that breaking them is noticed.

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(not(feature = "mutants"), expect(unreachable_pub, reason = "named by tests only"))]
pub enum Mutant {
    /// Events are acknowledged as they are read.
    AckOnRead,
    /// A publish trims its stream, whoever has not taken what goes.
    MaxlenTrim,
    /// Nothing checks the lease: not reads, not acknowledgements, and not the member itself.
    NoFence,
    /// A stale owner reads on, and nothing asks whether the partition is still its own; only what it
    /// settles is fenced.
    PlainReads,
    /// A new owner reads what is new before it takes over what is pending.
    NewBeforePending,
    /// Acknowledgements wait for a batch of 64, and a close throws away what is not on the server yet.
    NoFlush,
}
