//! Each thing that the hot path does with terms, once through rustler's safe interface and once through `vm.rs` of the NIF
//! crate, which is included here as it is. `bench/safety.exs` compares the two.

#![deny(unsafe_code)]

mod rustler_way;
#[path = "../../../native/payment_queue_nif/src/vm.rs"]
#[allow(dead_code)]
mod vm;
mod word_way;

/// What `vm.rs` asks of its crate.
mod atoms {
    rustler::atoms! { amount, correlation_id = "correlationId", error, nif_panicked, ok }
}

rustler::init!("Elixir.PaymentQueue.Bench.SafetyNif");
