//! Text as a file of the folder of manifests.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sluice::source::manifests::objects(&String::from_utf8_lossy(data));
});
