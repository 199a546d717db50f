//! Taking through the gate: what a pause or a rate limit changes about it. A queue without either never comes here.

use super::next::{Next, PassBy, Pending};
use super::{LIMITED, Queue, Wakes};
use crate::limit::{Later, RateLimit};
use crate::sync::Ordering;
use crate::waiters::Waiter;

impl<T: Clone + PartialEq> Queue<T> {
    /// Hands over what a lower limit held back.
    pub(super) fn limit_rate(&self, limit: Option<RateLimit>) -> Wakes<T> {
        let gate = &self.limits.gate;
        let was_limited = self.limiter.set(limit, |limited| {
            if limited {
                gate.fetch_or(LIMITED, Ordering::SeqCst);
            } else {
                gate.fetch_and(!LIMITED, Ordering::SeqCst);
            }
        });
        if was_limited { self.hand_over() } else { Wakes::new() }
    }

    /// As [`try_pop`](Self::try_pop), for a taker of a queue whose gate was not open a moment ago.
    #[cold]
    #[inline(never)]
    pub(super) fn try_pop_at_gate(&self, payload: &mut Vec<u8>, pass_by: &mut PassBy) -> Result<Option<Next>, Pending> {
        if self.is_paused() {
            return Ok(None);
        }
        let passed = self.limiter.pass(|| self.try_pop(payload, pass_by), |popped| matches!(popped, Ok(Some(_))));
        // One who may not take finds nothing. If it parks, the attempt that follows sets the alarm.
        passed.unwrap_or(Ok(None))
    }

    /// The longest parked taker and an item for it. If there may be no delivery yet, an alarm is set for the time when there may be.
    pub(super) fn pair_if_allowed(&self, payload: &mut Vec<u8>, pass_by: &mut PassBy) -> Option<(u64, Waiter, Next)> {
        if self.limits.gate.load(Ordering::SeqCst) & LIMITED == 0 {
            return self.waiters.pair(|| self.pop(payload, pass_by));
        }
        let mut later = None;
        let pair = self.waiters.pair(|| match self.limiter.pass(|| self.pop(payload, pass_by), Option::is_some) {
            Ok(next) => next,
            Err(Later(due)) => {
                later = Some(due);
                None
            }
        });
        if let Some(due) = later {
            self.agenda.alarm(due, self.index);
        }
        pair
    }
}
