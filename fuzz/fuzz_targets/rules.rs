//! Rules and their host functions.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("rules"), |bytes: &[u8]| {
    waystation_fuzz::sites::rules(bytes);
});
