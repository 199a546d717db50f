//! Queues by name: an atom leads to the core's queue without a lock, a resource or a process.
//!
//! Everything here is static and is never unloaded (the library is linked with `-z nodelete`), so queues survive every BEAM
//! process and the purge of the Elixir module.

use crate::custody::Owner;
use crate::durable::{self, Durable};
use crate::settings::SettingsTerm;
use crate::spread::spread;
use crate::vm::{self, Word};
use crate::{atoms, wake};
use parking_lot::Mutex;
use payment_queue_core::{MAX_QUEUES, Queue, Registry, Settings};
use rustler::{Atom, Encoder, Env, NifResult, Term};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

static REGISTRY: LazyLock<Registry<Owner>> = LazyLock::new(|| Registry::new(wake::from_thread));

/// Twice as many places as queues, so that a search ends soon.
const PLACES: usize = 2 * MAX_QUEUES;

/// Open addressing: a place holds the atom (its word; 0 when free) and the index of its queue, with [`DURABLE`] if its items are
/// on disk. A name, once there, stays. The index is written before the name is published.
struct Place {
    name: AtomicU64,
    index: AtomicUsize,
}

static NAMES: [Place; PLACES] = [const { Place { name: AtomicU64::new(0), index: AtomicUsize::new(0) } }; PLACES];

/// Beside an index, so that enqueueing learns it by the look that finds the queue.
const DURABLE: usize = 1 << 31;

/// In the order in which they were named. Its lock serialises the making of queues.
static MADE: Mutex<Vec<Atom>> = Mutex::new(Vec::new());

fn places(name: u64) -> impl Iterator<Item = &'static Place> {
    let start = spread(name, PLACES.ilog2());
    (0..PLACES).map(move |step| &NAMES[(start + step) % PLACES])
}

/// The queue of this name. A term that is no atom is no queue's name: atom words are unlike those of all other terms.
pub(crate) fn find(name: Term) -> Option<&'static Queue<Owner>> {
    find_word(Word::of(name)).map(|(queue, _)| queue)
}

/// The queue, and what it has if it is durable.
#[inline]
pub(crate) fn find_word(name: Word) -> Option<(&'static Queue<Owner>, Option<&'static Durable>)> {
    let word = name.bits();
    for place in places(word) {
        match place.name.load(Ordering::Acquire) {
            0 => return None,
            found if found == word => {
                let index = place.index.load(Ordering::Relaxed);
                let queue = at((index & !DURABLE) as u32)?;
                let durable = if index & DURABLE == 0 { None } else { durable::of(queue.index()) };
                return Some((queue, durable));
            }
            _ => {}
        }
    }
    None
}

/// The queue at an index, as a lease names it.
pub(crate) fn at(index: u32) -> Option<&'static Queue<Owner>> {
    REGISTRY.get(index)
}

pub(crate) fn unavailable(env: Env) -> Term {
    unavailable_word(env).term(env)
}

pub(crate) fn unavailable_word(env: Env) -> Word {
    vm::error(env, atoms::queue_unavailable())
}

/// A queue that nobody can find yet. `None`: there are too many.
pub(crate) fn make(wanted: Settings) -> Option<&'static Queue<Owner>> {
    REGISTRY.create(wanted).ok()
}

/// Lets a durable queue be found by its name. `false`: there is no place for it.
pub(crate) fn name(name: Atom, queue: &Queue<Owner>) -> bool {
    publish(&mut MADE.lock(), name, queue.index() as usize | DURABLE)
}

fn publish(made: &mut Vec<Atom>, name: Atom, index: usize) -> bool {
    let word = Word::atom(name).bits();
    let Some(place) = places(word).find(|place| place.name.load(Ordering::Relaxed) == 0) else { return false };
    place.index.store(index, Ordering::Relaxed);
    place.name.store(word, Ordering::Release);
    made.push(name);
    true
}

// Dirty: the first one starts the background thread and calibrates the clock.
#[rustler::nif(schedule = "DirtyCpu")]
fn open<'a>(env: Env<'a>, name: Atom, wanted: SettingsTerm) -> Term<'a> {
    let wanted = wanted.into();
    let mut made = MADE.lock();
    if let Some((queue, durable)) = find_word(Word::atom(name)) {
        drop(made);
        if durable.is_some() {
            return (atoms::error(), atoms::durability()).encode(env);
        }
        wake::from_process(env, queue.index(), queue.configure(wanted));
        queue.reopen();
        return atoms::found().encode(env);
    }
    // There are more places than queues.
    match make(wanted) {
        Some(queue) if publish(&mut made, name, queue.index() as usize) => atoms::created().encode(env),
        _ => (atoms::error(), atoms::too_many_queues()).encode(env),
    }
}

#[rustler::nif]
fn configure<'a>(env: Env<'a>, name: Term<'a>, wanted: SettingsTerm) -> Term<'a> {
    let Some(queue) = find(name) else { return unavailable(env) };
    wake::from_process(env, queue.index(), queue.configure(wanted.into()));
    atoms::ok().encode(env)
}

#[rustler::nif(name = "settings")]
fn read_settings<'a>(env: Env<'a>, name: Term<'a>) -> Term<'a> {
    let Some(queue) = find(name) else { return unavailable(env) };
    SettingsTerm::from(queue.settings()).encode(env)
}

#[rustler::nif(name = "queues")]
fn all() -> NifResult<Vec<Atom>> {
    Ok(MADE.lock().clone())
}
