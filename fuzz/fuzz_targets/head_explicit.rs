//! Heads in explicit little endian.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("head_explicit"), |bytes: &[u8]| {
    waystation_fuzz::heads::scan(bytes, waystation_fuzz::heads::EXPLICIT);
});
