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
}

impl From<SettingsTerm> for Settings {
    fn from(term: SettingsTerm) -> Self {
        let SettingsTerm { capacity, max_bytes, max_payload_bytes, max_attempts, max_dead, rate_limit, unique_for } =
            term;
        let rate_limit = rate_limit.map(|(deliveries, window_ms)| RateLimit { deliveries, window_ms });
        Self { capacity, max_bytes, max_payload_bytes, max_attempts, max_dead, rate_limit, unique_for_ms: unique_for }
    }
}

impl From<Settings> for SettingsTerm {
    fn from(settings: Settings) -> Self {
        let Settings { capacity, max_bytes, max_payload_bytes, max_attempts, max_dead, rate_limit, unique_for_ms } =
            settings;
        let rate_limit = rate_limit.map(|limit| (limit.deliveries, limit.window_ms));
        Self { capacity, max_bytes, max_payload_bytes, max_attempts, max_dead, rate_limit, unique_for: unique_for_ms }
    }
}
