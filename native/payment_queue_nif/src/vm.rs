//! The one place below rustler's safe interface, for the calls that every item makes.
//!
//! rustler allocates a vector of arguments per call and two per map, and hands terms around as three words that end in a single
//! byte, which the processor cannot read back as it was written (a store-forwarding stall at each move). Here a term is one
//! machine word. `bench/safety.exs` shows what rustler's way costs.
//!
//! What makes it sound: a [`Word`] has the lifetime of its environment, as rustler's `Term` has, and that lifetime is invariant and
//! belongs to one environment alone. So a word can only be used with the environment that it came from.

#![allow(unsafe_code)]

use crate::atoms;
use rustler::sys::{
    ErlNifEnv, ErlNifMapIterator, ErlNifMapIteratorEntry, ErlNifTerm, enif_get_tuple, enif_make_badarg,
    enif_make_map_from_arrays, enif_make_new_binary, enif_make_tuple_from_array, enif_map_iterator_create,
    enif_map_iterator_destroy, enif_map_iterator_get_pair, enif_map_iterator_next, enif_raise_exception,
};
use rustler::{Atom, Encoder, Env, Term};
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A term of the environment with this lifetime, in one machine word.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Word<'a>(ErlNifTerm, PhantomData<fn(&'a ()) -> &'a ()>);

impl<'a> Word<'a> {
    pub(crate) fn of(term: Term<'a>) -> Self {
        Self(term.as_c_arg(), PhantomData)
    }

    pub(crate) fn new(env: Env<'a>, value: impl Encoder) -> Self {
        Self::of(value.encode(env))
    }

    pub(crate) fn atom(atom: Atom) -> Self {
        // Of no environment, like every atom.
        Self(atom.as_c_arg(), PhantomData)
    }

    pub(crate) fn term(self, env: Env<'a>) -> Term<'a> {
        // SAFETY: the lifetime says that the word is of this environment.
        unsafe { Term::new(env, self.0) }
    }

    /// Equal for equal immediate terms (atoms, local pids), and theirs alone.
    pub(crate) fn bits(self) -> u64 {
        let mut catch = Catch::default();
        self.0.hash(&mut catch);
        catch.0
    }
}

/// rustler shows a term's bits only to a hasher.
#[derive(Default)]
struct Catch(u64);

impl Hasher for Catch {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn write_usize(&mut self, word: usize) {
        self.0 = word as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) fn tuple<'a>(env: Env<'a>, elements: &[Word<'a>]) -> Word<'a> {
    // SAFETY: the elements are that many terms of this environment, laid out as the VM's own.
    let word = unsafe { enif_make_tuple_from_array(env.as_c_arg(), elements.as_ptr().cast(), elements.len() as u32) };
    Word(word, PhantomData)
}

/// The elements of a tuple, where they lie. `None`: it is no tuple.
pub(crate) fn elements<'a>(env: Env<'a>, tuple: Word<'a>) -> Option<&'a [Word<'a>]> {
    let (mut arity, mut first) = (0, MaybeUninit::uninit());
    // SAFETY: both are written if the answer is not 0. The VM moves no term of an environment while that is in use.
    unsafe {
        if enif_get_tuple(env.as_c_arg(), tuple.0, &mut arity, first.as_mut_ptr()) == 0 {
            return None;
        }
        match usize::try_from(arity) {
            // The address of no element may be anything.
            Ok(0) | Err(_) => Some(&[]),
            Ok(arity) => Some(std::slice::from_raw_parts(first.assume_init().cast(), arity)),
        }
    }
}

/// `{:error, reason}`
pub(crate) fn error(env: Env, reason: Atom) -> Word {
    tuple(env, &[Word::atom(atoms::error()), Word::atom(reason)])
}

pub(crate) fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Word<'a> {
    let mut word = MaybeUninit::uninit();
    // SAFETY: the VM gives back a fresh binary of this length and its term, or ends itself for want of memory.
    unsafe {
        let content = enif_make_new_binary(env.as_c_arg(), bytes.len(), word.as_mut_ptr());
        content.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        Word(word.assume_init(), PhantomData)
    }
}

/// `None`: a key stands there twice.
pub(crate) fn map<'a>(env: Env<'a>, keys: &[Word<'a>], values: &[Word<'a>]) -> Option<Word<'a>> {
    assert_eq!(keys.len(), values.len());
    let mut word = MaybeUninit::uninit();
    // SAFETY: as many values as keys, all of this environment and laid out as the VM's own. The word is written if the answer
    // is not 0.
    unsafe {
        let (keys_at, values_at) = (keys.as_ptr().cast(), values.as_ptr().cast());
        let made = enif_make_map_from_arrays(env.as_c_arg(), keys_at, values_at, keys.len(), word.as_mut_ptr());
        (made != 0).then(|| Word(word.assume_init(), PhantomData))
    }
}

