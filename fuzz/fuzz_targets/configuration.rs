//! Configuration files.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("configuration"), |bytes: &[u8]| {
    waystation_fuzz::sites::configuration(bytes);
});
