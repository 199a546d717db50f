//! The one runtime of all queues. Its threads sleep while nothing happens.

use std::future::Future;
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("payment_queue_nats")
        .enable_io()
        .enable_time()
        .build()
        // Without threads or epoll nothing else works in this process either.
        .expect("the runtime of the NATS queues")
});

pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    RUNTIME.spawn(future);
}

/// Waits on the calling thread, which must be none of the runtime's. For tests and benches.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}
