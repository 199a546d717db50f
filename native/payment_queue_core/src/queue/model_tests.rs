//! Random programs of all operations, run on a queue and on the [`model`] side by side: after each step both must tell the
//! same, to the byte.

mod model;
mod run;

use crate::Settings;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

/// One step of time, far longer than a test.
const STEP_MS: u64 = 1_000_000;

/// Choices by number mean "that one, modulo how many there are". `Pass` is time that passes while the background thread is late.
#[derive(Clone, Debug)]
enum Op {
    Enqueue { len: usize, format: u8, delay: u64 },
    EnqueueWith { len: usize, delay: u64, key: Option<u8>, partition: Option<u8>, priority: u8 },
    EnqueueMany { lens: Vec<usize>, format: u8 },
    Register,
    Down { who: Who, reason: u8 },
    Take { who: Who },
    TakeMany { who: Who, max_items: usize, max_bytes: usize },
    SettleAndTake { lease: Pick, who: Who },
    Dequeue,
    Fetch { lease: Pick },
    Ack { lease: Pick },
    AckMany { leases: Vec<Pick> },
    Nack { lease: Pick, delay: u64, reason: u8 },
    Release { lease: Pick, delay: u64 },
    Reject { lease: Pick, reason: u8 },
    Expire { lease: Pick, delay: u64, reason: u8 },
    Park { who: Who },
    Unpark { token: usize },
    Pause,
    Resume,
    Close,
    Reopen,
    Configure(Settings),
    Purge { max: usize },
    RequeueDead { max: usize },
    Promote { delay: u64 },
    Pass { delay: u64 },
    RunJob,
    Peek { n: usize },
    DeadLetters { n: usize },
    AwaitIdle,
    CancelAwait { token: usize },
}

/// A consumer: mostly one that is there, under its own name.
#[derive(Clone, Copy, Debug)]
enum Who {
    Registered(usize),
    /// Its place with another owner's name.
    Impostor(usize),
    /// A place that nobody has.
    Nobody,
}

/// A lease: mostly one that is live.
#[derive(Clone, Copy, Debug)]
enum Pick {
    Live(usize),
    /// Any that was ever given out.
    Given(usize),
    /// One given out, with something added to each of its fields.
    Forged(usize, u32, u32, u64),
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => prop::sample::select(vec![0, 1, 7, 8, 9, 2047, 2048, 2049, 5000]),
        2 => 0..300_usize,
    ]
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        30 => any::<usize>().prop_map(Who::Registered),
        1 => any::<usize>().prop_map(Who::Impostor),
        1 => Just(Who::Nobody),
    ]
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        12 => any::<usize>().prop_map(Pick::Live),
        2 => any::<usize>().prop_map(Pick::Given),
        1 => (any::<usize>(), 0..3_u32, 0..3_u32, 0..3_u64).prop_map(|(n, c, s, g)| Pick::Forged(n, c, s, g)),
    ]
}

/// In steps that are far longer than a test; 0 is none.
fn delay() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 2 => 1..=3_u64]
}

fn of_few(n: u8) -> impl Strategy<Value = Option<u8>> {
    prop_oneof![Just(None), (0..n).prop_map(Some)]
}

fn settings() -> impl Strategy<Value = Settings> {
    let capacity = prop::sample::select(vec![0, 1, 3, 10, 10_000]);
    let max_bytes = prop::sample::select(vec![0, 100, 5000, 20_000, 256 << 20]);
    let max_payload_bytes = prop::sample::select(vec![2048, 4999, 5000, 1 << 20]);
    let max_attempts = prop::sample::select(vec![0, 1, 2, 3, 20]);
    let max_dead = prop::sample::select(vec![0, 1, 2, 5, 1000]);
    let rate_limit = prop_oneof![2 => Just(None), 1 => rate_limit().prop_map(Some)];
    let bounds = (capacity, max_bytes, max_payload_bytes, max_attempts, max_dead);
    (bounds, rate_limit, unique_for(), 1..=4_u8).prop_map(|(bounds, rate_limit, unique_for_ms, priorities)| {
        let (capacity, max_bytes, max_payload_bytes, max_attempts, max_dead) = bounds;
        Settings {
            capacity,
            max_bytes,
            max_payload_bytes,
            max_attempts,
            max_dead,
            rate_limit,
            unique_for_ms,
            priorities,
        }
    })
}

