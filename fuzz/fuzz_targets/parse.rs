//! Bytes as a packet of either family: what is taken for a flow is what another parser finds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    lb_common::testkit::fuzz::parse(data);
});
