//! The single operations: each on the queue, on the model, and the two results compared.

use super::{Held, Item, Op, Run, STEP_MS};
use crate::queue::{Outcome, Park, Take, Wakes};

impl Run {
    pub(super) fn step_taking(&mut self, op: Op) {
        let mut buffer = b"rubbish".to_vec();
        match op {
            Op::Take { who } => {
                let (place, owner) = self.consumer(who);
                let take = self.queue.take(place, &owner, &mut buffer);
                self.took(place, owner, take, &buffer);
            }
            Op::TakeMany { who, max_items, max_bytes } => {
                let (place, owner) = self.consumer(who);
                let batch = self.queue.take_many(place, &owner, max_items, max_bytes, &mut buffer);
                assert_eq!(batch.is_some(), self.model.consumers.get(&place) == Some(&owner));
                let Some(batch) = batch else { return };
                let items = batch.items.len();
                for (delivery, range) in batch.items {
                    assert!(range.start <= max_bytes);
                    let buffer = &buffer[range];
                    self.took(place, owner, Take::Delivery(delivery), buffer);
                }
                let stopped = items == max_items || buffer.len() > max_bytes;
                assert!(stopped || self.may_find_none(), "it stopped too early");
            }
            Op::SettleAndTake { lease, who } => {
                let lease = self.lease(lease);
                let (_, owner) = self.consumer(who);
                let result = self.queue.settle_and_take(lease, &owner, &mut buffer);
                assert_eq!(result.is_ok(), self.settle(lease));
                if let Ok((take, wakes)) = result {
                    self.took(lease.consumer, owner, take, &buffer);
                    self.told(wakes);
                }
            }
            _ => {
                let delivery = self.queue.dequeue(&mut buffer);
                assert!(delivery.is_some() || self.may_find_none());
                if let Some((delivery, wakes)) = delivery {
                    let item = self.model.take().expect("the model has nothing to take");
                    self.assert_delivered(&delivery, &buffer, &item);
                    assert!(self.queue.ack(delivery.lease).is_err());
                    self.model.let_go(&item, true);
                    self.model.settled += 1;
                    self.told(wakes);
                }
            }
        }
    }

    pub(super) fn step_parking(&mut self, op: Op) {
        match op {
            Op::Park { who } => {
                let (place, owner) = self.consumer(who);
                if self.model.parked.iter().any(|(_, parked)| *parked == place) {
                    return;
                }
                let mut buffer = Vec::new();
                match self.queue.park(place, &owner, &mut buffer) {
                    Park::Delivery(delivery) => self.took(place, owner, Take::Delivery(delivery), &buffer),
                    Park::NotRegistered => self.took(place, owner, Take::NotRegistered, &buffer),
                    Park::Parked(token, wakes) => {
                        self.took(place, owner, Take::Empty, &buffer);
                        self.tokens[0].push(token);
                        self.model.parked.push_back((token, place));
                        self.told(wakes);
                    }
                }
            }
            Op::Unpark { token } => {
                let Some(&token) = self.tokens[0].get(token % self.tokens[0].len().max(1)) else { return };
                let before = self.model.parked.len();
                self.model.parked.retain(|(parked, _)| *parked != token);
                assert_eq!(self.queue.unpark(token), self.model.parked.len() < before);
            }
            _ => unreachable!("not a step of parking"),
        }
    }

