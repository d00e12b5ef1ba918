//! Paths and templates.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("paths"), |bytes: &[u8]| {
    waystation_fuzz::sites::paths(bytes);
});
