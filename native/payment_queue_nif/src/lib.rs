#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod atom_table;
mod atoms;
mod custody;
mod enqueue;
mod lease;
mod operate;
mod packed;
mod payload;
mod queues;
mod settle;
mod take;
mod wake;
mod word;

rustler::init!("Elixir.PaymentQueue.Native");
