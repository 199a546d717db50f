//! The settings of a queue as a term: `t:PaymentQueue.Native.settings/0`.

use payment_queue_core::{RateLimit, Settings};
use rustler::NifTuple;

#[derive(NifTuple)]
pub(crate) struct SettingsTerm {
    capacity: u64,
    max_bytes: u64,
    max_payload_bytes: u64,
    max_attempts: u16,
    max_dead: u64,
    rate_limit: Option<(u32, u32)>,
    unique_for: Option<u64>,
    priorities: u8,
}

impl From<SettingsTerm> for Settings {
    fn from(term: SettingsTerm) -> Self {
        Self {
            capacity: term.capacity,
            max_bytes: term.max_bytes,
            max_payload_bytes: term.max_payload_bytes,
            max_attempts: term.max_attempts,
            max_dead: term.max_dead,
            rate_limit: term.rate_limit.map(|(deliveries, window_ms)| RateLimit { deliveries, window_ms }),
            unique_for_ms: term.unique_for,
            priorities: term.priorities,
        }
    }
}

impl From<Settings> for SettingsTerm {
    fn from(settings: Settings) -> Self {
        Self {
            capacity: settings.capacity,
            max_bytes: settings.max_bytes,
            max_payload_bytes: settings.max_payload_bytes,
            max_attempts: settings.max_attempts,
            max_dead: settings.max_dead,
            rate_limit: settings.rate_limit.map(|limit| (limit.deliveries, limit.window_ms)),
            unique_for: settings.unique_for_ms,
            priorities: settings.priorities,
        }
    }
}
