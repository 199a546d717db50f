//! Keeps the library mapped for the life of the VM.
//!
//! Purging a NIF module closes its library, and the threads of the runtime would run on in code that is gone.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_UNIX").is_ok() && std::env::var("CARGO_CFG_TARGET_VENDOR").as_deref() != Ok("apple") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
