//! Services, packets and evictions by the fuzzer's choice, through the pipeline on the host.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    lb_common::testkit::fuzz::pipeline(data);
});
