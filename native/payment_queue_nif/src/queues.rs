//! Queues by name: an atom leads to the core's queue without a lock, a resource or a process.
//!
//! Everything here is static and is never unloaded (the library is linked with `-z nodelete`), so queues survive every BEAM
//! process and the purge of the Elixir module.

use crate::custody::Owner;
use crate::settings::SettingsTerm;
use crate::spread::spread;
use crate::vm::{self, Word};
use crate::{atoms, wake};
use parking_lot::Mutex;
use payment_queue_core::{MAX_QUEUES, Queue, Registry};
use rustler::{Atom, Encoder, Env, NifResult, Term};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

static REGISTRY: LazyLock<Registry<Owner>> = LazyLock::new(|| Registry::new(wake::from_thread));

/// Twice as many places as queues, so that a search ends soon.
const PLACES: usize = 2 * MAX_QUEUES;

/// Open addressing: a place holds the atom (its word; 0 when free) and the index of its queue. A name, once there, stays. The
/// index is written before the name is published.
struct Place {
    name: AtomicU64,
    index: AtomicUsize,
}

static NAMES: [Place; PLACES] = [const { Place { name: AtomicU64::new(0), index: AtomicUsize::new(0) } }; PLACES];

/// In the order of their indices. Its lock serialises the making of queues.
static MADE: Mutex<Vec<Atom>> = Mutex::new(Vec::new());

fn places(name: u64) -> impl Iterator<Item = &'static Place> {
    let start = spread(name, PLACES.ilog2());
    (0..PLACES).map(move |step| &NAMES[(start + step) % PLACES])
}

/// The queue of this name. A term that is no atom is no queue's name: atom words are unlike those of all other terms.
pub(crate) fn find(name: Term) -> Option<&'static Queue<Owner>> {
    find_word(Word::of(name))
}

#[inline]
pub(crate) fn find_word(name: Word) -> Option<&'static Queue<Owner>> {
    let word = name.bits();
    for place in places(word) {
        match place.name.load(Ordering::Acquire) {
            0 => return None,
            found if found == word => return REGISTRY.get(place.index.load(Ordering::Relaxed) as u32),
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

// Dirty: the first one starts the background thread and calibrates the clock.
#[rustler::nif(schedule = "DirtyCpu")]
fn open<'a>(env: Env<'a>, name: Atom, wanted: SettingsTerm) -> Term<'a> {
    let wanted = wanted.into();
    let mut made = MADE.lock();
    if let Some(queue) = find(name.to_term(env)) {
        drop(made);
        wake::from_process(env, queue.index(), queue.configure(wanted));
        queue.reopen();
        return atoms::found().encode(env);
    }
    let Ok(queue) = REGISTRY.create(wanted) else {
        return (atoms::error(), atoms::too_many_queues()).encode(env);
    };
    let word = Word::atom(name).bits();
    let free = places(word).find(|place| place.name.load(Ordering::Relaxed) == 0);
    // There are more places than queues.
    let Some(place) = free else { return (atoms::error(), atoms::too_many_queues()).encode(env) };
    place.index.store(queue.index() as usize, Ordering::Relaxed);
    place.name.store(word, Ordering::Release);
    made.push(name);
    atoms::created().encode(env)
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
