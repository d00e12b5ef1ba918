//! What was deflated is inflated.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("inflate"), |bytes: &[u8]| {
    waystation_fuzz::heads::inflate(bytes);
});