    pub(super) fn step_ending(&mut self, op: Op) {
        match op {
            Op::Fetch { lease } => {
                let lease = self.lease(lease);
                let mut buffer = Vec::new();
                let fetched = self.queue.fetch(lease, &mut buffer);
                let held = self.model.leased.get(&lease);
                assert_eq!(fetched.is_ok(), held.is_some());
                if let (Ok(delivery), Some(held)) = (fetched, held) {
                    self.assert_delivered(&delivery, &buffer, &held.item);
                }
            }
            Op::Ack { lease } => {
                let lease = self.lease(lease);
                let result = self.queue.ack(lease);
                assert_eq!(result.is_ok(), self.settle(lease));
                self.told(result.unwrap_or_default());
            }
            Op::AckMany { leases } => {
                let leases: Vec<_> = leases.into_iter().map(|lease| self.lease(lease)).collect();
                let mut stale = Vec::new();
                let wakes = self.queue.ack_many(&leases, |position| stale.push(position));
                // One after the other: the same lease, a second time, is stale.
                let ended: Vec<_> = leases.iter().map(|lease| self.settle(*lease)).collect();
                let expected: Vec<_> = (0..ended.len()).filter(|&position| !ended[position]).collect();
                assert_eq!(stale, expected);
                self.told(wakes);
            }
            Op::Nack { lease, delay, reason } => {
                let lease = self.lease(lease);
                let result = self.queue.nack(lease, delay * STEP_MS, &[reason]);
                let held = self.end(lease);
                let died = held.map(|held| self.model.give_back(held.item, delay, &[reason]));
                let expected = died.map(|died| if died { Outcome::Dead } else { Outcome::Returned });
                let (outcome, wakes) = result.map_or_else(|e| (Err(e), Wakes::new()), |(o, w)| (Ok(o), w));
                assert_eq!(outcome, expected);
                self.told(wakes);
            }
            Op::Release { lease, delay } => {
                let lease = self.lease(lease);
                let result = self.queue.release(lease, delay * STEP_MS);
                let held = self.end(lease);
                assert_eq!(result.is_ok(), held.is_ok());
                if let Ok(Held { item, .. }) = held {
                    self.model.back_to_queue(Item { attempts: item.attempts - 1, ..item }, delay);
                }
                self.told(result.unwrap_or_default());
            }
            Op::Reject { lease, reason } => {
                let lease = self.lease(lease);
                let result = self.queue.reject(lease, &[reason]);
                let held = self.end(lease);
                assert_eq!(result.is_ok(), held.is_ok());
                if let Ok(held) = held {
                    self.model.bury(held.item, &[reason]);
                }
                self.told(result.unwrap_or_default());
            }
            Op::Expire { lease, delay, reason } => {
                let lease = self.lease(lease);
                let result = self.queue.expire(lease, delay * STEP_MS, &[reason]);
                let held = self.end(lease);
                assert_eq!(result.is_ok(), held.is_ok());
                self.model.expired.extend(held.map(|held| Held { will: Some((delay, vec![reason])), ..held }));
            }
            _ => unreachable!("not a step that ends a lease"),
        }
    }

    pub(super) fn step_operating(&mut self, op: Op) {
        match op {
            Op::Pause => {
                self.queue.pause();
                self.model.paused = true;
            }
            Op::Resume => {
                let wakes = self.queue.resume();
                self.model.paused = false;
                self.told(wakes);
            }
            Op::Close => {
                self.queue.close();
                self.model.closed = true;
            }
            Op::Reopen => {
                self.queue.reopen();
                self.model.closed = false;
            }
            Op::Configure(settings) => {
                let wakes = self.queue.configure(settings);
                self.model.configure(settings);
                self.told(wakes);
            }
            Op::Purge { max } => {
                let (purged, wakes) = self.queue.purge(max);
                assert_eq!(purged, self.model.purge(max));
                self.told(wakes);
            }
            Op::RequeueDead { max } => {
                let (moved, wakes) = self.queue.requeue_dead(max);
                assert_eq!(moved, self.model.requeue_dead(max));
                self.told(wakes);
            }
            Op::Promote { delay } => self.promote(delay),
            Op::Pass { delay } => self.pass(delay),
            Op::RunJob => self.run_job(),
            Op::Peek { n } => self.assert_peek(n),
            Op::DeadLetters { n } => {
                let seen = self.queue.dead_letters(n);
                let seen: Vec<_> = seen.iter().map(|d| (&d.payload, d.format, d.attempts, &d.reason)).collect();
                let dead = self.model.dead.iter().take(n);
                let expected: Vec<_> = dead.map(|(i, reason)| (&i.payload, i.format, i.attempts, reason)).collect();
                assert!(seen == expected, "dead letters differ");
            }
            Op::AwaitIdle => {
                let token = self.queue.await_idle(self.owners);
                assert_eq!(token.is_none(), self.model.is_idle());
                self.tokens[1].extend(token);
                self.model.watchers.extend(token.map(|token| (token, self.owners)));
            }
            Op::CancelAwait { token } => {
                let Some(&token) = self.tokens[1].get(token % self.tokens[1].len().max(1)) else { return };
                let before = self.model.watchers.len();
                self.model.watchers.retain(|(watching, _)| *watching != token);
                assert_eq!(self.queue.cancel_await(token), self.model.watchers.len() < before);
            }
            _ => unreachable!("not an operation"),
        }
    }
}
