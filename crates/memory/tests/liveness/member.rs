//! A member of a group whose sleep can be seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use trunkline_core::{Broker, Delivery, SubscribeOptions, Subscription};
use trunkline_memory::MemoryBroker;

/// A member that remembers whether it was woken since it last found nothing.
pub(crate) struct Member {
    subscription: Box<dyn Subscription>,
    woken: Arc<Woken>,
    prefetch: usize,
    sleep: Sleep,
    pub(crate) out: Vec<Delivery>,
}

#[derive(Clone, Copy, PartialEq)]
enum Sleep {
    Awake,
    /// It found nothing, though it had room for more.
    Hungry,
    /// It had as much out as it may.
    Full,
}

#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Member {
    pub(crate) async fn new(broker: &MemoryBroker, options: SubscribeOptions) -> Self {
        let prefetch = options.prefetch;
        let subscription = broker.subscribe(options).await.unwrap();
        let (woken, out) = Default::default();
        Self { subscription, woken, prefetch, sleep: Sleep::Awake, out }
    }

    pub(crate) fn poll(&mut self, max: usize) -> Poll<trunkline_core::Result<bool>> {
        self.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        let polled = self.subscription.poll_deliveries(&mut cx, max, &mut self.out);
        self.sleep = match polled {
            Poll::Ready(_) => Sleep::Awake,
            Poll::Pending if self.out.len() < self.prefetch => Sleep::Hungry,
            Poll::Pending => Sleep::Full,
        };
        polled
    }

    /// Takes all it can get, and falls asleep.
    pub(crate) fn take_all(&mut self) {
        while self.poll(usize::MAX).is_ready() {}
    }

    /// Whether it waits to be woken, and is not.
    pub(crate) fn sleeps(&self) -> bool {
        self.sleep != Sleep::Awake && !self.woken.0.load(Ordering::SeqCst)
    }

    /// Whether it should have been woken if there is anything for it: it had room then, or has
    /// settled everything since.
    pub(crate) fn is_owed_a_wake(&self) -> bool {
        self.sleeps() && (self.sleep == Sleep::Hungry || self.out.is_empty())
    }
}