fn unique_for() -> impl Strategy<Value = Option<u64>> {
    prop::sample::select(vec![None, Some(0), Some(STEP_MS), Some(2 * STEP_MS)])
}

fn rate_limit() -> impl Strategy<Value = crate::RateLimit> {
    (1..8_u32, 1..4_u32)
        .prop_map(|(deliveries, steps)| crate::RateLimit { deliveries, window_ms: steps * STEP_MS as u32 })
}

fn op() -> impl Strategy<Value = Op> {
    let format = || 0..32_u8;
    let reason = || any::<u8>();
    let n = || prop_oneof![4 => 0..4_usize, 1 => Just(usize::MAX)];
    let coming = prop_oneof![
        8 => (len(), format(), Just(0)).prop_map(|(len, format, delay)| Op::Enqueue { len, format, delay }),
        4 => (len(), format(), delay()).prop_map(|(len, format, delay)| Op::Enqueue { len, format, delay }),
        12 => (len(), delay(), of_few(4), of_few(3), 0..4_u8).prop_map(|(len, delay, key, partition, priority)| {
            Op::EnqueueWith { len, delay, key, partition, priority }
        }),
        3 => (vec(len(), 0..60), format()).prop_map(|(lens, format)| Op::EnqueueMany { lens, format }),
        3 => n().prop_map(|max| Op::RequeueDead { max }),
        3 => delay().prop_map(|delay| Op::Promote { delay }),
        1 => delay().prop_map(|delay| Op::Pass { delay }),
    ];
    let going = prop_oneof![
        6 => who().prop_map(|who| Op::Take { who }),
        3 => (who(), 0..80_usize, prop_oneof![Just(0), Just(3000), Just(usize::MAX)])
            .prop_map(|(who, max_items, max_bytes)| Op::TakeMany { who, max_items, max_bytes }),
        4 => (pick(), who()).prop_map(|(lease, who)| Op::SettleAndTake { lease, who }),
        2 => Just(Op::Dequeue),
        4 => who().prop_map(|who| Op::Park { who }),
        2 => any::<usize>().prop_map(|token| Op::Unpark { token }),
        1 => n().prop_map(|max| Op::Purge { max }),
    ];
    let ending = prop_oneof![
        5 => pick().prop_map(|lease| Op::Ack { lease }),
        3 => vec(pick(), 0..20).prop_map(|leases| Op::AckMany { leases }),
        5 => (pick(), delay(), reason()).prop_map(|(lease, delay, reason)| Op::Nack { lease, delay, reason }),
        2 => (pick(), delay()).prop_map(|(lease, delay)| Op::Release { lease, delay }),
        2 => (pick(), reason()).prop_map(|(lease, reason)| Op::Reject { lease, reason }),
        2 => (pick(), delay(), reason()).prop_map(|(lease, delay, reason)| Op::Expire { lease, delay, reason }),
        1 => pick().prop_map(|lease| Op::Fetch { lease }),
    ];
    let owners = prop_oneof![
        3 => Just(Op::Register),
        3 => (who(), reason()).prop_map(|(who, reason)| Op::Down { who, reason }),
        2 => Just(Op::RunJob),
    ];
    let operating = prop_oneof![
        1 => Just(Op::Pause),
        3 => Just(Op::Resume),
        1 => Just(Op::Close),
        3 => Just(Op::Reopen),
        2 => settings().prop_map(Op::Configure),
        1 => n().prop_map(|n| Op::Peek { n }),
        1 => n().prop_map(|n| Op::DeadLetters { n }),
        2 => Just(Op::AwaitIdle),
        1 => any::<usize>().prop_map(|token| Op::CancelAwait { token }),
    ];
    prop_oneof![22 => coming, 22 => going, 20 => ending, 8 => owners, 8 => operating]
}

