//! Through `vm.rs`.

use crate::atoms;
use crate::vm::{self, Word, hot_nif};
use rustler::{Binary, Env};

fn word_nothing<'a>(_env: Env<'a>, [first, _second]: [Word<'a>; 2]) -> Option<Word<'a>> {
    Some(first)
}
hot_nif!(word_nothing / 2);

fn word_read<'a>(env: Env<'a>, [map, _second]: [Word<'a>; 2]) -> Option<Word<'a>> {
    let mut sum = 0;
    let walked = vm::each_pair(env, map, |_, value| {
        let value = value.term(env);
        sum += match Binary::from_term(value) {
            Ok(bytes) => bytes.len() as i64,
            Err(_) => value.decode()?,
        };
        Ok::<(), rustler::Error>(())
    });
    walked?.ok()?;
    Some(Word::new(env, sum))
}
hot_nif!(word_read / 2);

fn word_write<'a>(env: Env<'a>, [id, amount]: [Word<'a>; 2]) -> Option<Word<'a>> {
    let id = vm::binary(env, &Binary::from_term(id.term(env)).ok()?);
    let amount: i64 = amount.term(env).decode().ok()?;
    let keys = [Word::atom(atoms::amount()), Word::atom(atoms::correlation_id())];
    let payment = vm::map(env, &keys, &[Word::new(env, amount), id])?;
    let lease = vm::tuple(env, &[Word::new(env, 1_u64), Word::new(env, 2_u64), Word::new(env, 3_u64)]);
    Some(vm::tuple(env, &[Word::atom(atoms::ok()), payment, lease]))
}
hot_nif!(word_write / 2);
