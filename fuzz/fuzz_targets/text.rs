//! Character sets.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("text"), |bytes: &[u8]| {
    waystation_fuzz::heads::text(bytes);
});