/// For a queue that is empty most of the time, where takers wait for each other: of few partitions, and more of them park than
/// there are items.
fn scarce_op() -> impl Strategy<Value = Op> {
    let coming =
        (0..9_usize, delay(), of_few(4), of_few(2), 0..2_u8).prop_map(|(len, delay, key, partition, priority)| {
            Op::EnqueueWith { len, delay: delay / 3, key, partition, priority }
        });
    let parking = prop_oneof![8 => who().prop_map(|who| Op::Park { who }), 1 => any::<usize>().prop_map(|token| Op::Unpark { token })];
    let taking = prop_oneof![
        2 => who().prop_map(|who| Op::Take { who }),
        1 => who().prop_map(|who| Op::TakeMany { who, max_items: 3, max_bytes: usize::MAX }),
        2 => (pick(), who()).prop_map(|(lease, who)| Op::SettleAndTake { lease, who }),
        1 => Just(Op::Dequeue),
    ];
    let ending = prop_oneof![
        4 => pick().prop_map(|lease| Op::Ack { lease }),
        2 => vec(pick(), 0..4).prop_map(|leases| Op::AckMany { leases }),
        2 => (pick(), delay()).prop_map(|(lease, delay)| Op::Nack { lease, delay, reason: 1 }),
        1 => (pick(), delay()).prop_map(|(lease, delay)| Op::Release { lease, delay }),
        2 => pick().prop_map(|lease| Op::Reject { lease, reason: 2 }),
        1 => pick().prop_map(|lease| Op::Expire { lease, delay: 0, reason: 3 }),
    ];
    let others = prop_oneof![
        3 => Just(Op::Register),
        3 => who().prop_map(|who| Op::Down { who, reason: 4 }),
        3 => Just(Op::RunJob),
        3 => delay().prop_map(|delay| Op::Promote { delay }),
        1 => delay().prop_map(|delay| Op::Pass { delay }),
        2 => (0..3_usize).prop_map(|max| Op::RequeueDead { max }),
        2 => (0..3_usize).prop_map(|max| Op::Purge { max }),
        1 => Just(Op::Pause),
        3 => Just(Op::Resume),
        1 => settings().prop_map(Op::Configure),
        1 => Just(Op::AwaitIdle),
    ];
    prop_oneof![5 => coming, 5 => parking, 2 => taking, 5 => ending, 4 => others]
}

/// The same programs each time, unless `PROPTEST_RNG_SEED` or `PROPTEST_CASES` ask for others.
fn config() -> Config {
    let asked = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() {
        asked.cases
    } else if cfg!(miri) {
        2
    } else {
        2000
    };
    let rng_seed = match asked.rng_seed {
        RngSeed::Random => RngSeed::Fixed(20_231_107),
        fixed => fixed,
    };
    Config { cases, rng_seed, failure_persistence: None, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_queue_does_what_the_model_does(settings in settings(), roomy in any::<bool>(), program in vec(op(), 1..150)) {
        // Half of the programs start with room for much, so that long queues and large estates occur.
        let Settings { unique_for_ms, priorities, .. } = settings;
        let settings = if roomy { Settings { unique_for_ms, priorities, ..Settings::default() } } else { settings };
        run::Run::new(settings).follow(program);
    }

    #[test]
    fn a_queue_where_takers_wait_does_what_the_model_does(unique_for_ms in unique_for(), program in vec(scarce_op(), 1..150)) {
        let settings = Settings { unique_for_ms, priorities: 2, max_attempts: 3, ..Settings::default() };
        let takers = [const { Op::Register }; 4];
        run::Run::new(settings).follow(takers.into_iter().chain(program));
    }
}
