//! The spool's records and keys.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("records"), |bytes: &[u8]| {
    let _ = waystation::spool::probe::read_records(bytes);
});
