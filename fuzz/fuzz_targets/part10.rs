//! Part 10 files.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("part10"), |bytes: &[u8]| {
    waystation_fuzz::heads::part10(bytes);
});
