//! Opening the directory of a queue and bringing back what is in it, on a thread of its own: it may take seconds.

use super::journal::{Notes, unix_ms};
use super::{DURABLES, Durable, waiting};
use crate::custody::Owner;
use crate::queues;
use crate::settings::SettingsTerm;
use crate::{atoms, payload, wake};
use parking_lot::Mutex;
use payment_queue_core::{How, Queue, Restored, Settings};
use payment_queue_store::{Durability, Limits, Opening, Reason, Recovered, StorageError, Where};
use rustler::{Atom, Encoder, Env, Term};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

/// Names that are being opened, and who waits for them.
static OPENING: LazyLock<Mutex<HashMap<String, Vec<u64>>>> = LazyLock::new(Mutex::default);

/// Items between two reports of the progress.
const REPORT_EVERY: u64 = 100_000;

fn durability(mode: Atom) -> Durability {
    if mode == atoms::sync() { Durability::Sync } else { Durability::Async }
}

#[rustler::nif(schedule = "DirtyIo")]
fn open_durable<'a>(env: Env<'a>, name: Atom, text: String, wanted: SettingsTerm, dir: String, mode: Atom) -> Term<'a> {
    let (wanted, base) = (Settings::from(wanted), PathBuf::from(dir));
    let mut opening = OPENING.lock();
    if let Some(queue) = queues::find(name.to_term(env)) {
        drop(opening);
        return found(env, queue, wanted, &base, mode);
    }
    let token = waiting::add(env.pid());
    if let Some(others) = opening.get_mut(&text) {
        others.push(token);
        return (atoms::opening(), token).encode(env);
    }
    opening.insert(text.clone(), vec![token]);
    drop(opening);
    let order = Order { name, text: text.clone(), wanted, base, durability: durability(mode) };
    let builder = std::thread::Builder::new().name("payment_queue_open".into());
    if let Err(error) = builder.spawn(move || order.run()) {
        let error = StorageError::new(Reason::Failed, format!("no thread: {error}"));
        finish(&text, Err(&error));
    }
    (atoms::opening(), token).encode(env)
}

/// The queue is there from before: its store is open, and stays.
fn found<'a>(env: Env<'a>, queue: &Queue<Owner>, wanted: Settings, base: &Path, mode: Atom) -> Term<'a> {
    let Some(durable) = super::of(queue.index()) else { return (atoms::error(), atoms::none()).encode(env) };
    if durable.base != base {
        return (atoms::error(), atoms::dir(), durable.base.to_string_lossy().into_owned()).encode(env);
    }
    if let Some(store) = durable.store() {
        store.set_durability(durability(mode));
    }
    wake::from_process(env, queue.index(), queue.configure(wanted));
    queue.reopen();
    atoms::found().to_term(env)
}

fn finish(text: &str, result: Result<(), &StorageError>) {
    let waiting = OPENING.lock().remove(text).unwrap_or_default();
    for token in waiting {
        waiting::tell(token, atoms::opened(), result);
    }
}

fn report(text: &str, items: u64) {
    let tokens = OPENING.lock().get(text).cloned().unwrap_or_default();
    for token in tokens {
        waiting::report(token, atoms::recovering(), items);
    }
}

/// What is to be opened.
struct Order {
    name: Atom,
    text: String,
    wanted: Settings,
    base: PathBuf,
    durability: Durability,
}

impl Order {
    fn run(self) {
        let panicked = || StorageError::new(Reason::Failed, "opening panicked");
        let result = catch_unwind(AssertUnwindSafe(|| self.open())).unwrap_or_else(|_| Err(panicked()));
        finish(&self.text, result.as_ref().copied());
    }

    fn open(&self) -> Result<(), StorageError> {
        let mut opening = Opening::new(&self.base, &self.text)?;
        let too_many = || StorageError::new(Reason::Failed, "there are too many queues");
        let queue = queues::make(self.wanted).ok_or_else(too_many)?;
        let durable = DURABLES[queue.index() as usize].get_or_init(|| {
            Box::new(Durable { queue, base: self.base.clone(), store: OnceLock::new(), early: Mutex::default() })
        });
        queue.set_journal(Box::new(Notes(durable)));
        if let Err(error) = self.recover(&mut opening, queue) {
            // Nobody will ever find this queue: what it holds is given back.
            while queue.purge(usize::MAX).0 > 0 {}
            return Err(error);
        }
        let tell = |ticket, records, result: Result<(), &StorageError>| durable.tell(ticket, records, result);
        let store = opening.start(self.durability, Limits::default(), tell);
        let _ = durable.store.set(store);
        durable.catch_up();
        // Last: who finds the queue finds it whole.
        if !queues::name(self.name, queue) {
            return Err(too_many());
        }
        Ok(())
    }

    fn recover(&self, opening: &mut Opening, queue: &Queue<Owner>) -> Result<(), StorageError> {
        let mut items = 0;
        let mut damaged = None;
        opening.recover(&mut |recovered| {
            match How::from_bytes(recovered.item.extra) {
                Some(how) => restore(queue, recovered, how),
                None => damaged = Some(StorageError::new(Reason::Damaged, "what belongs to an item cannot be read")),
            }
            items += 1;
            if items % REPORT_EVERY == 0 {
                report(&self.text, items);
            }
        })?;
        // After the items, some of which hold keys of their own.
        let now = unix_ms();
        opening.recover_keys(&mut |until_unix_ms, key| {
            if until_unix_ms > now {
                queue.restore_key(key, until_unix_ms - now);
            }
        })?;
        damaged.map_or(Ok(()), Err)
    }
}

impl Durable {
    pub(super) fn store(&self) -> Option<&payment_queue_store::Store<super::Ticket>> {
        self.store.get()
    }
}

fn restore(queue: &Queue<Owner>, Recovered { item, place }: &Recovered<'_>, how: How) {
    let now = unix_ms();
    let place = match place {
        Where::Tail => Restored::Tail,
        Where::Head { attempts } => Restored::Head { attempts: *attempts, spent: payload::consumer_down() },
        Where::Scheduled { due_unix_ms, attempts, taken } => {
            // Due while nobody was there: as soon as possible.
            let delay_ms = due_unix_ms.saturating_sub(now);
            Restored::Scheduled { delay_ms, attempts: *attempts, taken: *taken }
        }
        Where::Dead { attempts, died_unix_ms, reason } => {
            let died_at = UNIX_EPOCH + Duration::from_millis(*died_unix_ms);
            Restored::Dead { attempts: *attempts, reason, died_at }
        }
    };
    queue.restore(item.body, item.format, now.saturating_sub(item.unix_ms), how, place);
}
