//! A lease as a term: three small integers, so that passing it around costs next to nothing.
//!
//! `{queue << 32 | consumer, attempt << 32 | slot, generation}`. All fit into 59 bits, so none is a bignum.

use crate::vm::{self, Word};
use payment_queue_core::Lease;
use rustler::{Env, Error, NifResult, Term};

pub(crate) struct LeaseTerm {
    pub(crate) queue: u32,
    pub(crate) lease: Lease,
}

pub(crate) fn encode<'a>(env: Env<'a>, queue: u32, lease: Lease, attempts: u16) -> Word<'a> {
    let place = u64::from(queue) << 32 | u64::from(lease.consumer);
    let slot = u64::from(attempts) << 32 | u64::from(lease.slot);
    vm::tuple(env, &[Word::new(env, place), Word::new(env, slot), Word::new(env, lease.generation)])
}

/// `None`: it is no lease.
#[inline]
pub(crate) fn decode<'a>(env: Env<'a>, lease: Word<'a>) -> Option<LeaseTerm> {
    lease.term(env).decode().ok()
}

impl<'a> rustler::Decoder<'a> for LeaseTerm {
    #[inline]
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let (place, slot, generation): (u64, u64, u64) = term.decode()?;
        let queue = u32::try_from(place >> 32).map_err(|_| Error::BadArg)?;
        let lease = Lease { consumer: place as u32, slot: slot as u32, generation };
        Ok(Self { queue, lease })
    }
}
