//! What this node did since the queue was opened here.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter),+ }

        /// What one node did since it opened the queue.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Done { $($(#[$doc])* pub $name: u64),+ }

        impl Counters {
            pub(crate) fn read(&self) -> Done {
                Done { $($name: self.$name.read()),+ }
            }
        }
    };
}

counters! {
    /// Items accepted, requeued dead letters not among them.
    enqueued,
    /// Items acknowledged.
    settled,
    /// Deliveries of an item that was delivered before.
    redelivered,
    /// Items refused for want of room.
    rejected_full,
    /// Items that became dead letters.
    dead,
    /// Dead letters put back into the queue.
    requeued,
    /// Items purged.
    purged,
    /// Publishes that the server had stored already when they were repeated.
    repeated,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
