#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod atoms;
mod custody;
mod enqueue;
mod lease;
mod operate;
mod payload;
mod queues;
mod settle;
mod take;
mod wake;
mod word;

rustler::init!("Elixir.PaymentQueue.Native");