/// Calls `see` with each pair of a map, until it fails. `None`: it is no map.
pub(crate) fn each_pair<'a, E>(
    env: Env<'a>,
    map: Word<'a>,
    mut see: impl FnMut(Word<'a>, Word<'a>) -> Result<(), E>,
) -> Option<Result<(), E>> {
    let mut iterator = MaybeUninit::uninit();
    // SAFETY: the iterator is written if the answer is not 0.
    let mut iterator = unsafe {
        let head = ErlNifMapIteratorEntry::ERL_NIF_MAP_ITERATOR_HEAD;
        if enif_map_iterator_create(env.as_c_arg(), map.0, iterator.as_mut_ptr(), head) == 0 {
            return None;
        }
        Pairs { env: env.as_c_arg(), iterator: iterator.assume_init() }
    };
    Some(loop {
        let Some((key, value)) = iterator.pair() else { break Ok(()) };
        if let Err(error) = see(Word(key, PhantomData), Word(value, PhantomData)) {
            break Err(error);
        }
        iterator.advance();
    })
}

/// Destroys what the VM may have allocated, however the walk ends.
struct Pairs {
    env: *mut ErlNifEnv,
    iterator: ErlNifMapIterator,
}

impl Pairs {
    fn pair(&mut self) -> Option<(ErlNifTerm, ErlNifTerm)> {
        let (mut key, mut value) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the iterator is alive; both words are written if the answer is not 0.
        unsafe {
            let found =
                enif_map_iterator_get_pair(self.env, &mut self.iterator, key.as_mut_ptr(), value.as_mut_ptr()) != 0;
            found.then(|| (key.assume_init(), value.assume_init()))
        }
    }

    fn advance(&mut self) {
        // SAFETY: the iterator is alive.
        unsafe { enif_map_iterator_next(self.env, &mut self.iterator) };
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        // SAFETY: the iterator is alive, and nobody uses it after this.
        unsafe { enif_map_iterator_destroy(self.env, &mut self.iterator) };
    }
}

/// Runs a native function for the VM: no panic passes. `None` is `badarg`.
///
/// # Safety
/// `env` is a live environment of a calling process, and `arguments` points to `N` terms of it.
pub(crate) unsafe fn call<const N: usize>(
    env: *mut ErlNifEnv,
    arguments: *const ErlNifTerm,
    function: impl for<'a> FnOnce(Env<'a>, [Word<'a>; N]) -> Option<Word<'a>>,
) -> ErlNifTerm {
    let lifetime = ();
    // SAFETY: as the caller says; the lifetime is this call's own.
    let (env, arguments) = unsafe { (Env::new(&lifetime, env), *arguments.cast::<[Word; N]>()) };
    match catch_unwind(AssertUnwindSafe(|| function(env, arguments))) {
        Ok(Some(word)) => word.0,
        // SAFETY: the environment is alive.
        Ok(None) => unsafe { enif_make_badarg(env.as_c_arg()) },
        // SAFETY: the same. The name is rustler's.
        Err(_) => unsafe { enif_raise_exception(env.as_c_arg(), atoms::nif_panicked().as_c_arg()) },
    }
}

/// Makes `fn name<'a>(env: Env<'a>, arguments: [Word<'a>; N]) -> Option<Word<'a>>` a function of the NIF module.
macro_rules! hot_nif {
    ($name:ident / $arity:literal) => {
        const _: () = {
            #[allow(unsafe_code)]
            unsafe extern "C" fn entry(
                env: *mut rustler::sys::ErlNifEnv,
                _arity: rustler::codegen_runtime::c_int,
                arguments: *const rustler::sys::ErlNifTerm,
            ) -> rustler::sys::ErlNifTerm {
                // SAFETY: the VM calls with its environment and as many terms as the arity says.
                unsafe { crate::vm::call::<$arity>(env, arguments, $name) }
            }

            rustler::codegen_runtime::inventory::submit!(rustler::Nif {
                name: concat!(stringify!($name), "\0").as_ptr() as *const rustler::codegen_runtime::c_char,
                arity: $arity,
                flags: 0,
                raw_func: entry,
            });
        };
    };
}

pub(crate) use hot_nif;
