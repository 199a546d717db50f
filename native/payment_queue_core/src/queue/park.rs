//! Parking: takers that wait for an item, and the matching of items with them.

use super::guard::Unserved;
use super::next::{Next, PassBy};
use super::take::{Delivery, Take};
use super::{Event, Queue, Wakes};
use crate::agenda::Job;
use crate::sync::{Ordering, fence};
use crate::waiters::Waiter;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What came of parking.
///
/// ```
/// # use payment_queue_core::{Park, Registry, Settings};
/// # let registry = Registry::new(|_, _: u8, _| {});
/// let queue = registry.create(Settings::default()).unwrap();
/// let me = queue.register(1);
/// queue.enqueue(b"a", 0).unwrap();
/// assert!(matches!(queue.park(me, &1, &mut Vec::new()), Park::Delivery(_)));
/// assert!(matches!(queue.park(me, &1, &mut Vec::new()), Park::Parked(..)));
/// ```
#[derive(Clone, Debug)]
pub enum Park<T> {
    /// There was an item; nobody is parked.
    Delivery(Delivery),
    /// Parked. [`Event::Delivered`] with this token will come, maybe among these wakes already.
    Parked(u64, Wakes<T>),
    /// The place is not this owner's.
    NotRegistered,
}

impl<T: Clone + PartialEq> Queue<T> {
    /// Takes, or parks `owner` until an item is there. One who is parked must not park again before the event or
    /// [`unpark`](Self::unpark).
    ///
    /// ```
    /// # use payment_queue_core::{Event, Park, Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// let Park::Parked(..) = queue.park(me, &1, &mut Vec::new()) else { panic!() };
    /// let wakes = queue.enqueue(b"a", 0).unwrap();
    /// let [(1, Event::Delivered { lease, .. })] = wakes[..] else { panic!() };
    /// let mut payload = Vec::new();
    /// queue.fetch(lease, &mut payload).unwrap();
    /// assert_eq!(payload, b"a");
    /// ```
    pub fn park(&self, consumer: u32, owner: &T, payload: &mut Vec<u8>) -> Park<T> {
        match self.take(consumer, owner, payload) {
            Take::Delivery(delivery) => return Park::Delivery(delivery),
            Take::NotRegistered => return Park::NotRegistered,
            Take::Empty => {}
        }
        let Some(place) = self.consumers.get(consumer) else { return Park::NotRegistered };
        let token = self.waiters.new_token();
        {
            // Under the consumer's lock, so that a death that comes now finds the token and takes it back out.
            let mut state = place.lock();
            if state.owner.as_ref() != Some(owner) {
                return Park::NotRegistered;
            }
            state.parked = Some(token);
            let waiter = Waiter { consumer, epoch: state.epoch };
            self.waiters.insert(token, waiter);
        }
        Park::Parked(token, self.hand_over())
    }

    /// Stops waiting. `false`: too late, the item is leased and the event sent or about to be.
    ///
    /// ```
    /// # use payment_queue_core::{Park, Registry, Settings};
    /// # let registry = Registry::new(|_, _: u8, _| {});
    /// let queue = registry.create(Settings::default()).unwrap();
    /// let me = queue.register(1);
    /// let Park::Parked(token, _) = queue.park(me, &1, &mut Vec::new()) else { panic!() };
    /// assert!(queue.unpark(token));
    /// assert!(queue.enqueue(b"a", 0).unwrap().is_empty());
    /// ```
    pub fn unpark(&self, token: u64) -> bool {
        self.waiters.remove(token)
    }

    /// Matches parked takers with ready items, after either was added: one item, one taker, both oldest first.
    pub(super) fn hand_over(&self) -> Wakes<T> {
        // Pairs with the same fence of the other side (see `waiters`).
        fence(Ordering::SeqCst);
        if self.waiters.count() == 0 {
            return Wakes::new();
        }
        self.match_parked()
    }

    fn match_parked(&self) -> Wakes<T> {
        /// Wakes of one call; a longer crowd is left to the background thread.
        const SLICE: usize = 64;
        let mut wakes = Wakes::new();
        let mut payload = Vec::new();
        let mut pass_by = PassBy::new();
        while !self.is_paused() {
            if wakes.len() == SLICE {
                self.agenda.job(Job::HandOver { queue: self.index });
                break;
            }
            // A panic must not take along those who are to be told already, nor look like one of the call that came here: its
            // own part is done. The guards have left the rest to the background thread.
            let handed = catch_unwind(AssertUnwindSafe(|| {
                // A pending record is its producer's to hand over: it comes here itself once it has published.
                let (token, waiter, next) = self.pair_if_allowed(&mut payload, &mut pass_by)?;
                Some(self.deliver(token, waiter, next, &payload))
            }));
            let Ok(Some(event)) = handed else { break };
            wakes.extend(event);
        }
        wakes
    }

    fn deliver(&self, token: u64, waiter: Waiter, next: Next, payload: &[u8]) -> Option<(T, Event)> {
        let place = self.consumers.get(waiter.consumer);
        let mut state = place.map(|place| place.lock()).filter(|state| state.epoch == waiter.epoch);
        if let Some(state) = &mut state
            && let Some(owner) = state.owner.clone()
        {
            let unserved = Unserved::new(self, token, waiter);
            let delivery = self.lease(waiter.consumer, state, next, payload, self.counters.mine());
            unserved.keep();
            state.parked = None;
            let event = Event::Delivered { token, lease: delivery.lease, attempts: delivery.attempts };
            return Some((owner, event));
        }
        // It died between the two locks. The item has not been in its hands: no attempt is used.
        drop(state);
        self.front.push(next.to_item(payload));
        None
    }
}
