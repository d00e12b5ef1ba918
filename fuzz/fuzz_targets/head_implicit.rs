//! Heads in implicit little endian.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("head_implicit"), |bytes: &[u8]| {
    waystation_fuzz::heads::scan(bytes, waystation_fuzz::heads::IMPLICIT);
});
