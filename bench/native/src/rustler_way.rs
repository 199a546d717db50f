//! Through rustler's safe interface alone.

use crate::atoms;
use rustler::types::map::MapIterator;
use rustler::{Binary, Encoder, Env, NewBinary, NifResult, Term};

#[rustler::nif]
fn rustler_nothing<'a>(first: Term<'a>, _second: Term<'a>) -> Term<'a> {
    first
}

/// The bytes and integers of a payment's fields, added up: what an encoder must look at.
#[rustler::nif]
fn rustler_read<'a>(map: Term<'a>, _second: Term<'a>) -> NifResult<i64> {
    let mut sum = 0;
    for (_, value) in MapIterator::new(map).ok_or(rustler::Error::BadArg)? {
        sum += match Binary::from_term(value) {
            Ok(bytes) => bytes.len() as i64,
            Err(_) => value.decode()?,
        };
    }
    Ok(sum)
}

/// `{:ok, payment, lease}`, as a take answers.
#[rustler::nif]
fn rustler_write<'a>(env: Env<'a>, id: Binary<'a>, amount: i64) -> NifResult<Term<'a>> {
    let id: Term = NewBinary::from_slice(env, &id).into();
    let keys = [atoms::amount().to_term(env), atoms::correlation_id().to_term(env)];
    let payment = Term::map_from_term_arrays(env, &keys, &[amount.encode(env), id])?;
    Ok((atoms::ok(), payment, (1_u64, 2_u64, 3_u64)).encode(env))
}
