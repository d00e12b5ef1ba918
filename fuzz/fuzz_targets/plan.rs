//! Stored edit plans.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("plan"), |bytes: &[u8]| {
    waystation_fuzz::heads::plan(bytes);
});
