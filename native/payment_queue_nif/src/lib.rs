#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod atom_table;
mod atoms;
mod custody;
mod durable;
mod enqueue;
mod lease;
mod operate;
mod packed;
mod payload;
mod queues;
mod settings;
mod settle;
mod spread;
mod take;
mod vm;
mod wake;

rustler::init!("Elixir.PaymentQueue.Native");
